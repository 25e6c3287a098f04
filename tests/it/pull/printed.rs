//! What goes upstream is printed from what was judged: no body, no `Accept`, no `Connection`, no host and no length has
//! a registry act on, or tell others, something else.

use pullthrough::oci::MediaType;
use pullthrough::wire::Body;
use tokio::io::AsyncReadExt;

use super::judged::{at_the_door, audited, guarded, inside, status};
use super::private::{AUTH, EXAMPLE, Lab};
use super::{QUAY, layer, quay};
use crate::support::client::whole;
use crate::support::{MANIFEST, Plan, Registry, Setup, basic_value, eventually};

#[tokio::test]
async fn the_first_protocol_is_judged_like_the_second() {
    let (registry, proxy, folder) = guarded("push: deny").await;
    // The rules come first: it names no repository that they know.
    let asked = [
        ("PUT", "/v1/repositories/internal/app/", 403),
        ("PUT", "/v1/images/abc/layer", 403),
        ("DELETE", "/x/../v1/repositories/open/app", 403),
        ("GET", "/v1/repositories/internal/app/images", 403),
        ("HEAD", "//v1/images/abc/json", 403),
        ("PUT", "/artifactory/api/docker/team/v1/repositories/internal/app/", 403),
        ("GET", "/repository/docker/v1/images/abc/layer", 403),
    ];
    for (method, path, expected) in asked {
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: quay.io\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(status(&inside(&proxy, &request).await), expected, "{method} {path}");
    }
    assert_eq!(registry.requests().len(), 0);
    eventually("each is in the audit log", || audited(&folder, 403) == asked.len()).await;
    let open = Plan::new().registry(&registry, "push: deny").start().await;
    let push =
        "PUT /v1/repositories/open/app/ HTTP/1.1\r\nHost: quay.io\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!((status(&inside(&open, push).await), registry.requests().len()), (405, 0));
    // What is no registry protocol passes.
    let answer = inside(&proxy, "GET /v1/search?q=a HTTP/1.1\r\nHost: quay.io\r\nConnection: close\r\n\r\n").await;
    assert_eq!((status(&answer), registry.count("/v1/*")), (404, 1));
}

#[tokio::test]
async fn a_form_brings_no_mount_past_the_rules() {
    let (registry, proxy, folder) = guarded("push: allow").await;
    let digest = format!("sha256:{}", "0".repeat(64));
    let form = format!("mount={digest}&from=internal/app");
    let part =
        |name: &str, value: &str| format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let parts = format!("{}{}--X--\r\n", part("mount", &digest), part("from", "internal/app"));
    let types = [
        ("Content-Type: application/x-www-form-urlencoded", &form),
        ("Content-Type: Application/X-WWW-Form-Urlencoded; charset=utf-8", &form),
        ("content-type:\tapplication/x-www-form-urlencoded ;x", &form),
        ("Content-Type: application/octet-stream, application/x-www-form-urlencoded", &form),
        ("Content-Type: application/octet-stream\r\nContent-Type: application/x-www-form-urlencoded", &form),
        ("Content-Type: application/x-www-form-urlencoded\r\nContent-Type: application/octet-stream", &form),
        ("Content-Type: multipart/form-data; boundary=X", &parts),
        ("Content-Type: MULTIPART/form-data;boundary=\"X\"", &parts),
        ("Content-Type: multipart/mixed; boundary=X", &parts),
    ];
    let paths = [
        ("POST", "/v2/open/app/blobs/uploads/".to_owned()),
        ("POST", format!("/v2/open/app/blobs/uploads/?mount={digest}&from=open/app")),
        ("POST", "/artifactory/api/docker/open/v2/app/blobs/uploads/".to_owned()),
        ("PUT", format!("/v2/open/app/blobs/uploads/1?digest={digest}")),
        ("PATCH", "/v2/open/app/blobs/uploads/1".to_owned()),
        ("PUT", "/v2/open/app/manifests/latest".to_owned()),
    ];
    let mut refused = 0;
    for (kind, body) in types {
        for (method, path) in &paths {
            let head = format!("{method} {path} HTTP/1.1\r\nHost: quay.io\r\nConnection: close\r\n{kind}\r\n");
            let sized = inside(&proxy, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
            let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
            let chunked = inside(&proxy, &format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}")).await;
            assert!(matches!(status(&sized), 400 | 403), "{kind} {method} {path}: {sized}");
            assert!(matches!(status(&chunked), 400 | 403), "{kind} {method} {path}: {chunked}");
            refused += 2;
        }
    }
    assert_eq!(registry.requests().len(), 0);
    eventually("each is in the audit log", || audited(&folder, 400) + audited(&folder, 403) == refused).await;
    // What clients send passes: bytes, with a type or without, and nothing, whatever its type.
    let mut session = proxy.client().session(QUAY).await;
    let upload = "/v2/open/app/blobs/uploads/";
    for (fields, body) in [
        (vec![("content-type", "application/octet-stream")], "abc"),
        (vec![], "abc"),
        (vec![("content-type", "application/x-www-form-urlencoded")], ""),
    ] {
        let answer = session.send("POST", upload, &fields, Body::full(body)).await.unwrap();
        assert_eq!(whole(answer).await.status, 202, "{fields:?}");
    }
}

#[tokio::test]
async fn all_who_share_a_tags_answer_have_asked_the_same_question() {
    let (registry, proxy) = quay().await;
    registry.push_image("open/app", "latest", &[layer(1000, 2)]);
    let [list, manifest, index] =
        [MediaType::DockerList, MediaType::DockerManifest, MediaType::OciIndex].map(MediaType::as_str);
    let (both, odd) = (format!("{list}, {manifest}"), format!("{list}, x/ÿ"));
    let example = format!("{manifest}, application/vnd.example+json");
    let table: [(&[&str], &str); 10] = [
        (&[&both], &both),
        (&[&format!("{manifest};q=0.5 , {list}; q=0.1")], &both),
        (&[manifest, &odd], &both),
        (&[&format!("{manifest}, {list};x")], &both),
        (&[&format!("{manifest}, {list};q=0, {index};Q=0.000")], manifest),
        (&[&format!("application/vnd.example+json, {manifest}, text/html")], &example),
        (&[&format!("{manifest};q=0, {list};q=0")], "application/json"),
        (&["text/html"], "application/json"),
        (&[], "*/*"),
        (&["*/*;q=0.1", "text/html"], "*/*"),
    ];
    for (number, (accepts, sent)) in table.iter().enumerate() {
        registry.forget();
        let path = format!("/v2/open/app{number}/manifests/latest"); // nobody was told of it before
        let fields: Vec<_> = accepts.iter().map(|accept| ("accept", *accept)).collect();
        let mut session = proxy.client().session(QUAY).await;
        session.ask("GET", &path, &fields).await;
        session.ask("HEAD", &path, &fields).await;
        let asked = registry.requests().into_iter().filter(|seen| seen.path == path);
        let said: Vec<Vec<_>> = asked.map(|seen| seen.headers.get_all("accept").iter().cloned().collect()).collect();
        assert!(!said.is_empty() && said.iter().all(|said| said == &[*sent]), "{accepts:?}: {said:?}");
    }
}

#[tokio::test]
async fn connection_takes_nothing_off_that_was_judged() {
    let lab = Lab::new("").await;
    let basic = basic_value("alice", "secret-a");
    for named in ["authorization", "close, Authorization", "x-hop ,AUTHORIZATION", "host", "accept", "content-length"] {
        let request = format!(
            "GET /token?service=lab&scope=repository:team/app:pull HTTP/1.1\r\nHost: auth.example.com\r\n\
             Authorization: {basic}\r\nConnection: {named}\r\n\r\n"
        );
        for (host, name) in [(AUTH, "auth.example.com"), (EXAMPLE, EXAMPLE.trim_end_matches(":443"))] {
            let stream = lab.proxy.client().tls(host).await.unwrap();
            let answer = super::judged::raw(stream, &request.replace("auth.example.com", name)).await;
            assert_eq!(status(&answer), 400, "{named} at {host}: {answer}");
        }
    }
    assert_eq!((lab.auth.requests().len(), lab.registry.requests().len()), (0, 0));
}

#[tokio::test]
async fn at_a_token_services_host_push_and_rules_hold_as_at_the_registrys() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, auth) = (Registry::start("quay.io"), Registry::start("auth.example.com"));
    auth.push_image("internal/app", "latest", &[layer(1000, 1)]);
    auth.push_image("open/app", "latest", &[layer(1000, 2)]);
    let audit = folder.path().join("audit.log").display().to_string();
    let rule = "{name: no-internal, effect: deny, repositories: ['internal/*']}";
    let plan = Plan::new().registry(&registry, "token_hosts: [auth.example.com]").host("auth.example.com", &auth);
    let proxy = plan.clients(&format!("audit: '{audit}', rules: [{rule}]")).start().await;
    let mut session = proxy.client().session(AUTH).await;
    let table = [
        ("PUT", "/v2/open/app/manifests/latest", 405),
        ("DELETE", "/v2/open/app/manifests/latest", 405),
        ("POST", "/v2/open/app/blobs/uploads/", 405),
        ("PATCH", "/v2/x", 403), // names no repository
        ("PUT", "/v2/token", 403),
        ("PUT", "/artifactory/api/docker/open/v2/app/manifests/latest", 403),
        ("DELETE", "/v2/internal/app/manifests/latest", 403),
        ("GET", "/v2/internal/app/manifests/latest", 403),
        ("HEAD", "/v2/internal/app/tags/list", 403),
        ("GET", "/v2/_catalog", 403),
    ];
    for (method, path, expected) in table {
        assert_eq!(session.ask(method, path, &[]).await.status, expected, "{method} {path}");
    }
    assert_eq!(auth.requests().len() + registry.requests().len(), 0);
    eventually("each is in the audit log", || audited(&folder, 403) == 7 && audited(&folder, 405) == 3).await;
    // What it is there for goes on, by whatever path.
    for path in ["/token?service=x", "/auth", "/v2/token", "/v2/auth?x=y", "/artifactory/api/docker/open/v2/token"] {
        for method in ["GET", "POST"] {
            session.ask(method, path, &[]).await;
            let seen = auth.requests().pop().unwrap();
            assert_eq!((seen.method.as_str(), seen.path.as_str()), (method, path.split('?').next().unwrap()));
        }
    }
    // A registry that stands there is another one: it is asked itself, and nothing of it is kept for this one.
    for _ in 0..2 {
        assert_eq!(session.get("/v2/open/app/manifests/latest").await.status, 200);
    }
    assert_eq!((auth.count("GET /v2/open/app/manifests/latest"), registry.requests().len()), (2, 0));
}

#[tokio::test]
async fn a_registry_is_reached_by_no_other_port_and_in_no_tunnel_to_another_host() {
    let (registry, other) = (Registry::start("quay.io"), Registry::start("example.com"));
    registry.push_image("internal/app", "latest", &[layer(1000, 1)]);
    other.push_manifest("a", Some("1"), MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    let at = registry.address();
    let plan = Plan::new().registry(&registry, "token_hosts: [auth.example.com]").host("example.com", &other);
    let folder = tempfile::tempdir().unwrap();
    let audit = format!("audit: '{}'", folder.path().join("audit.log").display());
    let proxy = plan.tunnel(&format!("allow: ['{at}']")).clients(&audit).start().await;
    for host in ["quay.io", "auth.example.com"] {
        let request = format!("PUT http://{host}/v2/open/app/manifests/x HTTP/1.1\r\nHost: {host}\r\n");
        let answer = at_the_door(&proxy, &format!("{request}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}")).await;
        assert!(status(&answer) == 403 && answer.contains("https"), "{answer}");
        let refusal = proxy.client().tunnel(&format!("{host}:80")).await.unwrap_err();
        assert!(refusal.status == 403 && refusal.text.contains("port 443"), "{}", refusal.text);
    }
    for name in ["quay.io", "auth.example.com"] {
        let client = proxy.client().trusting(&registry.ca_file());
        let failed = client.tls_as(&at.to_string(), name).await.unwrap_err();
        assert!(failed.to_string().contains("UnrecognisedName"), "{failed}");
    }
    eventually("each is in the audit log", || audited(&folder, 421) == 2).await;
    eventually("its connection ends", || registry.open_connections() == 0).await;
    assert_eq!(registry.requests().len(), 0);
    // Another host's name, and what is no TLS, pass there.
    let mut through = proxy.client().trusting(&other.ca_file()).session("example.com:443").await;
    assert_eq!(through.get("/v2/a/manifests/1").await.status, 200);
    let mut plain = proxy.client().tunnel(&at.to_string()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut plain, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.first(), Some(&21), "an alert of the registry's own: {answer:?}");
}

#[tokio::test]
async fn no_field_names_another_request_with_an_underscore() {
    let (registry, proxy) = quay().await;
    registry.push_image("open/app", "latest", &[layer(1000, 2)]);
    let names = [
        "x_http_method_override",
        "x_original_url",
        "content_length",
        "transfer_encoding",
        "x-envoy-original-path",
        "x-forwarded-path",
        "x-forwarded-method",
        "x-forwarded-uri",
    ];
    let fields = names.map(|name| (name, "/v2/internal/app/tags/list"));
    let mut session = proxy.client().session(QUAY).await;
    for path in ["/v2/", "/v2/open/app/tags/list", "/v2/_catalog", "/page"] {
        session.ask("GET", path, &fields).await;
        let seen = registry.requests().pop().unwrap();
        assert_eq!(seen.path, path);
        let found: Vec<_> = names.iter().filter(|name| seen.headers.contains_key(**name)).collect();
        assert!(found.is_empty(), "{path}: {found:?}");
    }
}

#[tokio::test]
async fn what_frames_an_empty_body_of_a_read_frames_none_on_http1() {
    let registry = Registry::with(Setup { h2: false, ..Setup::named("quay.io") });
    registry.push_image("open/app", "latest", &[layer(1000, 2)]);
    let proxy = Plan::new().registry(&registry, "").start().await;
    for path in ["/v2/", "/v2/open/app/tags/list", "/v2/_catalog", "/v2/auth?service=x", "/page"] {
        for method in ["GET", "HEAD"] {
            let head = format!("{method} {path} HTTP/1.1\r\nHost: quay.io\r\nConnection: close\r\n");
            inside(&proxy, &format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")).await;
            let seen = registry.requests().pop().unwrap();
            assert_eq!((seen.method.as_str(), Some(seen.path.as_str())), (method, path.split('?').next()));
            for field in ["transfer-encoding", "content-length"] {
                assert!(!seen.headers.contains_key(field), "{method} {path}: {:?}", seen.headers);
            }
        }
    }
}

#[tokio::test]
async fn what_ends_a_connection_that_others_share_is_refused_here() {
    let (registry, proxy) = quay().await;
    registry.push_image("open/app", "latest", &[layer(1000, 2)]);
    let list = "/v2/open/app/tags/list";
    let (long, longer, token) = ("x".repeat(9_000), "x".repeat(17_000), "x".repeat(7_000));
    for h2 in [false, true] {
        let client = if h2 { proxy.client().h2() } else { proxy.client() };
        let refused: [(&str, &[(&str, &str)], u16); 5] = [
            (list, &[("x-long", &long)], 431),
            (list, &[("authorization", &longer)], 431),
            (list, &[("cookie", &long[..5000]), ("cookie", &long[..5000])], 431),
            (&format!("{list}?x={}", &long[..4_100]), &[], 414),
            (&format!("/v2/auth?scope={long}"), &[], 414),
        ];
        for (path, fields, expected) in refused {
            let answer = client.session(QUAY).await.ask("GET", path, fields).await;
            assert_eq!(answer.status, expected, "h2 {h2}: {}", &path[..20]);
        }
    }
    assert_eq!(registry.requests().len(), 0);
    // HTTP/1.1 takes no more than 128 fields either.
    let fields: Vec<(String, String)> = (0..400).map(|number| (format!("x-{number}"), "1".to_owned())).collect();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (count, expected) in [(128, 200), (129, 431), (400, 431)] {
        let mut session = proxy.client().h2().session(QUAY).await;
        assert_eq!(session.ask("GET", list, &fields[..count]).await.status, expected, "{count}");
    }
    let passed: [(&str, &[(&str, &str)]); 2] =
        [(list, &[("authorization", &long)]), (&format!("/v2/auth?x={token}"), &[])];
    for (path, fields) in passed {
        let before = registry.requests().len();
        proxy.client().session(QUAY).await.ask("GET", path, fields).await;
        assert!(registry.requests().len() > before, "{}", &path[..8]);
    }
}

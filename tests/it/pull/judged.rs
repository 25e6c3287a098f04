//! What is judged is what is sent: no spelling, no framing and no field makes a registry read another request than
//! the proxy did.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{QUAY, layer, quay};
use crate::support::{MANIFEST, Plan, Proxy, Registry, eventually};

/// Writes bytes as they are and reads the answers until the connection ends or nothing more comes.
pub(super) async fn raw(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str) -> String {
    let _ = stream.write_all(text.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

pub(super) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

pub(super) async fn inside(proxy: &Proxy, text: &str) -> String {
    raw(proxy.client().tls(QUAY).await.unwrap(), text).await
}

pub(super) async fn at_the_door(proxy: &Proxy, text: &str) -> String {
    raw(TcpStream::connect(proxy.address()).await.unwrap(), text).await
}

/// A registry with a public and an internal repository, a rule against the internal one, and an audit log.
pub(super) async fn guarded(push: &str) -> (Registry, Proxy, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start("quay.io");
    registry.push_image("internal/app", "latest", &[layer(1000, 1)]);
    registry.push_image("open/app", "latest", &[layer(1000, 2)]);
    let audit = folder.path().join("audit.log").display().to_string();
    let rule = "{name: no-internal, effect: deny, repositories: ['internal/*']}";
    let clients = format!("audit: '{audit}', rules: [{rule}]");
    let proxy = Plan::new().registry(&registry, push).clients(&clients).start().await;
    (registry, proxy, folder)
}

/// Lines of the audit log with this status.
pub(super) fn audited(folder: &tempfile::TempDir, status: u16) -> usize {
    let text = std::fs::read_to_string(folder.path().join("audit.log")).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["status"] == status && line["outcome"] == "refused").count()
}

#[tokio::test]
async fn a_read_with_a_body_is_refused_and_never_eats_the_next_request() {
    let (registry, proxy) = quay().await;
    registry.push_manifest("team/app", Some("latest"), MANIFEST, "{\"schemaVersion\":2,\"victim\":true}");
    registry.push_manifest("evil/app", Some("latest"), MANIFEST, "{\"schemaVersion\":2,\"evil\":true}");
    let digest = format!("sha256:{}", "0".repeat(64));
    let smuggled = "GET /v2/evil/app/manifests/latest HTTP/1.1\r\nHost: quay.io\r\n\r\n";
    let length = smuggled.len();
    let framings = [
        format!("Content-Length: {length}\r\n\r\n"),
        format!("Content-Length: {length}\r\n\r\n{smuggled}"),
        format!("Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"),
        format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{smuggled}\r\n0\r\n\r\n"),
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{smuggled}\r\n0\r\n\r\n"),
        format!("Connection: Content-Length\r\nContent-Length: {length}\r\n\r\n"),
    ];
    let paths = [
        "/v2/".to_owned(),
        "/v2/open/app/tags/list".to_owned(),
        format!("/v2/open/app/referrers/{digest}"),
        "/v2/open/app/manifests/latest".to_owned(),
        format!("/v2/open/app/blobs/{digest}"),
        "/v2/open/app/blobs/uploads/1".to_owned(),
        "/v2/_catalog".to_owned(),
        "/v2/auth?service=x".to_owned(),
        "/v2/_pullthrough/token".to_owned(),
        "/page".to_owned(),
    ];
    for path in &paths {
        for method in ["GET", "HEAD"] {
            for framing in &framings {
                let answer = inside(&proxy, &format!("{method} {path} HTTP/1.1\r\nHost: quay.io\r\n{framing}")).await;
                assert_eq!(status(&answer), 400, "{method} {path} {framing:?}: {answer}");
                assert!(!answer.contains("evil"), "{answer}");
            }
        }
    }
    assert_eq!(registry.requests().len(), 0);
    // HTTP/2 ends a stream apart from its head.
    let mut session = proxy.client().h2().session(QUAY).await;
    let body = || pullthrough::wire::Body::full("GET /v2/evil/app/manifests/latest HTTP/1.1\r\n\r\n");
    for path in &paths {
        let answer = session.send("GET", path, &[], body()).await.unwrap();
        assert_eq!(answer.status(), 400, "{path}");
    }
    assert_eq!(registry.requests().len(), 0);
    let victim = proxy.client().get(QUAY, "/v2/team/app/manifests/latest").await;
    assert!(String::from_utf8_lossy(victim.bytes()).contains("victim"));
}

#[tokio::test]
async fn an_empty_body_is_no_body_and_framing_fields_go_nowhere() {
    let (registry, proxy) = quay().await;
    registry.push_image("open/app", "latest", &[layer(1000, 2)]);
    for framing in ["Content-Length: 0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
        let request = "GET /v2/open/app/tags/list HTTP/1.1\r\nHost: quay.io\r\nConnection: close\r\n";
        let answer = inside(&proxy, &format!("{request}{framing}")).await;
        assert_eq!(status(&answer), 200, "{framing:?}: {answer}");
    }
    for seen in registry.requests() {
        for field in ["content-length", "transfer-encoding", "expect", "connection"] {
            assert!(!seen.headers.contains_key(field), "{field} in {:?}", seen.headers);
        }
    }
    assert_eq!(registry.count("GET /v2/open/app/tags/list"), 2);
}

#[tokio::test]
async fn no_spelling_of_a_push_passes_push_deny() {
    let (registry, proxy, folder) = guarded("").await;
    let paths = [
        "/v2/open/app/manifests/latest",
        "/v2/open/app/blobs/uploads/",
        "/v2/open/app/blobs/uploads",
        "/v2/open/app/blobs/uploads/1",
        "/v2/OPEN/app/manifests/latest",
        "/v2/_catalog",
        "/v2/",
        "/v2",
        "/V2/open/app/manifests/latest",
        "/%762/open/app/manifests/latest",
        "/v%32/open/app/manifests/latest",
        "/%2576%32/open/app/manifests/latest",
        "//v2/open/app/manifests/latest",
        "/./v2/open/app/manifests/latest",
        "/x/../v2/open/app/manifests/latest",
        "/x%2f..%2fv2/open/app/manifests/latest",
        "/v2;a=b/open/app/manifests/latest",
        "/v2//open/app/manifests/latest",
        "/v2/open%2Fapp/manifests/latest",
        "/v2/open/app/manifest%73/latest",
        "/artifactory/api/docker/open/v2/app/manifests/latest",
        "/v2/token",
    ];
    let mut refused = 0;
    for path in paths {
        for method in ["PUT", "POST", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
            if (path, method) == ("/v2/token", "POST") {
                continue; // asks for a token
            }
            let head = format!("{method} {path} HTTP/1.1\r\nHost: quay.io\r\nConnection: close\r\n");
            let answer = inside(&proxy, &format!("{head}Content-Length: 2\r\n\r\n{{}}")).await;
            let status = status(&answer);
            assert!(matches!(status, 400 | 403 | 405), "{method} {path}: {answer}");
            refused += 1;
        }
    }
    assert_eq!(registry.requests().len(), 0);
    eventually("each is in the audit log", || {
        [400, 403, 405].into_iter().map(|status| audited(&folder, status)).sum::<usize>() == refused
    })
    .await;
}

#[tokio::test]
async fn no_spelling_of_a_refused_repository_passes_the_rules() {
    let (registry, proxy, folder) = guarded("").await;
    let hex = "0".repeat(64);
    let paths = [
        ("/v2/internal/app/manifests/latest".to_owned(), 403),
        ("/v2/internal/app/tags/list".to_owned(), 403),
        ("/v2/internal/app/tags/list/".to_owned(), 403),
        ("/v2/internal/app/manifests/".to_owned(), 403),
        ("/v2/Internal/App/manifests/latest".to_owned(), 403),
        ("/v2/internal/app/blobs/md5:00".to_owned(), 403),
        ("/v2/_catalog".to_owned(), 403),
        ("/v2/_catalog?n=5".to_owned(), 403),
        ("/artifactory/api/docker/internal/v2/app/manifests/latest".to_owned(), 403),
        ("/V2/internal/app/manifests/latest".to_owned(), 403),
        ("/v2/%69nternal/app/manifests/latest".to_owned(), 400),
        ("/v2/internal%2Fapp/manifests/latest".to_owned(), 400),
        ("/v2/internal%2fapp/tags/list".to_owned(), 400),
        ("/v2/internal/app/manifest%73/latest".to_owned(), 400),
        (format!("/v2/internal/app/manifests/sha256%3A{hex}"), 400),
        (format!("/v2/internal/app/blobs/sha256%3a{hex}"), 400),
        ("/v2/open/../internal/app/manifests/latest".to_owned(), 400),
        ("/v2/./internal/app/manifests/latest".to_owned(), 400),
        ("/v2//internal/app/manifests/latest".to_owned(), 400),
        ("/v2/internal/app/manifests/latest%00".to_owned(), 400),
        ("/v2/internal;x/app/manifests/latest".to_owned(), 400),
        ("/v2/internal\\app/manifests/latest".to_owned(), 400),
        ("/%762/internal/app/manifests/latest".to_owned(), 400),
    ];
    for (path, expected) in &paths {
        for method in ["GET", "HEAD"] {
            let answer =
                inside(&proxy, &format!("{method} {path} HTTP/1.1\r\nHost: quay.io\r\nConnection: close\r\n\r\n"))
                    .await;
            assert_eq!(status(&answer), *expected, "{method} {path}: {answer}");
        }
    }
    assert_eq!(registry.requests().len(), 0);
    let of = |status: u16| paths.iter().filter(|(_, expected)| *expected == status).count() * 2;
    eventually("each is in the audit log", || audited(&folder, 403) == of(403) && audited(&folder, 400) == of(400))
        .await;
    let allowed = proxy.client().get(QUAY, "/v2/open/app/manifests/latest").await;
    assert_eq!(allowed.status, 200);
}

#[tokio::test]
async fn no_spelling_of_a_mounts_source_passes_the_rules() {
    let (registry, proxy, folder) = guarded("push: allow").await;
    let digest = format!("sha256:{}", "0".repeat(64));
    let queries = [
        (format!("mount={digest}&from=internal/app"), 403),
        (format!("mount={digest}&from=internal%2fapp"), 403),
        (format!("mount={digest}&from=%69nternal/app"), 403),
        (format!("mount={digest}&%66rom=internal/app"), 403),
        (format!("mount={digest}&from=internal%2fap%70"), 403),
        (format!("mount={digest}"), 403), // from wherever the registry finds it
        (format!("mount={digest}&from=open/app&from=internal/app"), 400),
        (format!("mount={digest}&From=internal/app"), 400),
        (format!("mount={digest}&from=open/app%00internal/app"), 400),
        (format!("mount={digest}&from=..%2finternal/app"), 400),
        (format!("mount={digest}&from=%zz"), 400),
    ];
    for (query, expected) in &queries {
        let answer = proxy.client().session(QUAY).await;
        let answer = { answer }.ask("POST", &format!("/v2/open/app/blobs/uploads/?{query}"), &[]).await;
        assert_eq!(answer.status, *expected, "{query}");
    }
    assert_eq!(registry.requests().len(), 0);
    eventually("each is in the audit log", || audited(&folder, 403) == 6 && audited(&folder, 400) == 5).await;
    let path = format!("/v2/open/app/blobs/uploads/?mount={digest}&from=open%2Fother");
    proxy.client().session(QUAY).await.ask("POST", &path, &[]).await;
    let seen = registry.requests().pop().unwrap();
    assert_eq!(seen.query, format!("mount={digest}&from=open%2Fother"));
    assert_eq!(seen.headers["content-length"], "0", "a registry may insist on a length");
}

#[tokio::test]
async fn a_request_that_says_its_host_or_its_credentials_twice_is_refused() {
    let (registry, proxy) = quay().await;
    let table = [
        ("GET /v2/ HTTP/1.1\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nHost: quay.io\r\nHost: quay.io\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nHost: quay.io\r\nHost: evil.example\r\n\r\n", 400),
        ("GET https://quay.io/v2/ HTTP/1.1\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        ("GET /v2/ HTTP/1.1\r\nHost: quay.io\r\nAuthorization: Basic YTpi\r\nAuthorization: Basic Yzpk\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: quay.io\r\n\r\n", 400),
        ("CONNECT quay.io:443 HTTP/1.1\r\nHost: quay.io:443\r\n\r\n", 405),
        ("TRACE /v2/ HTTP/1.1\r\nHost: quay.io\r\n\r\n", 405),
    ];
    for (request, expected) in table {
        let answer = inside(&proxy, &request.replacen("\r\n", "\r\nConnection: close\r\n", 1)).await;
        assert_eq!(status(&answer), expected, "{request:?}: {answer}");
        assert!(expected == 421 || answer.contains("\"errors\""), "{answer}");
    }
    assert_eq!(registry.requests().len(), 0);
}

#[tokio::test]
async fn the_door_takes_each_form_of_a_request_only_as_it_is_defined() {
    let (_registry, proxy) = quay().await;
    let table = [
        ("CONNECT https://quay.io/ HTTP/1.1\r\nHost: quay.io\r\n\r\n", 400),
        ("CONNECT quay.io HTTP/1.1\r\nHost: quay.io\r\n\r\n", 400),
        ("CONNECT quay.io:443 HTTP/1.1\r\nHost: quay.io:443\r\nHost: quay.io:443\r\n\r\n", 400),
        ("CONNECT quay.io:443 HTTP/1.1\r\n\r\n", 400),
        ("CONNECT quay.io:443 HTTP/1.1\r\nHost: quay.io:443\r\nContent-Length: 5\r\n\r\n", 400),
        ("GET http://user:password@one@two.example/ HTTP/1.1\r\nHost: two.example\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /healthz HTTP/1.0\r\n\r\n", 200),
    ];
    for (request, expected) in table {
        let answer = at_the_door(&proxy, &request.replacen("\r\n", "\r\nConnection: close\r\n", 1)).await;
        assert_eq!(status(&answer), expected, "{request:?}: {answer}");
    }
}

#[tokio::test]
async fn fields_that_ask_for_another_request_go_nowhere_and_cookies_are_one_field() {
    let (registry, proxy) = quay().await;
    registry.push_image("open/app", "latest", &[layer(1000, 2)]);
    let fields = [
        ("x-http-method-override", "DELETE"),
        ("x-original-url", "/v2/internal/app/tags/list"),
        ("x-rewrite-url", "/v2/internal/app/tags/list"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "host=evil.example"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
    ];
    let mut session = proxy.client().h2().session(QUAY).await;
    for path in ["/v2/", "/v2/open/app/tags/list", "/v2/_catalog", "/page"] {
        session.ask("GET", path, &fields).await;
        let seen = registry.requests().pop().unwrap();
        assert_eq!(seen.path, path);
        for (name, _) in &fields[..5] {
            assert!(!seen.headers.contains_key(*name), "{path}: {name}");
        }
        let cookies: Vec<_> = seen.headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2"], "{path}");
    }
}

#[tokio::test]
async fn head_heeds_the_condition_that_get_heeds() {
    let (registry, proxy) = quay().await;
    let image = registry.push_image("open/app", "latest", &[layer(1000, 2)]);
    let mut session = proxy.client().session(QUAY).await;
    let (manifest, blob) = (image.digest, image.layers[0]);
    let paths = [
        ("/v2/open/app/manifests/latest".to_owned(), manifest),
        (format!("/v2/open/app/manifests/{manifest}"), manifest),
        (format!("/v2/open/app/blobs/{blob}"), blob),
    ];
    for warm in [false, true] {
        for (path, digest) in &paths {
            let tag = format!("\"{digest}\"");
            let same = session.ask("HEAD", path, &[("if-none-match", &tag)]).await;
            assert_eq!((same.status.as_u16(), same.header("etag")), (304, tag.as_str()), "{path}, warm {warm}");
            let other = session.ask("HEAD", path, &[("if-none-match", "\"other\"")]).await;
            assert_eq!(other.status, 200, "{path}, warm {warm}");
            assert_eq!(session.get(path).await.status, 200);
        }
    }
}

#[tokio::test]
async fn a_plain_http_request_is_framed_anew_by_the_body_that_it_has() {
    let (origin, registry) = (Registry::plain("plain.example"), Registry::start("quay.io"));
    let at = origin.address();
    let tunnel = format!("allow: ['{at}']");
    let proxy = Plan::new().registry(&registry, "").tunnel(&tunnel).start().await;
    let smuggled = "GET /evil HTTP/1.1\r\nHost: x\r\n\r\n";
    let framings = [
        (format!("Content-Length: {}\r\n\r\n{smuggled}", smuggled.len()), "content-length"),
        (
            format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len()),
            "transfer-encoding",
        ),
        ("Content-Length: 0\r\n\r\n".to_owned(), ""),
    ];
    for method in ["GET", "HEAD", "POST", "DELETE"] {
        for (framing, field) in &framings {
            let head = format!("{method} http://{at}/page HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n");
            let answer = at_the_door(&proxy, &format!("{head}{framing}")).await;
            assert_ne!(status(&answer), 0, "{method} {framing:?}");
            let seen = origin.requests().pop().unwrap();
            assert_eq!((seen.method.as_str(), seen.path.as_str()), (method, "/page"), "{framing:?}");
            assert!(field.is_empty() || seen.headers.contains_key(*field), "{method} {framing:?}: {:?}", seen.headers);
        }
    }
    assert_eq!((origin.count("GET /evil"), origin.requests().len()), (0, 12));
}

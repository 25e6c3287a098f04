//! Answers that registries and token services give in shapes of their own: a pull that works directly works through us.

use pullthrough::oci::{Algorithm, Digest};

use super::{get, layer};
use crate::support::{Act, Image, MANIFEST, Plan, Proxy, Registry};

const EXAMPLE: &str = "registry.example.com:443";
const ACME: &str = "application/vnd.acme.model.manifest.v1+json";

fn registry() -> (Registry, Image) {
    let registry = Registry::start("registry.example.com");
    let image = registry.push_image("team/app", "1", &[layer(1000, 1)]);
    (registry, image)
}

/// Demands the token `t` with these challenges, one field each, and answers this where it is to be had.
fn guard(registry: &Registry, challenges: &[&str], answer: &str) {
    let headers = challenges.iter().map(|challenge| ("www-authenticate".to_owned(), (*challenge).to_owned()));
    let refusal = Act::Answer { status: 401, headers: headers.collect(), body: String::new() };
    registry.script("/v2/*", Act::Unless("Bearer t".to_owned(), Box::new(refusal)));
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    registry.script("/token", Act::Answer { status: 200, headers, body: answer.to_owned() });
}

async fn asking_itself(registry: &Registry) -> Proxy {
    Plan::new().registry(registry, "auth: anonymous, tags: {fresh_for: 1h}").start().await
}

async fn pull(proxy: &Proxy, image: &Image) -> [u16; 2] {
    let mut session = proxy.client().session(EXAMPLE).await;
    let manifest = session.get("/v2/team/app/manifests/1").await.status.as_u16();
    [manifest, session.get(&format!("/v2/team/app/blobs/{}", image.layers[0])).await.status.as_u16()]
}

#[tokio::test]
async fn a_token_is_used_whatever_is_said_of_its_life() {
    let realm = r#"Bearer realm="https://registry.example.com/token",service="lab""#;
    for answer in [
        r#"{"token": "t", "expires_in": "300"}"#,
        r#"{"token": "t", "expires_in": "soon"}"#,
        r#"{"token": "t", "expires_in": null}"#,
        r#"{"token": "t", "expires_in": 300.5}"#,
        r#"{"token": "t", "expires_in": -1}"#,
        r#"{"token": "t", "expires_in": {}, "issued_at": 5}"#,
        r#"{"token": "", "access_token": "t", "issued_at": "yesterday"}"#,
        r#"{"token": null, "access_token": "t"}"#,
        r#"{"access_token": "", "token": "t"}"#,
    ] {
        let (registry, image) = registry();
        guard(&registry, &[realm], answer);
        let proxy = asking_itself(&registry).await;
        assert_eq!(pull(&proxy, &image).await, [200, 200], "{answer}");
        assert_eq!(registry.count("GET /token"), 1, "{answer}");
        // A client that gets its own token here has it bound, too: its next pull costs the registry nothing.
        let (registry, image) = self::registry();
        guard(&registry, &[realm], answer);
        let proxy = Plan::new().registry(&registry, "tags: {fresh_for: 1h}").start().await;
        let mut session = proxy.client().session(EXAMPLE).await;
        let told = session.get("/token?service=lab&scope=repository:team/app:pull").await;
        assert_eq!((told.status.as_u16(), told.bytes().as_ref()), (200, answer.as_bytes()));
        let path = format!("/v2/team/app/blobs/{}", image.layers[0]);
        assert_eq!(get(&mut session, &path, &[("authorization", "Bearer t")]).await.status, 200, "{answer}");
    }
}

#[tokio::test]
async fn a_challenge_without_quotes_is_answered_for_the_whole_scope() {
    let url = "https://registry.example.com/token";
    for challenges in [
        vec![format!("Bearer realm={url},service=lab,scope=repository:team/app:pull")],
        vec![format!(r#"Bearer realm="{url}",service="lab",scope=repository:team/app:pull,push"#)],
        vec![format!(r#"bearer scope=repository:team/app:pull , realm={url} , service=lab"#)],
        vec![format!(r#"Basic realm=Registry Realm, Bearer realm={url},service=lab,scope=repository:team/app:pull"#)],
        vec!["Basic realm=Registry Realm".to_owned(), format!(r#"Bearer realm={url},service=lab"#)],
        vec![format!(r#"Bearer realm={url},service=lab"#), r#"Basic realm="Registry Realm""#.to_owned()],
    ] {
        let (registry, image) = registry();
        let fields: Vec<&str> = challenges.iter().map(String::as_str).collect();
        guard(&registry, &fields, r#"{"token": "t", "expires_in": 300}"#);
        let proxy = asking_itself(&registry).await;
        assert_eq!(pull(&proxy, &image).await, [200, 200], "{challenges:?}");
        let asked = registry.requests().into_iter().filter(|seen| seen.path == "/token");
        let queries: Vec<String> = asked.map(|seen| seen.query.replace("%3A", ":").replace("%2F", "/")).collect();
        let [query] = queries.as_slice() else { panic!("{challenges:?}: {queries:?}") };
        assert!(query.contains("scope=repository:team/app:pull") && query.contains("service=lab"), "{query}");
    }
}

#[tokio::test]
async fn a_retry_after_that_nobody_understands_reaches_clients_as_a_minute() {
    let (registry, image) = registry();
    let proxy = Plan::new().registry(&registry, "push: allow, tags: {fresh_for: 0s}").start().await;
    let mut session = proxy.client().session(EXAMPLE).await;
    let paths = [
        "/v2/team/app/manifests/1".to_owned(),
        format!("/v2/team/app/blobs/{}", image.layers[0]),
        "/v2/team/app/tags/list".to_owned(),
        "/v2/_catalog".to_owned(),
    ];
    for (said, told) in [
        ("1795168860", "60"),
        ("18446744073709551616", "60"),
        ("1.5", "60"),
        ("-1", "60"),
        ("soon", "60"),
        ("Sun, 06 Nov 1994 08:49:37 GMT", "60"),
        ("70", "70"),
    ] {
        let lines = [
            registry.script("/v2/*", Act::Status(429)),
            registry.script("/v2/*", Act::Header("retry-after".into(), said.into())),
        ];
        for path in &paths {
            let answer = session.get(path).await;
            assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, told), "{path} {said}");
        }
        let answer = session.ask("POST", "/v2/team/app/blobs/uploads/", &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, told), "{said}");
        lines.into_iter().for_each(|line| registry.unscript(line));
    }
}

#[tokio::test]
async fn a_registry_that_wants_the_very_type_in_accept_is_told_it() {
    for fresh_for in ["0s", "1h"] {
        let registry = Registry::start("registry.example.com");
        let bytes = format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","layers":[]}}"#);
        let digest = registry.push_manifest("team/model", Some("1"), MANIFEST, bytes.clone());
        registry.script("*/manifests/*", Act::UnlessAccepts(ACME, Box::new(Act::Status(404))));
        let proxy = Plan::new().registry(&registry, &format!("tags: {{fresh_for: {fresh_for}}}")).start().await;
        let mut session = proxy.client().session(EXAMPLE).await;
        let accept = format!("{MANIFEST}, {ACME}");
        for path in ["/v2/team/model/manifests/1".to_owned(), format!("/v2/team/model/manifests/{digest}")] {
            for method in ["HEAD", "GET", "GET"] {
                let answer = session.ask(method, &path, &[("accept", &accept)]).await;
                assert_eq!(answer.status, 200, "{method} {path}");
                assert_eq!(answer.header("docker-content-digest"), digest.to_string());
            }
        }
        // Whoever does not name it is answered as the registry answers that.
        for _ in 0..2 {
            let answer = session.ask("GET", "/v2/team/model/manifests/1", &[("accept", MANIFEST)]).await;
            assert_eq!(answer.status, 404);
        }
        if fresh_for == "1h" {
            assert_eq!(registry.count("*/manifests/1"), 2, "one of each class: its 404 is remembered for seconds");
            assert_eq!(registry.count("*/manifests/sha*"), 1);
        }
        let said = registry.requests()[0].headers["accept"].to_str().unwrap().to_owned();
        assert_eq!(said, accept, "what is sent is the class");
    }
}

#[tokio::test]
async fn heads_of_odd_shapes_are_read_for_what_they_say() {
    let upper = |digest: &Digest| digest.to_string().to_ascii_uppercase().replace("SHA256", "sha256");
    let (bytes, tag) = (br#"{"schemaVersion":2,"layers":[]}"#, "/v2/team/app/manifests/2");
    let digest = Digest::of(Algorithm::Sha256, bytes);
    for acts in [
        vec![Act::NoDigest],
        vec![Act::Header("docker-content-digest".into(), upper(&digest))],
        vec![Act::Header("docker-content-digest".into(), "sha256:short".into())],
        vec![Act::Header("docker-content-digest".into(), String::new())],
        vec![Act::Header("content-type".into(), format!("{MANIFEST}; charset=utf-8"))],
        vec![Act::Header("content-type".into(), "application/octet-stream".into())],
        vec![Act::Header("content-type".into(), String::new())],
        vec![Act::NoLength],
        vec![Act::NoLength, Act::NoDigest],
    ] {
        let (registry, image) = registry();
        registry.push_manifest("team/app", Some("2"), MANIFEST, &bytes[..]);
        for act in &acts {
            registry.script("/v2/*", act.clone());
        }
        let proxy = Plan::new().registry(&registry, "tags: {fresh_for: 0s}").start().await;
        let mut session = proxy.client().session(EXAMPLE).await;
        for _ in 0..2 {
            let answer = session.get(tag).await;
            assert_eq!((answer.status.as_u16(), &answer.bytes()[..]), (200, &bytes[..]), "{acts:?}");
            assert_eq!(answer.header("docker-content-digest"), digest.to_string(), "{acts:?}");
            let blob = session.get(&format!("/v2/team/app/blobs/{}", image.layers[0])).await;
            assert_eq!((blob.status.as_u16(), blob.bytes().len()), (200, 1000), "{acts:?}");
        }
        assert_eq!(registry.count("GET */blobs/*"), 1, "{acts:?}");
    }
}

#[tokio::test]
async fn a_redirect_to_a_relative_location_and_an_error_page_are_taken_for_what_they_are() {
    let (registry, image) = registry();
    let blob = format!("/v2/team/app/blobs/{}", image.layers[0]);
    let location = format!("../../other/blobs/{}", image.layers[0]);
    registry.push_blob("team/other", layer(1000, 1));
    registry.script("GET /v2/team/app/blobs/*", Act::Redirect { status: 307, location });
    let page = Act::Answer {
        status: 503,
        headers: vec![("content-type".into(), "text/html".into()), ("retry-after".into(), "later".into())],
        body: "<html>maintenance</html>".into(),
    };
    let proxy = Plan::new().registry(&registry, "tags: {fresh_for: 0s}").start().await;
    let mut session = proxy.client().session(EXAMPLE).await;
    let answer = session.get(&blob).await;
    assert_eq!((answer.status.as_u16(), answer.bytes().len()), (200, 1000));
    registry.script_times(1, "GET /v2/team/app/manifests/1", page);
    let answer = session.get("/v2/team/app/manifests/1").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "60"));
}

#[tokio::test]
async fn a_wrong_digest_in_the_head_of_content_by_digest_is_overruled_by_the_bytes() {
    let (registry, image) = registry();
    let wrong = Digest::of(Algorithm::Sha256, b"something else").to_string();
    for pattern in ["*/blobs/*", "*/manifests/sha*"] {
        registry.script(pattern, Act::Header("docker-content-digest".into(), wrong.clone()));
    }
    let proxy = Plan::new().registry(&registry, "tags: {fresh_for: 0s}").start().await;
    let mut session = proxy.client().session(EXAMPLE).await;
    for (path, digest) in [
        (format!("/v2/team/app/manifests/{}", image.digest), &image.digest),
        (format!("/v2/team/app/blobs/{}", image.layers[0]), &image.layers[0]),
    ] {
        for _ in 0..2 {
            let answer = session.get(&path).await;
            assert_eq!((answer.status.as_u16(), answer.header("docker-content-digest")), (200, &*digest.to_string()));
            assert_eq!(Digest::of(Algorithm::Sha256, answer.bytes()), *digest);
        }
    }
    assert_eq!(registry.count("GET */manifests/*"), 1);
}

#[tokio::test]
async fn a_client_that_invents_types_fills_no_memory() {
    let (registry, _) = registry();
    let proxy = Plan::new().registry(&registry, "tags: {fresh_for: 1h}").start().await;
    let mut session = proxy.client().session(EXAMPLE).await;
    for (number, expected) in (0..20).map(|number| (number, number + 1)).chain([(19, 20), (12, 20), (0, 21)]) {
        let accept = format!("{MANIFEST}, application/vnd.x{number}");
        assert_eq!(session.ask("GET", "/v2/team/app/manifests/1", &[("accept", &accept)]).await.status, 200);
        assert_eq!(registry.count("*/manifests/1"), expected, "{number}");
    }
}

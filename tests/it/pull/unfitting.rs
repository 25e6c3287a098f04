//! Answers that do not fit the question: parts for a whole, other parts, an unasked 304, 101, redirects that lead nowhere.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::private::{AUTH, EXAMPLE};
use super::{QUAY, layer, quay};
use crate::support::{Act, MANIFEST, Plan, Registry, Setup, lab};

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Act {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Act::Answer { status, headers, body: body.to_owned() }
}

/// What is no answer to a question for content.
fn misfits() -> Vec<Act> {
    let part = |range: &str| answer(206, &[("content-range", range), ("docker-content-digest", "sha256:0")], "xxxxx");
    vec![
        part("bytes 0-4/99999999999999"),
        part("bytes 0-4/5"),
        answer(206, &[], "xxxxx"),
        answer(200, &[("content-range", "bytes 0-4/5000")], "xxxxx"),
        answer(204, &[], ""),
        answer(201, &[], "xxxxx"),
        answer(304, &[("etag", "\"x\"")], ""),
        answer(300, &[("location", "https://elsewhere.example/")], ""),
        answer(101, &[("upgrade", "x"), ("connection", "upgrade")], ""),
    ]
}

/// A registry that can say it: HTTP/2 knows no 101.
fn speaking(name: &str, act: &Act) -> Registry {
    let h2 = !matches!(act, Act::Answer { status: 101, .. });
    Registry::with(Setup { h2, ..Setup::named(name) })
}

#[tokio::test]
async fn what_does_not_fit_the_question_reaches_no_client_and_is_kept_nowhere() {
    for act in misfits() {
        let registry = speaking("quay.io", &act);
        let proxy = Plan::new().registry(&registry, "").start().await;
        let image = registry.push_image("a", "1", &[layer(5000, 1)]);
        registry.script("*/a/*", act.clone());
        let (manifest, blob) =
            (format!("/v2/a/manifests/{}", image.digest), format!("/v2/a/blobs/{}", image.layers[0]));
        for (method, path) in [
            ("GET", "/v2/a/manifests/1"),
            ("HEAD", "/v2/a/manifests/1"),
            ("GET", &manifest),
            ("HEAD", &manifest),
            ("GET", &blob),
            ("HEAD", &blob),
        ] {
            for client in [proxy.client(), proxy.client().h2()] {
                let got = client.session(QUAY).await.ask(method, path, &[]).await;
                assert_eq!(got.status, 502, "{act:?} to {method} {path}: {got:?}");
                assert_eq!((got.header("location"), got.header("docker-content-digest")), ("", ""), "{act:?}");
            }
        }
        assert_eq!(proxy.files(), (0, 0), "{act:?}");
    }
}

#[tokio::test]
async fn an_unasked_part_304_or_101_is_passed_on_to_nobody_either() {
    for act in misfits() {
        let Act::Answer { status, .. } = &act else { panic!("an answer") };
        if !matches!(status, 206 | 304 | 101) {
            continue;
        }
        let (registry, auth) = (speaking("registry.example.com", &act), speaking("auth.example.com", &act));
        registry.script("*", act.clone());
        auth.script("*", act.clone());
        let plan = Plan::new().registry(&registry, "token_hosts: [auth.example.com]").host("auth.example.com", &auth);
        let proxy = plan.start().await;
        for path in ["/v2/", "/v2/a/tags/list", "/v2/a/blobs/uploads/", "/v2/_catalog", "/about"] {
            let got = proxy.client().get(EXAMPLE, path).await;
            let is_ours = got.status == 502 || (path == "/v2/" && got.status == 401);
            assert!(is_ours, "{act:?} to {path}: {got:?}");
        }
        let token = proxy.client().get(AUTH, "/token?service=lab&scope=repository:a:pull").await;
        assert!(token.status == 200 && token.bytes().starts_with(b"{"), "{act:?}: a token of ours stands in {token:?}");
    }
}

#[tokio::test]
async fn a_condition_or_a_range_that_was_asked_for_is_answered_as_such() {
    let (registry, proxy) = quay().await;
    let mut session = proxy.client().session(QUAY).await;
    registry.script("*/tags/list", answer(304, &[("etag", "\"x\"")], ""));
    let unchanged = session.ask("GET", "/v2/a/tags/list", &[("if-none-match", "\"x\"")]).await;
    assert_eq!(unchanged.status, 304);
    registry.script("*/page", answer(206, &[("content-range", "bytes 0-4/50")], "xxxxx"));
    assert_eq!(session.ask("GET", "/page", &[("range", "bytes=0-4")]).await.status, 206);
    assert_eq!(session.ask("GET", "/page", &[]).await.status, 502);
}

#[tokio::test]
async fn a_mirror_whose_answers_do_not_fit_is_passed_over() {
    let html = answer(200, &[("content-type", "text/html")], "<html>");
    let acts = misfits().into_iter().chain([html]);
    for (act, noun) in acts.flat_map(|act| ["manifests", "blobs"].map(|noun| (act.clone(), noun))) {
        let registry = Registry::start("registry.example.com");
        let mirror = registry.sibling(Setup { h2: false, ..Setup::named("mirror.internal") });
        mirror.script("*", act.clone());
        let endpoint = |server: &Registry| {
            let (name, address, ca_file) = (server.name(), server.address(), server.ca_file());
            format!("{{url: 'https://{name}', address: '{address}', ca_file: '{}'}}", ca_file.display())
        };
        let both = format!("'registry.example.com': {{endpoints: [{}, {}]}}", endpoint(&mirror), endpoint(&registry));
        let proxy = Plan::new().raw_registry(&both).start().await;
        let image = registry.push_image("a", "1", &[layer(5000, 2)]);
        let path = format!("/v2/a/{noun}/{}", if noun == "blobs" { image.layers[0] } else { image.digest });
        let got = proxy.client().get("registry.example.com:443", &path).await;
        assert_eq!(got.status, 200, "{act:?} {path}: {got:?}");
        assert!(got.body.is_ok(), "{act:?} {path}");
        assert_eq!(mirror.count(&format!("GET {path}")), 1, "{act:?} {path}: it was asked first");
    }
}

/// What a client gets that asks for bytes 1000 to 1999 where the registry answers ranges like this: by a fill, or past
/// a cache that takes nothing.
async fn piece(range: &str, length: usize, cache: &str) -> (u16, bool) {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").cache(cache).start().await;
    let bytes = layer(3 << 20, 3);
    let digest = registry.push_blob("a", bytes.clone());
    let body: String = "x".repeat(length);
    registry.script("GET */blobs/*", Act::ToRange(Box::new(answer(206, &[("content-range", range)], &body))));
    let path = format!("/v2/a/blobs/{digest}");
    let got = proxy.client().session(QUAY).await.ask("GET", &path, &[("range", "bytes=1000-1999")]).await;
    (got.status.as_u16(), got.body.is_ok())
}

#[tokio::test]
async fn a_part_that_contradicts_itself_or_the_question_is_not_passed_on() {
    let small = "max_size: 1MiB";
    assert_eq!(piece("bytes 1000-1999/3145728", 1000, small).await, (206, true), "a part that fits");
    let wrong = [
        ("bytes 1000-1999/3145728", 999),
        ("bytes 0-999/3145728", 1000),
        ("bytes 1001-2000/3145728", 1000),
        ("bytes 1000-2999/3145728", 2000),
        ("bytes 1000-1999/1500", 1000),
        ("bytes 1000-1999/x", 1000),
        ("bytes 1999-1000/3145728", 1000),
        ("bytes */3145728", 1000),
    ];
    for (range, length) in wrong {
        let (status, _) = piece(range, length, small).await;
        assert_eq!(status, 502, "{range} {length}");
    }
}

#[tokio::test]
async fn a_part_that_is_the_whole_is_held_until_its_digest_matched() {
    for wrong in [true, false] {
        let registry = Registry::start("quay.io");
        let proxy = Plan::new().registry(&registry, "").cache("max_size: 1MiB").start().await;
        let bytes = layer(3 << 20, 4);
        let digest = registry.push_blob("a", bytes.clone());
        if wrong {
            registry.script("GET */blobs/*", Act::WrongByte(5));
        }
        let (path, range) = (format!("/v2/a/blobs/{digest}"), format!("bytes=0-{}", bytes.len() - 1));
        let got = proxy.client().session(QUAY).await.ask("GET", &path, &[("range", &range)]).await;
        assert_eq!(got.status, 206);
        assert_eq!(got.body.is_err(), wrong, "wrong {wrong}");
        assert!(got.body.is_ok_and(|body| body == bytes) != wrong);
    }
}

#[tokio::test]
async fn a_connection_that_brought_what_does_not_fit_serves_nobody_else() {
    let registry = Registry::with(Setup { h2: false, ..Setup::named("quay.io") });
    let proxy = Plan::new().registry(&registry, "").start().await;
    registry.push_manifest("a", Some("1"), MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    let line = registry.script("*/tags/list", answer(304, &[], ""));
    assert_eq!(proxy.client().get(QUAY, "/v2/a/tags/list").await.status, 502);
    registry.unscript(line);
    let before = registry.connections();
    assert_eq!(proxy.client().get(QUAY, "/v2/a/tags/list").await.status, 200);
    assert_eq!(registry.connections(), before + 1);
}

/// A server that says 100 to every request, again and again, for as long as it is listened to.
async fn endless() -> std::net::SocketAddr {
    let names = ["quay.io".to_owned()];
    let tls = TlsAcceptor::from(lab::server_config(&names, lab::Certificate::Good, &[b"http/1.1"], false));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let mut stream = tls.accept(stream).await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
                while stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n").await.is_ok() {}
            });
        }
    });
    at
}

#[tokio::test]
async fn preliminary_answers_without_an_end_are_none() {
    let (at, ca_file) = (endless().await, lab::ca_file());
    let endpoint = format!("{{url: 'https://quay.io', address: '{at}', ca_file: '{}'}}", ca_file.display());
    let proxy = Plan::new().raw_registry(&format!("'quay.io': {{endpoints: [{endpoint}]}}")).start().await;
    for path in ["/v2/a/manifests/1", "/v2/a/tags/list"] {
        let answered = tokio::time::timeout(Duration::from_secs(20), proxy.client().get(QUAY, path)).await;
        assert_eq!(answered.unwrap().status, 502, "{path}");
    }
}

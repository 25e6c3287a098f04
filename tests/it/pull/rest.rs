//! The rest of the protocol: sha512, foreign layers, manifests under `/blobs/`, pings of every kind, what passes in tunnels, and
//! what HTTP has between a request and its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use pullthrough::oci::{Algorithm, Digest};
use pullthrough::wire::{Body, BodyError};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{QUAY, layer};
use crate::support::client::whole;
use crate::support::{Act, MANIFEST, Plan, Play, Proxy, Raw, Registry};

async fn quay(keys: &str) -> (Registry, Proxy) {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, keys).start().await;
    (registry, proxy)
}

#[tokio::test]
async fn content_named_by_sha512_is_pulled_verified_kept_ranged_and_pushed_like_any_other() {
    let (registry, proxy) = quay("push: allow").await;
    let bytes = layer(200_000, 1);
    let digest = Digest::of(Algorithm::Sha512, &bytes);
    registry.push_blob_as("a", &digest, bytes.clone());
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [{"digest": digest.to_string(), "size": bytes.len(), "mediaType": "x/y"}]}).to_string();
    let named = Digest::of(Algorithm::Sha512, manifest.as_bytes());
    registry.push_manifest("a", Some(&named.to_string()), MANIFEST, manifest.clone());
    let (blob, by_digest) = (format!("/v2/a/blobs/{digest}"), format!("/v2/a/manifests/{named}"));
    for client in [proxy.client(), proxy.client().h2()] {
        let mut session = client.session(QUAY).await;
        let got = session.get(&by_digest).await;
        assert_eq!((got.status.as_u16(), got.header("docker-content-digest")), (200, named.to_string().as_str()));
        assert_eq!(got.bytes(), &manifest);
        assert!(*session.get(&blob).await.bytes() == bytes);
        proxy.stored(&digest).await;
        proxy.stored(&named).await;
        let part = session.ask("GET", &blob, &[("range", "bytes=10-19")]).await;
        assert_eq!((part.status.as_u16(), &part.bytes()[..]), (206, &bytes[10..20]));
    }
    assert!(proxy.blob_file(&digest).ends_with(format!("blobs/sha512/{}", digest.hex())));
    assert_eq!((registry.count("GET */blobs/*"), registry.count("GET */manifests/*")), (1, 1));
    let wrong = Digest::of(Algorithm::Sha512, b"another");
    registry.push_blob_as("a", &wrong, layer(1000, 2));
    assert!(
        proxy.client().get(QUAY, &format!("/v2/a/blobs/{wrong}")).await.body.is_err(),
        "never ended as if it were whole"
    );
    assert!(!proxy.blob_file(&wrong).exists());
    let pushed = layer(5000, 3);
    let name = Digest::of(Algorithm::Sha512, &pushed);
    let mut session = proxy.client().session(QUAY).await;
    let begun = session.ask("POST", "/v2/a/blobs/uploads/", &[]).await;
    let path = format!("{}?digest={}", begun.header("location").trim_start_matches("https://quay.io"), name);
    assert_eq!(session.send("PUT", &path, &[], Body::full(pushed.clone())).await.unwrap().status(), 201);
    assert!(*proxy.client().get(QUAY, &format!("/v2/a/blobs/{name}")).await.bytes() == pushed);
}

#[tokio::test]
async fn a_manifest_under_blobs_passes_and_stays_another_thing_than_the_manifest() {
    let (registry, proxy) = quay("tags: {fresh_for: 0s}").await; // a 404 is not remembered
    let manifest = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}"#;
    let digest = registry.push_manifest("a", None, MANIFEST, manifest);
    let (as_manifest, as_blob) = (format!("/v2/a/manifests/{digest}"), format!("/v2/a/blobs/{digest}"));
    // containerd asks so after a 404; a registry may have it there or not.
    assert_eq!(proxy.client().get(QUAY, &as_blob).await.status, 404);
    registry.push_blob("a", manifest);
    let mut session = proxy.client().session(QUAY).await;
    let line = registry.script("*/manifests/*", Act::Status(404));
    assert_eq!(session.get(&as_manifest).await.status, 404);
    let blob = session.get(&as_blob).await;
    assert_eq!((&blob.bytes()[..], blob.header("content-type")), (manifest.as_bytes(), "application/octet-stream"));
    proxy.stored(&digest).await;
    assert_eq!(session.get(&as_manifest).await.status, 404, "a blob's link never answers under /manifests/");
    registry.unscript(line);
}

#[tokio::test]
async fn a_foreign_layer_comes_by_digest_where_the_registry_has_it_and_else_its_404_passes() {
    let (registry, proxy) = quay("").await;
    let (here, elsewhere) = (layer(3000, 1), layer(3000, 2));
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let nondistributable = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    let (one, two) = (registry.push_blob("a", here.clone()), Digest::of(Algorithm::Sha256, &elsewhere));
    let own = registry.push_blob("a", layer(500, 3));
    let described = |digest: &Digest, media_type: &str| json!({"mediaType": media_type, "digest": digest.to_string(), "size": 3000, "urls": ["https://download.example/layer"]});
    let layers = json!([described(&one, foreign), described(&two, nondistributable), {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": own.to_string(), "size": 500}]);
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers}).to_string();
    let digest = registry.push_manifest("a", Some("1"), MANIFEST, manifest.clone());
    let mut session = proxy.client().session(QUAY).await;
    assert_eq!(session.get("/v2/a/manifests/1").await.bytes(), &manifest);
    assert_eq!(session.get(&format!("/v2/a/manifests/{digest}")).await.bytes(), &manifest);
    assert_eq!(session.get(&format!("/v2/a/blobs/{own}")).await.status, 200, "its siblings are no reason to fail");
    assert!(*session.get(&format!("/v2/a/blobs/{one}")).await.bytes() == here);
    assert_eq!(session.get(&format!("/v2/a/blobs/{two}")).await.status, 404);
    // The URL may be one of the registry's own host, outside the protocol.
    let headers = vec![("content-type".to_owned(), "application/octet-stream".to_owned())];
    registry.script("/downloads/*", Act::Answer { status: 200, headers, body: "a layer".into() });
    for client in [proxy.client(), proxy.client().h2()] {
        let got = client.session(QUAY).await.ask("GET", "/downloads/layer.tar?sig=a%2Bb", &[]).await;
        assert_eq!((got.status.as_u16(), &got.bytes()[..]), (200, &b"a layer"[..]));
    }
    assert_eq!(registry.requests().last().unwrap().query, "sig=a%2Bb");
}

#[tokio::test]
async fn pings_and_searches_of_every_spelling_are_answered_as_the_registry_answers_them() {
    let (registry, proxy) = quay("").await;
    let results = r#"{"num_results":0,"results":[]}"#;
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    registry.script("GET /v1/search", Act::Answer { status: 200, headers, body: results.into() });
    registry.script(
        "OPTIONS *",
        Act::Answer { status: 204, headers: vec![("allow".into(), "GET, HEAD, OPTIONS".into())], body: String::new() },
    );
    registry.push_manifest("a", Some("1"), MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    for client in [proxy.client(), proxy.client().h2()] {
        for (method, path, status, body) in [
            ("GET", "/v2/", 200, None),
            ("HEAD", "/v2/", 200, Some("")),
            ("GET", "/v2", 200, None),
            ("HEAD", "/v2", 200, Some("")),
            ("GET", "/v1/search?q=alpine&n=25", 200, Some(results)),
            ("GET", "/v1/_ping", 404, None),
            ("GET", "/v2/none/tags/list", 404, None),
            ("OPTIONS", "/v1/search", 204, Some("")),
            ("OPTIONS", "/elsewhere", 204, Some("")),
        ] {
            let answer = client.session(QUAY).await.ask(method, path, &[]).await;
            assert_eq!(answer.status.as_u16(), status, "{method} {path}");
            if let Some(body) = body {
                assert_eq!(answer.bytes(), body, "{method} {path}");
            }
        }
        let options = client.session(QUAY).await.ask("OPTIONS", "/v2/", &[]).await;
        assert_eq!(options.status, 405, "no read, and so a push: refused with the reason");
    }
}

/// A server that greets whoever connects and echoes until its client's end, then says how much that was.
async fn echo() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, accepted) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = accepted.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                to.write_all(b"220 hello\r\n").await.unwrap();
                let mut all = 0;
                let mut read = vec![0; 4096];
                while let Ok(count @ 1..) = from.read(&mut read).await {
                    all += count;
                    to.write_all(&read[..count]).await.unwrap();
                }
                to.write_all(format!("{all} bytes").as_bytes()).await.unwrap();
                to.shutdown().await.unwrap();
            });
        }
    });
    (address, accepted)
}

async fn connected(proxy: &Proxy, to: std::net::SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    stream.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    stream
}

#[tokio::test]
async fn any_protocol_passes_in_a_tunnel_both_ways_whoever_speaks_first_and_half_closed() {
    let (address, _) = echo().await;
    let port = address.port();
    let proxy = Plan::new().tunnel(&format!("allow: ['127.0.0.1'], ports: [{port}]")).start().await;
    let websocket = b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x85\x00\x01\x02\x03hello";
    let ssh = b"SSH-2.0-OpenSSH_9.2\r\n";
    let git = b"0032git-upload-pack /project.git\0host=example.org\0";
    let binary: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for said in [&websocket[..], ssh, git, &binary, b""] {
        let mut stream = connected(&proxy, address).await;
        let mut greeting = [0; 11];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"220 hello\r\n", "a server may speak first");
        let (mut from, mut to) = stream.split();
        let saying = async {
            to.write_all(said).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let mut heard = Vec::new();
        let hearing = async { from.read_to_end(&mut heard).await.unwrap() };
        tokio::join!(saying, hearing);
        let expected = [said, format!("{} bytes", said.len()).as_bytes()].concat();
        assert!(heard == expected, "{} of {} bytes", heard.len(), expected.len());
    }
}

#[tokio::test]
async fn an_upgrade_is_no_part_of_what_is_forwarded_and_ends_at_the_proxy() {
    let registry = Registry::start("quay.io");
    let plain = Registry::plain("plain.test");
    let proxy = Plan::new().registry(&registry, "").tunnel("allow: ['127.0.0.1']").start().await;
    let port = plain.address().port();
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let allowed = Plan::new().registry(&registry, "").tunnel(&format!("allow: ['127.0.0.1'], ports: [{port}]"));
    proxy.reload(allowed).await;
    for (status, act) in
        [(200, Act::Answer { status: 200, headers: vec![], body: "plain".into() }), (426, Act::Status(426))]
    {
        let line = plain.script("/chat", act);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        let request = format!("GET http://127.0.0.1:{port}/chat HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{fields}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        assert!(!head.contains("upgrade: websocket"), "{head}");
        plain.unscript(line);
    }
    let mut session = proxy.client().session(QUAY).await;
    let asked = [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
    session.ask("GET", "/chat", &asked).await;
    for seen in plain.requests().iter().chain(&registry.requests()) {
        assert!(
            !seen.headers.contains_key("upgrade") && !seen.headers.contains_key("connection"),
            "{:?}",
            seen.headers
        );
    }
    assert_eq!((plain.requests().len(), registry.requests().len()), (2, 1));
}

#[tokio::test]
async fn expect_100_continue_is_answered_by_the_proxy_on_every_kind_of_request() {
    let (registry, proxy) = quay("push: allow").await;
    registry.script("POST /token", Act::Answer { status: 200, headers: vec![], body: r#"{"token":"t"}"#.into() });
    registry.push_manifest("a", Some("1"), MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    let manifest = r#"{"schemaVersion":2,"layers":[],"x":1}"#;
    for (method, path, body, status) in [
        ("PUT", "/v2/a/manifests/2", manifest, 201),
        ("POST", "/v2/a/blobs/uploads/", "", 202),
        ("GET", "/v2/a/manifests/1", "", 200),
        ("HEAD", "/v2/a/manifests/1", "", 200),
        ("GET", "/v2/", "", 200),
        ("GET", "/v2/a/tags/list", "", 200),
        ("POST", "/token", "grant_type=password&username=a&password=b&service=s", 200),
        ("POST", "/page", "x=y", 404),
    ] {
        let mut stream = proxy.client().tls(QUAY).await.unwrap();
        let media_type = if method == "PUT" { MANIFEST } else { "application/x-www-form-urlencoded" };
        let fields = format!(
            "Expect: 100-continue\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nConnection: close\r\n",
            body.len()
        );
        stream
            .write_all(format!("{method} {path} HTTP/1.1\r\nHost: quay.io\r\n{fields}\r\n").as_bytes())
            .await
            .unwrap();
        let mut heard = Vec::new();
        if !body.is_empty() {
            let mut interim = [0; 25];
            stream.read_exact(&mut interim).await.unwrap();
            assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n", "{method} {path}");
            stream.write_all(body.as_bytes()).await.unwrap();
        }
        let _ = stream.read_to_end(&mut heard).await;
        let heard = String::from_utf8_lossy(&heard).into_owned();
        assert!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {heard}");
    }
    assert!(
        registry.requests().iter().all(|seen| !seen.headers.contains_key("expect")),
        "it is for the next hop alone"
    );
}

#[tokio::test]
async fn a_push_that_ends_with_trailers_and_an_answer_that_does_are_whole() {
    let (registry, proxy) = quay("push: allow").await;
    for (round, client) in [proxy.client(), proxy.client().h2()].into_iter().enumerate() {
        let manifest = Bytes::from(format!(r#"{{"schemaVersion":2,"layers":[],"round":{round}}}"#));
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-checksum", "1".parse().unwrap());
        let frames = [Ok::<_, BodyError>(Frame::data(manifest.clone())), Ok(Frame::trailers(trailers))];
        let body = Body::wrap(StreamBody::new(futures_util::stream::iter(frames)));
        let fields = [("content-type", MANIFEST), ("trailer", "x-checksum")];
        let mut session = client.session(QUAY).await;
        let put = whole(session.send("PUT", "/v2/a/manifests/t", &fields, body).await.unwrap()).await;
        assert_eq!(put.status, 201, "{:?}", put.body);
        assert_eq!(session.get("/v2/a/manifests/t").await.bytes(), &manifest);
    }
    assert_eq!(registry.requests().iter().filter(|seen| seen.method == "PUT").count(), 2);
    // An answer's trailers are dropped or passed, and never a part of it.
    let body = "5\r\nhello\r\n0\r\nX-Checksum: 1\r\n\r\n";
    let said = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Checksum\r\n\r\n{body}");
    let raw = Raw::start("raw.test", b"http/1.1", Play::Once(said.into_bytes()));
    let proxy = Plan::new().raw_registry(&raw.entry("raw.test", "")).start().await;
    for client in [proxy.client(), proxy.client().h2()] {
        let got = client.session("raw.test:443").await.get("/v2/a/tags/list").await;
        assert_eq!((got.status.as_u16(), &got.bytes()[..]), (200, &b"hello"[..]));
    }
}

#[tokio::test]
async fn interim_answers_of_an_upstream_reach_no_client_and_do_no_harm_to_any_kind_of_request() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(5);
    let manifest = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}"#;
    let digest = Digest::of(Algorithm::Sha256, manifest.as_bytes());
    let said = format!(
        "{hints}HTTP/1.1 200 OK\r\nContent-Type: {MANIFEST}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{manifest}",
        manifest.len()
    );
    let raw = Raw::start("raw.test", b"http/1.1", Play::Once(said.into_bytes()));
    let proxy = Plan::new().raw_registry(&raw.entry("raw.test", ", push: allow")).start().await;
    for client in [proxy.client(), proxy.client().h2()] {
        for (method, path) in [
            ("GET", format!("/v2/a/manifests/{digest}")),
            ("GET", "/v2/a/tags/list".to_owned()),
            ("GET", format!("/v2/a/referrers/{digest}")),
            ("GET", "/page".to_owned()),
            ("POST", "/v2/a/blobs/uploads/".to_owned()),
        ] {
            let got = client.session("raw.test:443").await.ask(method, &path, &[]).await;
            assert_eq!((got.status.as_u16(), &got.bytes()[..]), (200, manifest.as_bytes()), "{method} {path}");
            assert_eq!(got.header("link"), "", "{method} {path}");
        }
    }
}

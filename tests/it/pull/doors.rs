//! CONNECT and what stands behind it: verdicts, addresses, tunnels, TLS names, pushes, and the proxy's own pages.

use futures_util::future::join_all;
use http_body_util::{BodyExt, StreamBody};
use pullthrough::wire::{Body, BodyError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{QUAY, get, layer, quay};
use crate::support::client::Client;
use crate::support::{Answering, Dns, MANIFEST, Nowhere, Plan, Registry, eventually};

#[tokio::test]
async fn a_host_that_is_no_registry_is_tunnelled_with_its_own_certificate() {
    let (registry, other) = (Registry::start("quay.io"), Registry::start("example.com"));
    let proxy = Plan::new().registry(&registry, "").host("example.com", &other).start().await;
    other.push_manifest("a", Some("1"), MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    let client = proxy.client().trusting(&other.ca_file());
    let through = client.session("example.com:443").await;
    let direct = Client::direct(other.address()).session("example.com:443").await;
    assert_eq!(through.certificates, direct.certificates);
    let mut through = through;
    assert_eq!(through.get("/v2/a/manifests/1").await.bytes(), r#"{"schemaVersion":2,"layers":[]}"#);
    assert_eq!(through.get("/v2/a/manifests/1").await.header("cache-status"), "", "not ours to mark");
}

#[tokio::test]
async fn a_tunnel_passes_bytes_untouched_both_ways() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let registry = Registry::start("quay.io");
    let tunnel = format!("allow: ['127.0.0.1:{port}']");
    let proxy = Plan::new().registry(&registry, "").tunnel(&tunnel).start().await;
    let sent = layer(1_000_000, 1);
    let expected = sent.clone();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = vec![0; expected.len()];
        stream.read_exact(&mut got).await.unwrap();
        stream.write_all(&got).await.unwrap();
        got == expected
    });
    let mut stream = proxy.client().tunnel(&format!("127.0.0.1:{port}")).await.unwrap();
    let (mut read, mut write) = stream.split();
    let mut back = vec![0; sent.len()];
    let (written, got) = tokio::join!(write.write_all(&sent), read.read_exact(&mut back));
    written.unwrap();
    got.unwrap();
    assert!(back == sent && server.await.unwrap());
}

#[tokio::test]
async fn forbidden_addresses_are_refused_in_every_spelling_with_a_reason() {
    let (_registry, proxy) = quay().await;
    let hosts = [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.255.255.254",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "localhost",
        "LOCALHOST.",
        "0.0.0.0",
        "0",
        "[::]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "[::ffff:169.254.169.254]",
        "168.63.129.16",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[fc00::1]",
        "224.0.0.1",
        "255.255.255.255",
        "[ff02::1]",
        "192.0.2.1",
        "198.18.0.1",
        "240.0.0.1",
    ];
    for host in hosts {
        let refusal = proxy.client().tunnel(&format!("{host}:443")).await.expect_err(host);
        assert_eq!(refusal.status, 403, "{host}: {}", refusal.text);
        assert!(
            refusal.text.to_ascii_lowercase().contains("proxy-status: pullthrough; error="),
            "{host}: {}",
            refusal.text
        );
        assert!(refusal.text.contains("DENIED"), "{host}: {}", refusal.text);
    }
    for port in [22, 25, 3128, 8080] {
        let refusal = proxy.client().tunnel(&format!("example.com:{port}")).await.expect_err("a forbidden port");
        assert_eq!(refusal.status, 403);
        assert!(refusal.text.contains("tunnel.ports"), "{}", refusal.text);
    }
    assert_eq!(proxy.metric("pullthrough_connects_total{verdict=\"intercept\"}").await, 0.0);
}

#[tokio::test]
async fn our_own_listeners_are_never_reached_through_us() {
    let registry = Registry::start("quay.io");
    let all = "allow: [127.0.0.1, 127.0.0.2, localhost, '127.0.0.0/8'], ports: [80, 443]";
    let proxy = Plan::new().registry(&registry, "").tunnel(all).start().await;
    for address in [proxy.address(), proxy.admin()] {
        let refusal = proxy.client().tunnel(&address.to_string()).await.expect_err("our own door");
        assert_eq!(refusal.status, 403, "{address}: {}", refusal.text);
    }
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_an_answer_with_a_reason() {
    let registry = Registry::start("quay.io");
    let nowhere = Nowhere::new();
    let address = nowhere.address();
    let dns = Dns::start(Answering::Truly).await; // knows no name
    let tunnel = format!("allow: ['127.0.0.1:{}']", address.port());
    let plan = Plan::new().registry(&registry, "").tunnel(&tunnel);
    let proxy = plan.upstream(&format!("resolvers: '{}'", dns.address())).start().await;
    let refusal = proxy.client().tunnel(&address.to_string()).await.expect_err("nobody listens");
    assert_eq!(refusal.status, 502);
    assert!(refusal.text.contains("error=connection_refused"), "{}", refusal.text);
    let refusal = proxy.client().tunnel("no-such-host.invalid:443").await.expect_err("no such name");
    assert!(refusal.text.contains("error=dns_error"), "{}", refusal.text);
}

#[tokio::test]
async fn another_sni_is_an_alert_and_another_host_is_421() {
    let registry = Registry::start("quay.io");
    let example = Registry::start("registry.example.com");
    let proxy = Plan::new().registry(&registry, "").registry(&example, "").start().await;
    for h2 in [false, true] {
        let client = if h2 { proxy.client().h2() } else { proxy.client() };
        let error = client.tls_as(QUAY, "registry.example.com").await.expect_err("another SNI");
        assert!(error.to_string().contains("UnrecognisedName"), "{error}");
        let mut session = client.session(QUAY).await.naming("registry.example.com:443");
        assert_eq!(session.get("/v2/").await.status, 421);
    }
    assert_eq!((registry.requests().len(), example.requests().len()), (0, 0));
    assert_eq!(proxy.metric("pullthrough_client_handshake_failures_total{reason=\"wrong_name\"}").await, 2.0);
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_ca_is_counted_as_exactly_that() {
    let (registry, proxy) = quay().await;
    let stranger = Client::through(proxy.address(), &registry.ca_file());
    assert!(stranger.tls(QUAY).await.is_err());
    let name = "pullthrough_client_handshake_failures_total{reason=\"untrusted\"}";
    assert_eq!(proxy.metric(name).await, 1.0);
    assert_eq!(proxy.metric("pullthrough_connects_total{verdict=\"intercept\"}").await, 1.0);
}

#[tokio::test]
async fn one_leaf_is_minted_for_a_host_however_many_connect() {
    let (_registry, proxy) = quay().await;
    let sessions = join_all((0..16).map(|_| async { proxy.client().session(QUAY).await.certificates })).await;
    assert!(sessions.iter().all(|chain| *chain == sessions[0] && chain.len() == 2), "leaf and issuing, not the root");
    assert_eq!(proxy.metric("pullthrough_leaf_certificates_total").await, 1.0);
}

#[tokio::test]
async fn the_proxys_own_pages_answer_on_its_port() {
    let (_registry, proxy) = quay().await;
    let mut session = proxy.client().plain_session(&proxy.address().to_string()).await;
    let page = session.get("/").await;
    assert!(String::from_utf8_lossy(page.bytes()).contains("caching proxy"));
    assert_eq!(session.get("/ca.crt").await.bytes()[..], std::fs::read(proxy.ca_file()).unwrap());
    for path in ["/healthz", "/readyz"] {
        assert_eq!(session.get(path).await.status, 200, "{path}");
    }
    assert_eq!(session.get("/nothing").await.status, 404);
    assert_eq!(session.ask("POST", "/", &[]).await.status, 405);
}

#[tokio::test]
async fn an_unknown_client_is_told_why_it_may_not_use_the_proxy() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").clients("allow: ['192.0.2.0/24']").start().await;
    let refusal = proxy.client().tunnel(QUAY).await.expect_err("not a client");
    assert_eq!(refusal.status, 403);
    assert!(refusal.text.contains("clients.allow"), "{}", refusal.text);
    for (path, status) in [("/", 403), ("/ca.crt", 200), ("/healthz", 200)] {
        let mut session = proxy.client().plain_session(&proxy.address().to_string()).await;
        assert_eq!(session.get(path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn pushes_are_refused_with_405_unless_allowed() {
    let (registry, proxy) = quay().await;
    let digest = registry.push_blob("a", layer(10, 1));
    let blob = format!("/v2/a/blobs/{digest}");
    let pushes = [
        ("POST", "/v2/a/blobs/uploads/"),
        ("PATCH", "/v2/a/blobs/uploads/1"),
        ("PUT", "/v2/a/manifests/1"),
        ("DELETE", blob.as_str()),
    ];
    for (method, path) in pushes {
        let answer = proxy.client().session(QUAY).await.ask(method, path, &[]).await;
        assert_eq!(answer.status, 405, "{method} {path}");
        let text = String::from_utf8_lossy(answer.bytes()).into_owned();
        assert!(text.contains("UNSUPPORTED") && text.contains("push: allow"), "{text}");
    }
    assert_eq!(registry.requests().len(), 0);
}

#[tokio::test]
async fn an_allowed_push_streams_through_unbuffered_and_moves_the_tag() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "push: allow").start().await;
    for h2 in [false, true] {
        registry.push_manifest("a", Some("1"), MANIFEST, format!(r#"{{"old":{h2}}}"#));
        let client = if h2 { proxy.client().h2() } else { proxy.client() };
        let mut session = client.session(QUAY).await;
        session.get("/v2/a/manifests/1").await;
        let begun = session.ask("POST", "/v2/a/blobs/uploads/", &[]).await;
        assert_eq!(begun.status, 202, "{:?}", begun.body);
        let location = begun.header("location").to_owned();
        let path = location.strip_prefix("https://quay.io").unwrap_or(&location).to_owned();
        let before = registry.uploaded();
        let (sender, receiver) = tokio::sync::mpsc::channel::<bytes::Bytes>(1);
        let body = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|bytes| (Ok::<_, BodyError>(http_body::Frame::data(bytes)), receiver))
        });
        let sending = session.send(
            "PATCH",
            &path,
            &[("content-type", "application/octet-stream")],
            Body::wrap(StreamBody::new(body)),
        );
        let feeding = async {
            sender.send(vec![7; 100_000].into()).await.unwrap();
            eventually("the first half arrives while the second is not sent yet", || {
                registry.uploaded() - before >= 100_000
            })
            .await;
            sender.send(vec![8; 100_000].into()).await.unwrap();
            drop(sender);
        };
        let (answer, ()) = tokio::join!(sending, feeding);
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 202);
        answer.into_body().collect().await.unwrap();
        let manifest = format!(r#"{{"schemaVersion":2,"layers":[],"new":{h2}}}"#);
        let put = session
            .send("PUT", "/v2/a/manifests/1", &[("content-type", MANIFEST)], Body::full(manifest.clone()))
            .await
            .unwrap();
        assert_eq!(put.status(), 201);
        put.into_body().collect().await.unwrap();
        assert_eq!(session.get("/v2/a/manifests/1").await.bytes(), &manifest, "the old answer was forgotten");
    }
}

#[tokio::test]
async fn lists_and_referrers_pass_through_untouched() {
    let (registry, proxy) = quay().await;
    let digest = registry.push_manifest("a", Some("1"), MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    let referrers = format!("/v2/a/referrers/{digest}?artifactType=x");
    for path in ["/v2/a/tags/list?n=1", referrers.as_str(), "/v2/_catalog", "/some/page?x=y"] {
        let direct = Client::direct(registry.address()).session(QUAY).await.get(path).await;
        let through = proxy.client().session(QUAY).await.get(path).await;
        assert_eq!((through.status, &through.body), (direct.status, &direct.body), "{path}");
        assert_eq!(
            (through.header("link"), through.header("content-type")),
            (direct.header("link"), direct.header("content-type"))
        );
        assert_eq!(through.header("cache-status"), "pullthrough; fwd=bypass");
    }
}

#[tokio::test]
async fn http_1_0_keepalive_pipelines_and_long_heads_do_no_harm() {
    let (_registry, proxy) = quay().await;
    let heads: [&[u8]; 6] = [
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT HTTP/1.1\r\n\r\n",
        b"CONNECT /path HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET http://user:secret@127.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    for head in heads {
        let mut stream = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
        stream.write_all(head).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await; // a reset is an answer too
    }
    let mut session = proxy.client().plain_session("x:80").await;
    assert_eq!(session.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn plain_http_by_absolute_form_obeys_the_address_rules() {
    let plain = Registry::plain("files.example");
    plain.push_manifest("a", Some("1"), MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    let registry = Registry::start("quay.io");
    let port = plain.address().port();
    let allowed = format!("allow: ['127.0.0.1:{port}']");
    let proxy = Plan::new().registry(&registry, "").tunnel(&allowed).start().await;
    let mut session = proxy.client().plain_session(&format!("127.0.0.1:{port}")).await;
    let got = session.get(&format!("http://127.0.0.1:{port}/v2/a/manifests/1")).await;
    assert_eq!((got.status.as_u16(), got.bytes()[..].to_vec()), (200, br#"{"schemaVersion":2,"layers":[]}"#.to_vec()));
    for url in ["http://127.0.0.1:80/", "http://169.254.169.254/latest/meta-data/", "http://quay.io/v2/"] {
        let refused = get(&mut session, url, &[]).await;
        assert!(matches!(refused.status.as_u16(), 403 | 502 | 504), "{url}: {}", refused.status);
    }
    let metadata = get(&mut session, "http://169.254.169.254/", &[]).await;
    assert_eq!(metadata.status, 403);
}

#[tokio::test]
async fn the_proxy_itself_speaks_tls_and_h2_on_the_same_port() {
    let (_registry, proxy) = quay().await;
    let client = Client::direct(proxy.address()).trusting(&proxy.ca_file());
    for client in [client.clone(), client.h2()] {
        let mut session = client.session("localhost:443").await;
        assert_eq!(session.get("/healthz").await.status, 200);
    }
}

#[tokio::test]
async fn what_is_no_push_passes_whatever_its_method() {
    let (registry, proxy) = quay().await;
    let posted = proxy.client().session(QUAY).await.ask("POST", "/api/v1/signin", &[]).await;
    assert_ne!(posted.status, 405);
    assert_eq!(registry.count("POST /api/v1/signin"), 1);
}

#[tokio::test]
async fn a_ping_with_a_body_does_not_spoil_the_next_request_on_its_connection() {
    let (registry, proxy) = quay().await;
    for _ in 0..3 {
        let mut session = proxy.client().session(QUAY).await;
        let body = Body::full("GET /evil HTTP/1.1\r\nHost: quay.io\r\n\r\n");
        let answer = session.send("GET", "/v2/", &[], body).await.unwrap();
        assert_eq!(answer.status(), 400);
        answer.into_body().collect().await.unwrap();
        assert_ne!(proxy.client().get(QUAY, "/v2/a/tags/list").await.status, 400);
    }
    assert_eq!(registry.count("* /evil") + registry.count("GET /evil"), 0);
}

//! The transparent door: the name that TLS asks for decides, as the name in a CONNECT does.

use std::sync::Arc;

use pullthrough::proxy::Door;
use rustls::ClientConfig;
use rustls::client::{EchGreaseConfig, EchMode};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
use rustls::crypto::hpke::Hpke as _;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{from, rest};
use crate::pull::{QUAY, layer};
use crate::support::client::{Client, Session};
use crate::support::{Answering, Dns, Log, MANIFEST, Plan, Proxy, Registry, lab};

const OPEN: &str = "transparent: '127.0.0.1:0'";
/// A fatal alert in the clear.
const ALERT: [u8; 6] = [21, 3, 3, 0, 2, 2];
const ACCESS_DENIED: u8 = 49;
const UNRECOGNIZED_NAME: u8 = 112;

async fn reach(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.door(Door::Transparent)).await.unwrap()
}

async fn session(proxy: &Proxy, client: &Client, authority: &str) -> std::io::Result<Session> {
    client.session_over(reach(proxy).await, authority).await
}

async fn verdicts(proxy: &Proxy, verdict: &str) -> f64 {
    proxy.metric(&format!("pullthrough_connects_total{{verdict=\"{verdict}\"}}")).await
}

async fn failures(proxy: &Proxy, reason: &str) -> f64 {
    proxy.metric(&format!("pullthrough_client_handshake_failures_total{{reason=\"{reason}\"}}")).await
}

/// The answer to a ClientHello that asks for `name`, which is no handshake's.
async fn alert_to(proxy: &Proxy, name: &str) -> Vec<u8> {
    let mut client = hello(lab::client_config(&[&proxy.ca_file()], &[]), name);
    let mut stream = reach(proxy).await;
    let mut said = Vec::new();
    client.write_tls(&mut said).unwrap();
    stream.write_all(&said).await.unwrap();
    rest(&mut stream).await
}

fn hello(config: Arc<ClientConfig>, name: &str) -> rustls::ClientConnection {
    rustls::ClientConnection::new(config, ServerName::try_from(name.to_owned()).unwrap()).unwrap()
}

fn denied() -> Vec<u8> {
    [&ALERT[..], &[ACCESS_DENIED]].concat()
}

#[tokio::test]
async fn a_registry_that_is_asked_for_by_name_shares_its_download_with_connect() {
    let log = Log::begin();
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").doors(OPEN).start().await;
    let digest = registry.push_blob("a", layer(200_000, 1));
    let path = format!("/v2/a/blobs/{digest}");
    let (h1, h2) = (proxy.client(), proxy.client().h2());
    let (by_name, by_connect) = tokio::join!(session(&proxy, &h1, QUAY), h1.session(QUAY));
    let (mut by_name, mut by_connect) = (by_name.unwrap(), by_connect);
    let (first, second) = tokio::join!(by_name.get(&path), by_connect.get(&path));
    let third = session(&proxy, &h2, QUAY).await.unwrap().get(&path).await;
    for got in [&first, &second, &third] {
        assert!(got.bytes()[..] == layer(200_000, 1));
    }
    assert_eq!(registry.count(&format!("GET {path}")), 1);
    assert_eq!(verdicts(&proxy, "intercept").await, 3.0);
    assert_eq!(by_name.certificates, by_connect.certificates);
    let lines = log.lines("INFO", &["door=\"transparent\"", "kind=\"blob\"", "client=\"127.0.0.1\""]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    let misdirected = session(&proxy, &h1, QUAY).await.unwrap().naming("docker.io:443").get("/v2/").await;
    assert_eq!(misdirected.status, 421);
}

#[tokio::test]
async fn another_name_is_tunnelled_with_its_own_certificate_and_recorded() {
    let log = Log::begin();
    let (registry, other) = (Registry::start("quay.io"), Registry::start("example.com"));
    let proxy = Plan::new().registry(&registry, "").host("example.com", &other).doors(OPEN).start().await;
    other.push_manifest("a", Some("1"), MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    let client = proxy.client().trusting(&other.ca_file());
    let mut through = session(&proxy, &client, "example.com:443").await.unwrap();
    let direct = Client::direct(other.address()).session("example.com:443").await;
    assert_eq!(through.certificates, direct.certificates);
    assert_eq!(through.get("/v2/a/manifests/1").await.bytes(), r#"{"schemaVersion":2,"layers":[]}"#);
    assert_eq!(verdicts(&proxy, "tunnel").await, 1.0);
    drop(through);
    crate::support::eventually("the tunnel is recorded", || {
        log.lines("INFO", &["door=\"transparent\"", "outcome=\"tunnel\"", "host=\"example.com:443\""]).len() == 1
    })
    .await;
}

#[tokio::test]
async fn who_names_no_host_is_told_so_and_counted() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").doors(OPEN).start().await;
    let mut config = (*lab::client_config(&[&proxy.ca_file()], &[])).clone();
    config.enable_sni = false;
    let name = ServerName::try_from("quay.io").unwrap();
    let refused = TlsConnector::from(Arc::new(config)).connect(name, reach(&proxy).await).await.unwrap_err();
    assert!(refused.to_string().contains("UnrecognisedName"), "{refused}");
    let by_address = alert_to(&proxy, "192.0.2.1").await;
    assert_eq!(by_address, [&ALERT[..], &[UNRECOGNIZED_NAME]].concat(), "no name is asked for an address");
    assert_eq!(failures(&proxy, "no_name").await, 2.0);
    for plain in [&b"GET / HTTP/1.1\r\nhost: quay.io\r\n\r\n"[..], b"CONNECT quay.io:443 HTTP/1.1\r\n\r\n", b"\0"] {
        let mut stream = reach(&proxy).await;
        stream.write_all(plain).await.unwrap();
        assert_eq!(rest(&mut stream).await, b"", "{}", plain.escape_ascii());
    }
    assert_eq!(failures(&proxy, "not_tls").await, 3.0);
    let mut stream = reach(&proxy).await;
    stream.write_all(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00").await.unwrap();
    assert_eq!(rest(&mut stream).await[..6], ALERT);
    assert_eq!(failures(&proxy, "protocol").await, 1.0);
    let mut cut = reach(&proxy).await;
    cut.write_all(b"\x16\x03\x01").await.unwrap();
    cut.shutdown().await.unwrap();
    assert_eq!(rest(&mut cut).await, b"");
    assert_eq!(registry.connections(), 0);
}

#[tokio::test]
async fn a_hello_with_ech_or_in_single_bytes_says_its_name_as_well() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").doors(OPEN).start().await;
    let suite = DH_KEM_X25519_HKDF_SHA256_AES_128;
    let (placeholder, _) = suite.generate_key_pair().unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_pki_certificates(&proxy) {
        roots.add(certificate).unwrap();
    }
    let grease = ClientConfig::builder_with_provider(provider)
        .with_ech(EchMode::Grease(EchGreaseConfig::new(suite, placeholder)))
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("quay.io").unwrap();
    TlsConnector::from(Arc::new(grease)).connect(name, reach(&proxy).await).await.unwrap();
    let mut client = hello(lab::client_config(&[&proxy.ca_file()], &[]), "quay.io");
    let (mut said, mut stream) = (Vec::new(), reach(&proxy).await);
    client.write_tls(&mut said).unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in said {
        stream.write_all(&[byte]).await.unwrap();
    }
    let mut answer = [0; 6];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await.unwrap();
    assert_eq!((answer[0], answer[5]), (22, 2), "a ServerHello");
}

fn rustls_pki_certificates(proxy: &Proxy) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject as _;
    let read = rustls::pki_types::CertificateDer::pem_file_iter(proxy.ca_file()).unwrap();
    read.map(Result::unwrap).collect()
}

#[tokio::test]
async fn what_a_connect_would_be_refused_is_an_alert_and_reaches_nobody() {
    let log = Log::begin();
    let (registry, other) = (Registry::start("quay.io"), Registry::start("example.com"));
    let dns = Dns::start(Answering::Truly).await.knows("inside.example", &["10.0.0.1"], 60).knows(
        "loop.example",
        &["127.0.0.1"],
        60,
    );
    let plan = Plan::new().registry(&registry, "").host("example.com", &other).doors(OPEN);
    let resolvers = format!("resolvers: '{}'", dns.address());
    let proxy = plan.tunnel("deny: [example.com]").upstream(&resolvers).start().await;
    for name in ["example.com", "inside.example", "loop.example"] {
        assert_eq!(alert_to(&proxy, name).await, denied(), "{name}");
        let lines = log.lines("INFO", &["door=\"transparent\"", "outcome=\"refuse\"", "status=403", name]);
        assert_eq!(lines.len(), 1, "{name}: {lines:?}");
    }
    assert_eq!(verdicts(&proxy, "refuse").await, 3.0);
    assert_eq!((alert_to(&proxy, "unknown.example").await[6], other.connections()), (80, 0));
    assert_eq!(verdicts(&proxy, "failed").await, 1.0);
}

#[tokio::test]
async fn the_port_that_a_balancer_tells_is_meant_and_its_address_is_never_dialled() {
    let (registry, other) = (Registry::start("quay.io"), Registry::start("example.com"));
    let port = other.address().port();
    let dns = Dns::start(Answering::Truly).await.knows("example.com", &["127.0.0.1"], 60);
    let plan = Plan::new()
        .registry(&registry, "")
        .doors("transparent: '127.0.0.1:0', proxy_protocol: [127.0.0.5]")
        .tunnel(&format!("allow: ['example.com:{port}', '127.0.0.1']"));
    let proxy = plan.upstream(&format!("resolvers: '{}'", dns.address())).start().await;
    let client = proxy.client().trusting(&other.ca_file());
    let reach = async |to: String| {
        let mut stream = from("127.0.0.5", proxy.door(Door::Transparent)).await;
        stream.write_all(format!("PROXY TCP4 127.0.0.9 {to}\r\n").as_bytes()).await.unwrap();
        client.session_over(stream, "example.com:443").await
    };
    let session = reach(format!("192.0.2.1 5000 {port}")).await.unwrap();
    let direct = Client::direct(other.address()).session("example.com:443").await;
    assert_eq!(session.certificates, direct.certificates);
    // Neither the address of another server, which has no such port, nor a port that is our own.
    let own = proxy.address().port();
    let refused = reach(format!("127.0.0.1 5000 {own}")).await.err().unwrap();
    assert!(refused.to_string().contains("AccessDenied"), "{refused}");
    let refused = reach("127.0.0.1 5000 22".to_owned()).await.err().unwrap();
    assert!(refused.to_string().contains("AccessDenied"), "{refused}");
    assert_eq!(other.connections(), 2, "ours, and the direct one");
}

#[tokio::test]
async fn our_own_listeners_are_never_reached_by_name_either() {
    let registry = Registry::start("quay.io");
    let dns = Dns::start(Answering::Truly).await.knows("loop.example", &["127.0.0.1"], 60);
    let all = "allow: [loop.example, 127.0.0.1]";
    let plan = Plan::new().registry(&registry, "").doors("transparent: '127.0.0.1:0', proxy_protocol: [127.0.0.5]");
    let proxy = plan.tunnel(all).upstream(&format!("resolvers: '{}'", dns.address())).start().await;
    let mut stream = from("127.0.0.5", proxy.door(Door::Transparent)).await;
    let header = format!("PROXY TCP4 127.0.0.9 192.0.2.1 5000 {}\r\n", proxy.address().port());
    stream.write_all(header.as_bytes()).await.unwrap();
    let refused = proxy.client().session_over(stream, "loop.example:443").await.err().unwrap();
    assert!(refused.to_string().contains("AccessDenied"), "{refused}");
    assert_eq!(verdicts(&proxy, "refuse").await, 1.0);
}

#[tokio::test]
async fn strangers_and_connections_beyond_the_limit_are_told_so() {
    let registry = Registry::start("quay.io");
    let plan = Plan::new().registry(&registry, "").doors(OPEN);
    let proxy = plan.clients("allow: [127.0.0.1/32], connections_each: 2").start().await;
    let stranger = from("127.0.0.7", proxy.door(Door::Transparent)).await;
    let refused = proxy.client().session_over(stranger, QUAY).await.err().unwrap();
    assert!(refused.to_string().contains("AccessDenied"), "{refused}");
    assert_eq!(verdicts(&proxy, "stranger").await, 1.0);
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(session(&proxy, &proxy.client(), QUAY).await.unwrap());
    }
    let refused = session(&proxy, &proxy.client(), QUAY).await.unwrap().get("/v2/").await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "5"));
    assert_eq!(alert_to(&proxy, "example.com").await[..7], [&ALERT[..], &[80]].concat(), "a tunnel is not tried");
    assert_eq!(registry.count("GET /v2/"), 0);
}

#[tokio::test]
async fn a_stop_waits_for_no_connection_that_has_not_named_a_host() {
    let registry = Registry::start("quay.io");
    let mut proxy = Plan::new().registry(&registry, "").doors(OPEN).start().await;
    let mut silent = reach(&proxy).await;
    let mut idle = session(&proxy, &proxy.client(), QUAY).await.unwrap();
    assert_eq!(idle.get("/v2/").await.status, 200);
    assert!(proxy.stop().await);
    assert_eq!(rest(&mut silent).await, b"");
}

//! What carries a CONNECT: TLS to the proxy itself, HTTP/1.1 or HTTP/2, and both in each other.

use http::{Request, StatusCode};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pullthrough::wire::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::open;
use crate::pull::{QUAY, layer};
use crate::support::client::Client;
use crate::support::{Plan, Proxy, Registry, eventually, lab};

/// TLS to the proxy itself, by this offer of protocols.
async fn https(proxy: &Proxy, alpn: &[&[u8]]) -> tokio_rustls::client::TlsStream<TcpStream> {
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    let config = lab::client_config(&[&proxy.ca_file()], alpn);
    TlsConnector::from(config).connect("localhost".try_into().unwrap(), stream).await.unwrap()
}

async fn h2<S>(stream: S) -> http2::SendRequest<Body>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// The bytes behind a CONNECT of HTTP/2, or its status.
async fn connect(
    sender: &mut http2::SendRequest<Body>,
    authority: &str,
) -> Result<TokioIo<hyper::upgrade::Upgraded>, StatusCode> {
    let request = Request::connect(authority).body(Body::empty()).unwrap();
    sender.ready().await.unwrap();
    let answer = sender.send_request(request).await.unwrap();
    if answer.status() != 200 {
        return Err(answer.status());
    }
    Ok(TokioIo::new(hyper::upgrade::on(answer).await.unwrap()))
}

#[tokio::test]
async fn a_connect_of_http_1_is_answered_over_tls_that_has_agreed_on_http_2() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").start().await;
    let digest = registry.push_blob("a", layer(100_000, 1));
    let mut stream = https(&proxy, &[b"h2", b"http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "as Go's client would");
    open(&mut stream).await;
    let mut session = proxy.client().h2().session_over(stream, QUAY).await.unwrap();
    let got = session.get(&format!("/v2/a/blobs/{digest}")).await;
    assert!(got.bytes()[..] == layer(100_000, 1));
}

#[tokio::test]
async fn connects_of_one_http_2_connection_pull_and_tunnel_side_by_side() {
    let (registry, other) = (Registry::start("quay.io"), Registry::start("example.com"));
    let proxy = Plan::new().registry(&registry, "").host("example.com", &other).start().await;
    let bytes = layer(3_000_000, 1);
    let path = format!("/v2/a/blobs/{}", registry.push_blob("a", bytes.clone()));
    let over_tls = h2(https(&proxy, &[b"h2"]).await).await;
    let in_the_clear = h2(TcpStream::connect(proxy.address()).await.unwrap()).await;
    for mut sender in [over_tls, in_the_clear] {
        let (first, second) = (connect(&mut sender, QUAY).await.unwrap(), connect(&mut sender, QUAY).await.unwrap());
        let (h1, h2) = (proxy.client(), proxy.client().h2());
        let (first, second) = tokio::join!(h1.session_over(first, QUAY), h2.session_over(second, QUAY));
        let (mut first, mut second) = (first.unwrap(), second.unwrap());
        let (one, two) = tokio::join!(first.get(&path), second.get(&path));
        assert!(one.bytes()[..] == bytes && two.bytes()[..] == bytes);
        let third = connect(&mut sender, "example.com:443").await.unwrap();
        let client = proxy.client().trusting(&other.ca_file());
        let through = client.session_over(third, "example.com:443").await.unwrap();
        assert_eq!(through.certificates, Client::direct(other.address()).session("example.com:443").await.certificates);
        for (authority, status) in [("169.254.169.254:443", 403), ("example.com:22", 403)] {
            assert_eq!(connect(&mut sender, authority).await.unwrap_err(), status, "{authority}");
        }
        let page = Request::get(format!("http://{}/healthz", proxy.address())).body(Body::empty()).unwrap();
        let page = sender.send_request(page).await.unwrap();
        assert!(matches!(page.status().as_u16(), 200 | 403), "{}", page.status());
    }
    assert_eq!(registry.count(&format!("GET {path}")), 1);
}

#[tokio::test]
async fn connections_inside_one_of_http_2_are_counted_as_tunnels() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").clients("streams: 16, streams_each: 8").start().await;
    let mut sender = h2(TcpStream::connect(proxy.address()).await.unwrap()).await;
    let (mut open, mut refused) = (Vec::new(), 0);
    for _ in 0..40 {
        match connect(&mut sender, QUAY).await {
            Ok(stream) => open.push(stream),
            Err(status) => {
                assert!(matches!(status.as_u16(), 429 | 503), "{status}");
                refused += 1;
            }
        }
    }
    assert!(open.len() <= 8 && refused >= 32, "{} open", open.len());
    drop(open);
    eventually("there is room again", || true).await;
    crate::support::until("there is room again", async || connect(&mut sender, QUAY).await.is_ok()).await;
}

//! No registry ever reads a request that nobody made, whatever a client says of the length of its body.
//!
//! Every kind of request that the proxy sends on is put with every framing that could leave bytes between two requests.
//! In those bytes is a request for a path that nobody asks for otherwise. After each, somebody else asks for something
//! of a name of its own: that, and nothing else, is what the registry must act on and answer.

use std::io::{self, ErrorKind};

use serde_json::json;

use super::acting::Upstream;
use crate::lab::Lab;
use crate::proxy::Proxy;
use crate::raw::Raw;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// Is in a log only if its request was taken for one.
const SMUGGLED: &str = "smuggled";

#[test]
fn nginx_reads_no_request_that_nobody_made() {
    attack(Upstream::nginx);
}

#[test]
fn nginx_by_http2_reads_no_request_that_nobody_made() {
    attack(Upstream::nginx_h2);
}

#[test]
fn a_go_server_reads_no_request_that_nobody_made() {
    attack(Upstream::go_h1);
}

#[test]
fn a_go_server_by_http2_reads_no_request_that_nobody_made() {
    attack(Upstream::go);
}

#[test]
fn distribution_reads_no_request_that_nobody_made() {
    attack(Upstream::distribution_h1);
}

#[test]
fn distribution_by_http2_reads_no_request_that_nobody_made() {
    attack(Upstream::distribution);
}

/// Requests of every kind that goes on: what is read and not cached, what is cached, tokens, pages and pushes.
fn targets() -> Vec<(&'static str, String)> {
    let reads = [
        "/v2/".to_owned(),
        "/v2/a/tags/list".to_owned(),
        format!("/v2/a/referrers/{DIGEST}"),
        "/v2/a/manifests/1".to_owned(),
        format!("/v2/a/blobs/{DIGEST}"),
        "/v2/a/blobs/uploads/1".to_owned(),
        "/v2/_catalog".to_owned(),
        "/v2/auth?service=x".to_owned(),
        "/page".to_owned(),
    ];
    let pushes = [
        ("PUT", "/v2/a/manifests/1"),
        ("DELETE", "/v2/a/manifests/1"),
        ("POST", "/v2/a/blobs/uploads/"),
        ("PATCH", "/v2/a/blobs/uploads/1"),
        ("PUT", "/v2/a/blobs/uploads/1?digest=x"),
        ("POST", "/v2/auth"),
        ("POST", "/page"),
    ];
    let read = reads.into_iter().flat_map(|path| [("GET", path.clone()), ("HEAD", path)]);
    read.chain(pushes.map(|(method, path)| (method, path.to_owned()))).collect()
}

/// The fields and the bytes behind the head, by HTTP/1.1.
fn framings(smuggled: &str) -> Vec<String> {
    let length = smuggled.len();
    vec![
        format!("content-length: {length}\r\n\r\n"),
        format!("content-length: {length}\r\n\r\n{smuggled}"),
        format!("content-length: {length}\r\nexpect: 100-continue\r\n\r\n"),
        format!("content-length: {length}\r\nexpect: 100-continue\r\n\r\n{smuggled}"),
        format!("content-length: 0\r\ncontent-length: {length}\r\n\r\n{smuggled}"),
        format!("connection: content-length\r\ncontent-length: {length}\r\n\r\n{smuggled}"),
        format!("connection: transfer-encoding\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("transfer-encoding: chunked\r\n\r\n{length:x}\r\n{smuggled}\r\n0\r\n\r\n"),
        format!("transfer-encoding: chunked\r\n\r\n{length:x};x\r\n{smuggled}\r\n"), // and no end
        format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("content-length: 4\r\ntransfer-encoding: identity\r\n\r\nabcd{smuggled}"),
        format!("transfer-encoding: xchunked\r\ncontent-length: {length}\r\n\r\n{smuggled}"),
        format!("transfer-encoding : chunked\r\ncontent-length: {length}\r\n\r\n{smuggled}"),
        format!("upgrade: h2c\r\nconnection: upgrade\r\ncontent-length: {length}\r\n\r\n{smuggled}"),
    ]
}

fn attack(start: fn(&Lab) -> Upstream) {
    let lab = Lab::new();
    let upstream = start(&lab);
    let proxy = Proxy::with(&lab, |config| {
        let endpoint = json!({
            "url": format!("https://{}", upstream.host), "address": upstream.address, "ca_file": lab.ca_file(),
        });
        config["registries"] = json!({ upstream.host: { "endpoints": [endpoint], "push": "allow" } });
        config["upstream"] = json!({ "resolvers": ["127.0.10.53"] }); // where nobody listens
        config["tunnel"] = json!({ "default": "deny" });
    });
    let host = upstream.host;
    let raw = Raw::new(proxy.listen, &proxy.ca_file());
    let smuggled = format!("GET /v2/{SMUGGLED}/tags/list HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let mut victims = 0;
    for (method, path) in targets() {
        for framing in framings(&smuggled) {
            let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
            hang_up(
                raw.tunnel(None, &format!("{host}:443"), false).and_then(|it| it.say((head + &framing).as_bytes())),
            );
            victims += victim(&raw, host, victims);
        }
        by_h2(&raw, host, method, &path, smuggled.as_bytes());
        victims += victim(&raw, host, victims);
    }
    let acted = upstream.acted();
    let of_victims = acted.iter().filter(|acted| acted.name.starts_with("victim/")).count();
    assert!(!acted.iter().any(|acted| acted.raw.contains(SMUGGLED)), "{acted:#?}");
    assert_eq!(of_victims, victims, "each of them was answered by the registry, once");
}

/// By HTTP/2, where the end of a body is not told by its length: a length too long, too short, and without a body.
fn by_h2(raw: &Raw, host: &str, method: &str, path: &str, smuggled: &[u8]) {
    for length in ["0", "1", "9999"] {
        for body in [None, Some(smuggled)] {
            let fields: [(&[u8], &[u8]); 5] = [
                (b":method", method.as_bytes()),
                (b":scheme", b"https"),
                (b":authority", host.as_bytes()),
                (b":path", path.as_bytes()),
                (b"content-length", length.as_bytes()),
            ];
            let tunnel = raw.tunnel(None, &format!("{host}:443"), true);
            hang_up(tunnel.and_then(|mut tunnel| match body {
                None => tunnel.ask_h2(&fields),
                Some(body) => tunnel.ask_h2_with(&fields, body),
            }));
        }
    }
}

/// What the proxy answers, and whether it does, is told elsewhere.
fn hang_up<T>(ended: io::Result<T>) {
    if let Err(error) = ended {
        let kinds = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
        assert!(kinds.contains(&error.kind()), "{error}");
    }
}

/// Asks for a list that is not cached; 1, as one more has asked.
fn victim(raw: &Raw, host: &str, number: usize) -> usize {
    let request = format!("GET /v2/victim/v{number}/tags/list HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let answer = raw.tunnel(None, &format!("{host}:443"), false).and_then(|mut it| it.whole(request.as_bytes()));
    let answer = answer.unwrap();
    assert!(matches!(answer.head.status, 200 | 404), "{:?}", answer.head);
    let body = String::from_utf8_lossy(&answer.body);
    assert!(!body.contains(SMUGGLED), "{body}");
    1
}

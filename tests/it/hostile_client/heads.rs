//! Request lines and heads that are malformed, odd, or too much, at every door of HTTP/1.1.

use super::door::{Door, Honest};
use super::site::Site;
use super::table::Observed;

/// A kind's name, and its bytes.
type Kind = (&'static str, fn(&Honest) -> Vec<u8>);

/// A head of this request line, with a good Host and these lines behind it.
fn head(line: &str, host: &str, more: &str) -> Vec<u8> {
    format!("{line}\r\nHost: {host}\r\n{more}\r\n").into_bytes()
}

/// An honest head with these lines more.
fn with(h: &Honest, more: &str) -> Vec<u8> {
    head(&format!("{} {} HTTP/1.1", h.method, h.target), &h.host, more)
}

/// An honest head with another Host, or none.
fn hosts(h: &Honest, lines: &str) -> Vec<u8> {
    format!("{} {} HTTP/1.1\r\n{lines}\r\n", h.method, h.target).into_bytes()
}

/// An honest head with another request line.
fn line(h: &Honest, line: &str) -> Vec<u8> {
    head(&line.replace("METHOD", h.method).replace("TARGET", &h.target), &h.host, "")
}

/// With bytes put in for `@`.
fn bytes(mut text: Vec<u8>, into: &[u8]) -> Vec<u8> {
    let at = text.iter().position(|byte| *byte == b'@').unwrap();
    text.splice(at..=at, into.iter().copied());
    text
}

const LINES: &[Kind] = &[
    ("honest", |h| with(h, "")),
    ("no version", |h| line(h, "METHOD TARGET")),
    ("HTTP/1.0", |h| line(h, "METHOD TARGET HTTP/1.0")),
    ("HTTP/1.2", |h| line(h, "METHOD TARGET HTTP/1.2")),
    ("HTTP/9.9", |h| line(h, "METHOD TARGET HTTP/9.9")),
    ("version in lower case", |h| line(h, "METHOD TARGET http/1.1")),
    ("version of another protocol", |h| line(h, "METHOD TARGET RTSP/1.0")),
    ("empty lines first", |h| [b"\r\n\r\n".to_vec(), with(h, "")].concat()),
    ("a space first", |h| line(h, " METHOD TARGET HTTP/1.1")),
    ("two spaces in the line", |h| line(h, "METHOD  TARGET HTTP/1.1")),
    ("a tab in the line", |h| line(h, "METHOD\tTARGET HTTP/1.1")),
    ("a space behind the line", |h| line(h, "METHOD TARGET HTTP/1.1 ")),
    ("a space in the target", |h| line(h, "METHOD TARGET /x HTTP/1.1")),
    ("no target", |h| line(h, "METHOD HTTP/1.1")),
    ("no method", |h| line(h, "TARGET HTTP/1.1")),
    ("LF alone", |h| with(h, "").into_iter().filter(|byte| *byte != b'\r').collect()),
    ("CR alone", |h| [with(h, "").into_iter().filter(|byte| *byte != b'\n').collect(), b"\r\n\r\n".to_vec()].concat()),
    ("an HTTP/2 preface and garbage", |_| b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage garbage garbage".to_vec()),
    ("half an HTTP/2 preface and HTTP/1.1", |h| [b"PRI * HTTP/2.0\r\n\r\n".to_vec(), with(h, "")].concat()),
    ("garbage", |_| b"\xff\xfe\x00\x01garbage\r\n\r\n".to_vec()),
    ("a method of 300 letters", |h| line(h, &format!("{} TARGET HTTP/1.1", "M".repeat(300)))),
    ("a method in lower case", |h| line(h, "get TARGET HTTP/1.1")),
    ("a made-up method", |h| line(h, "BREW TARGET HTTP/1.1")),
    ("a method with a slash", |h| line(h, "GE/T TARGET HTTP/1.1")),
    ("TRACE", |h| line(h, "TRACE TARGET HTTP/1.1")),
    ("OPTIONS", |h| line(h, "OPTIONS TARGET HTTP/1.1")),
    ("OPTIONS *", |h| line(h, "OPTIONS * HTTP/1.1")),
    ("GET *", |h| line(h, "GET * HTTP/1.1")),
    ("CONNECT of the target", |h| line(h, "CONNECT TARGET HTTP/1.1")),
    ("GET of an authority", |h| line(h, "GET quay.io:443 HTTP/1.1")),
    ("GET without a slash", |h| line(h, "GET healthz HTTP/1.1")),
    ("GET of an https URL", |h| line(h, "GET https://quay.io/v2/open/app/tags/list HTTP/1.1")),
    ("GET of an ftp URL", |h| line(h, "GET ftp://quay.io/v2/ HTTP/1.1")),
    ("GET of a URL without a host", |h| line(h, "GET http:///v2/ HTTP/1.1")),
    ("GET of another host's URL", |h| line(h, "GET http://evil.example/v2/ HTTP/1.1")),
    ("a fragment in the target", |h| line(h, "METHOD TARGET#/v2/x HTTP/1.1")),
    ("a broken escape in the target", |h| line(h, "METHOD TARGET%zz HTTP/1.1")),
    ("an escaped NUL in the target", |h| line(h, "METHOD TARGET%00 HTTP/1.1")),
    ("a NUL in the target", |h| bytes(line(h, "METHOD TARGET@ HTTP/1.1"), b"\0")),
    ("a DEL in the target", |h| bytes(line(h, "METHOD TARGET@ HTTP/1.1"), b"\x7f")),
    ("letters beyond ASCII in the target", |h| line(h, "METHOD TARGETé HTTP/1.1")),
    ("bytes that are no UTF-8 in the target", |h| bytes(line(h, "METHOD TARGET@ HTTP/1.1"), b"\xc3\x28")),
    ("a backslash in the target", |h| line(h, "METHOD TARGET\\..\\x HTTP/1.1")),
    ("a quotation mark in the target", |h| line(h, "METHOD TARGET\"x HTTP/1.1")),
    ("a target of 70,000 letters", |h| line(h, &format!("METHOD TARGET?{} HTTP/1.1", "x".repeat(70_000)))),
];

const FIELDS: &[Kind] = &[
    ("no Host", |h| hosts(h, "")),
    ("an empty Host", |h| hosts(h, "Host:\r\n")),
    ("a Host with a space", |h| hosts(h, "Host: a b\r\n")),
    ("a Host with a path", |h| hosts(h, &format!("Host: {}/x\r\n", h.host))),
    ("a Host with a user", |h| hosts(h, &format!("Host: evil.example@{}\r\n", h.host))),
    ("a Host that is a URL", |h| hosts(h, &format!("Host: https://{}\r\n", h.host))),
    ("a Host that is a list", |h| hosts(h, &format!("Host: {}, {}\r\n", h.host, h.host))),
    ("a Host with a wrong port", |h| hosts(h, "Host: localhost:99999\r\n")),
    ("a Host with an empty port", |h| hosts(h, "Host: localhost:\r\n")),
    ("a Host with half a bracket", |h| hosts(h, "Host: [::1\r\n")),
    ("a Host of bytes that are no UTF-8", |h| bytes(hosts(h, "Host: @\r\n"), b"\xff\xfe")),
    ("a Host of 300 letters", |h| hosts(h, &format!("Host: {}\r\n", "h".repeat(300)))),
    ("another Host", |h| hosts(h, "Host: evil.example\r\n")),
    ("the same Host twice", |h| with(h, &format!("Host: {}\r\n", h.host))),
    ("two Hosts", |h| with(h, "Host: evil.example\r\n")),
    ("a Host that Connection names", |h| with(h, "Connection: host\r\n")),
    ("a field without a colon", |h| with(h, "X-Field\r\n")),
    ("a field without a name", |h| with(h, ": x\r\n")),
    ("a space before the colon", |h| with(h, "X-Field : x\r\n")),
    ("a space in a name", |h| with(h, "X Field: x\r\n")),
    ("a folded field", |h| with(h, "X-Field: a\r\n b\r\n")),
    ("a fold behind the request line", |h| {
        format!("{} {} HTTP/1.1\r\n X: y\r\nHost: {}\r\n\r\n", h.method, h.target, h.host).into_bytes()
    }),
    ("a NUL in a value", |h| bytes(with(h, "X-Field: a@b\r\n"), b"\0")),
    ("a NUL in a name", |h| bytes(with(h, "X-Fi@eld: a\r\n"), b"\0")),
    ("a CR in a value", |h| bytes(with(h, "X-Field: a@b\r\n"), b"\r")),
    ("an escape sequence in a value", |h| bytes(with(h, "X-Field: a@[31mb\r\n"), b"\x1b")),
    ("bytes beyond ASCII in a value", |h| bytes(with(h, "X-Field: a@b\r\n"), b"\xff\x80")),
    ("an empty value", |h| with(h, "X-Field:\r\n")),
    ("a value of 70,000 letters", |h| with(h, &format!("X-Field: {}\r\n", "x".repeat(70_000)))),
    ("a name of 70,000 letters", |h| with(h, &format!("{}: x\r\n", "x".repeat(70_000)))),
    ("200 fields", |h| with(h, &"X-Field: x\r\n".repeat(200))),
    ("a head of 1 MB", |h| with(h, &format!("X-Field: {}\r\n", "x".repeat(900)).repeat(1100))),
    ("Upgrade: h2c", |h| {
        with(h, "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n")
    }),
    ("Upgrade: websocket", |h| {
        with(
            h,
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
        )
    }),
    ("Expect: 100-continue", |h| with(h, "Expect: 100-continue\r\n")),
    ("Expect: something unknown", |h| with(h, "Expect: a-miracle\r\n")),
    ("Max-Forwards: 0", |h| with(h, "Max-Forwards: 0\r\n")),
    ("Connection: close", |h| with(h, "Connection: close\r\n")),
    ("Connection: keep-alive and close", |h| with(h, "Connection: keep-alive\r\nConnection: close\r\n")),
    ("Keep-Alive and Proxy-Connection", |h| with(h, "Keep-Alive: timeout=9999\r\nProxy-Connection: keep-alive\r\n")),
    ("TE: trailers, gzip", |h| with(h, "TE: trailers, gzip\r\nConnection: TE\r\n")),
    ("two requests at once", |h| with(h, "").repeat(2)),
    ("twenty requests at once", |h| with(h, "").repeat(20)),
];

/// The method that an answer is for, where that decides about its body.
fn method_of(bytes: &[u8]) -> &'static str {
    if bytes.trim_ascii_start().starts_with(b"CONNECT ") { "CONNECT" } else { "GET" }
}

async fn compare(kinds: &[Kind], expected: &str) {
    let site = Site::new("").await;
    let mut observed = Observed::at(Door::ALL.map(Door::name).to_vec());
    for (name, write) in kinds {
        let mut cells = Vec::new();
        for door in Door::ALL {
            let bytes = write(&door.honest(&site));
            cells.push(door.try_out(&site, &bytes, method_of(&bytes)).await);
        }
        observed.row(name, cells);
        site.is_well(name).await;
    }
    for seen in site.registry.requests().into_iter().chain(site.files.requests()) {
        for field in ["connection", "content-length", "expect", "te", "transfer-encoding", "upgrade", "keep-alive"] {
            assert!(!seen.headers.contains_key(field), "{field} went upstream: {seen:?}");
        }
        assert_eq!(seen.headers.get_all("host").iter().count() + usize::from(seen.version == http::Version::HTTP_2), 1);
    }
    observed.compare(expected);
}

#[tokio::test]
async fn request_lines_are_answered_at_every_door_as_the_table_says() {
    compare(LINES, include_str!("lines.txt")).await;
}

#[tokio::test]
async fn fields_are_answered_at_every_door_as_the_table_says() {
    compare(FIELDS, include_str!("fields.txt")).await;
}

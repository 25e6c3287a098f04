//! Bodies whose framing is wrong, ambiguous or where none belongs, with a GET and with a PUT at every door.
//!
//! At the doors where a PUT passes, what counts is what an upstream took as whole; and it has to be the very bytes.

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use pullthrough::wire::{Body, BodyError};

use super::door::{Door, Honest};
use super::site::{QUAY, Site};
use super::table::Observed;

/// What is sent where a body goes: the control socket understands it, and a registry takes it for a manifest.
const BODY: &str = r#"{"command":"stats"}"#; // 19 bytes, 0x13

/// A kind's name, and what stands behind the fields of an honest head.
type Kind = (&'static str, fn() -> Vec<u8>);

fn sized(fields: &str) -> Vec<u8> {
    format!("{fields}\r\n{BODY}").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    with_coding("Transfer-Encoding: chunked\r\n", body)
}

fn with_coding(fields: &str, body: &str) -> Vec<u8> {
    format!("{fields}\r\n{body}").into_bytes()
}

fn chunks() -> String {
    format!("13\r\n{BODY}\r\n0\r\n\r\n")
}

const KINDS: &[Kind] = &[
    ("a length and a body", || sized("Content-Length: 19\r\n")),
    ("a length of 0", || b"Content-Length: 0\r\n\r\n".to_vec()),
    ("a length of 00019", || sized("Content-Length: 00019\r\n")),
    ("the same length twice", || sized("Content-Length: 19\r\nContent-Length: 19\r\n")),
    ("a list of equal lengths", || sized("Content-Length: 19, 19\r\n")),
    ("two lengths, the first true", || sized("Content-Length: 19\r\nContent-Length: 5\r\n")),
    ("two lengths, the last true", || sized("Content-Length: 5\r\nContent-Length: 19\r\n")),
    ("a list of two lengths", || sized("Content-Length: 19, 5\r\n")),
    ("a negative length", || sized("Content-Length: -19\r\n")),
    ("a length with a sign", || sized("Content-Length: +19\r\n")),
    ("a length in hexadecimal", || sized("Content-Length: 0x13\r\n")),
    ("a length with a space in it", || sized("Content-Length: 1 9\r\n")),
    ("a length of nothing", || sized("Content-Length:\r\n")),
    ("a length in other digits", || sized("Content-Length: １９\r\n")),
    ("a length of 2^64", || sized("Content-Length: 18446744073709551616\r\n")),
    ("a length of 40 digits", || sized(&format!("Content-Length: {}\r\n", "9".repeat(40)))),
    ("chunks", || chunked(&chunks())),
    ("no chunk but the last", || chunked("0\r\n\r\n")),
    ("chunks, and a length behind", || with_coding("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", &chunks())),
    ("chunks, and a length before", || with_coding("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", &chunks())),
    ("CHUNKED", || with_coding("Transfer-Encoding: CHUNKED\r\n", &chunks())),
    ("chunked twice in a list", || with_coding("Transfer-Encoding: chunked, chunked\r\n", &chunks())),
    ("chunked twice", || with_coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", &chunks())),
    ("gzip", || with_coding("Transfer-Encoding: gzip\r\n", &chunks())),
    ("gzip, chunked", || with_coding("Transfer-Encoding: gzip, chunked\r\n", &chunks())),
    ("gzip and chunked in two fields", || {
        with_coding("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", &chunks())
    }),
    ("chunked, gzip", || with_coding("Transfer-Encoding: chunked, gzip\r\n", &chunks())),
    ("chunked, then identity", || {
        with_coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", &chunks())
    }),
    ("identity and a length", || sized("Transfer-Encoding: identity\r\nContent-Length: 19\r\n")),
    ("identity, chunked", || with_coding("Transfer-Encoding: identity, chunked\r\n", &chunks())),
    ("xchunked", || with_coding("Transfer-Encoding: xchunked\r\n", &chunks())),
    ("x chunked", || with_coding("Transfer-Encoding: x chunked\r\n", &chunks())),
    ("chunked with a parameter", || with_coding("Transfer-Encoding: chunked;q=0.5\r\n", &chunks())),
    ("chunked in quotation marks", || with_coding("Transfer-Encoding: \"chunked\"\r\n", &chunks())),
    ("chunked behind a tab", || with_coding("Transfer-Encoding:\tchunked\r\n", &chunks())),
    ("chunked behind an empty element", || with_coding("Transfer-Encoding: , chunked\r\n", &chunks())),
    ("no coding at all", || with_coding("Transfer-Encoding:\r\n", &chunks())),
    ("a chunk extension", || chunked(&format!("13;name=\"va\\\"lue\";x\r\n{BODY}\r\n0;y\r\n\r\n"))),
    ("a chunk extension with an LF", || chunked(&format!("13;a\nb\r\n{BODY}\r\n0\r\n\r\n"))),
    ("a chunk extension of 100,000 letters", || chunked(&format!("13;{}\r\n{BODY}\r\n0\r\n\r\n", "x".repeat(100_000)))),
    ("a chunk size with leading zeros", || chunked(&format!("{}13\r\n{BODY}\r\n0\r\n\r\n", "0".repeat(10)))),
    ("a chunk size with 0x", || chunked(&format!("0x13\r\n{BODY}\r\n0\r\n\r\n"))),
    ("a negative chunk size", || chunked(&format!("-13\r\n{BODY}\r\n0\r\n\r\n"))),
    ("a chunk size with a space before", || chunked(&format!(" 13\r\n{BODY}\r\n0\r\n\r\n"))),
    ("a chunk size with a space behind", || chunked(&format!("13 \r\n{BODY}\r\n0\r\n\r\n"))),
    ("no chunk size", || chunked(&format!("\r\n{BODY}\r\n0\r\n\r\n"))),
    ("a chunk size of 2^64", || chunked(&format!("10000000000000000\r\n{BODY}\r\n0\r\n\r\n"))),
    ("a chunk size of 2^64 and 19", || chunked(&format!("10000000000000013\r\n{BODY}\r\n0\r\n\r\n"))),
    ("a chunk that is longer than said", || chunked(&format!("12\r\n{BODY}\r\n0\r\n\r\n"))),
    ("a chunk that is shorter than said", || chunked(&format!("14\r\n{BODY}\r\n0\r\n\r\n"))),
    ("LF alone in chunks", || chunked(&format!("13\n{BODY}\n0\n\n"))),
    ("a trailer", || chunked(&format!("13\r\n{BODY}\r\n0\r\nX-Trailer: x\r\n\r\n"))),
    ("a trailer that frames", || chunked(&format!("13\r\n{BODY}\r\n0\r\nContent-Length: 5\r\n\r\n"))),
    ("a trailer that authorizes", || chunked(&format!("13\r\n{BODY}\r\n0\r\nAuthorization: Basic YTpi\r\n\r\n"))),
    ("a trailer that is malformed", || chunked(&format!("13\r\n{BODY}\r\n0\r\nno colon\r\n\r\n"))),
    ("a trailer of 100,000 letters", || chunked(&format!("13\r\n{BODY}\r\n0\r\nX: {}\r\n\r\n", "x".repeat(100_000)))),
    ("2,000 trailers", || chunked(&format!("13\r\n{BODY}\r\n0\r\n{}\r\n", "X: x\r\n".repeat(2000)))),
    ("19 chunks of a byte", || {
        let each: String = BODY.chars().map(|letter| format!("1\r\n{letter}\r\n")).collect();
        chunked(&format!("{each}0\r\n\r\n"))
    }),
    ("a Content-Encoding", || sized("Content-Encoding: gzip\r\nContent-Length: 19\r\n")),
    ("a body that is a request", || {
        let request = "GET /v2/open/app/tags/list HTTP/1.1\r\nHost: quay.io\r\n\r\n";
        format!("Content-Length: {}\r\n\r\n{request}", request.len()).into_bytes()
    }),
    ("a length that Connection names", || sized("Connection: Content-Length\r\nContent-Length: 19\r\n")),
    ("a coding that Connection names", || {
        with_coding("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", &chunks())
    }),
];

/// Doors with a GET, and with a method that a body belongs to.
const DOORS: [(&str, Door, &str); 5] = [
    ("GET own", Door::Own, "GET"),
    ("GET inside", Door::Inside, "GET"),
    ("PUT inside", Door::Inside, "PUT"),
    ("PUT absolute", Door::Absolute, "PUT"),
    ("POST control", Door::Control, "POST"),
];

#[tokio::test]
async fn bodies_are_taken_as_they_are_framed_or_not_at_all() {
    let site = Site::new("push: allow").await;
    let mut observed = Observed::at(DOORS.map(|(name, ..)| name).to_vec());
    for (number, (kind, write)) in KINDS.iter().enumerate() {
        let mut cells = Vec::new();
        for (_, door, method) in DOORS {
            let Honest { target, host, .. } = door.honest(&site);
            let tag = format!("t{number}");
            let target =
                if method == "PUT" { target.replace("tags/list", &format!("manifests/{tag}")) } else { target };
            let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
            let count = if method == "PUT" { Site::granted } else { Site::reached };
            let cell = door.try_counting(&site, count, &[head.into_bytes(), write()].concat(), method).await;
            if method == "PUT" {
                let held = site.pushed(door == Door::Inside, &tag).await;
                assert_eq!(held.is_some(), cell.ends_with("^1"), "{kind}, {door:?}: {cell}, {held:?}");
                let is_whole = |held: &Bytes| held == BODY || held.is_empty() || held.starts_with(b"GET /v2/open");
                assert!(held.as_ref().is_none_or(is_whole), "{kind}, {door:?}: {held:?}");
            }
            cells.push(cell);
        }
        observed.row(kind, cells);
        site.is_well(kind).await;
    }
    for seen in site.registry.requests().into_iter().chain(site.files.requests()) {
        let said = |name| seen.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        let (lengths, codings) = (said("content-length"), said("transfer-encoding"));
        assert!(lengths.len() + codings.len() <= 1 && codings.iter().all(|coding| *coding == "chunked"), "{seen:?}");
    }
    observed.compare(include_str!("bodies.txt"));
}

#[tokio::test]
async fn nothing_that_stands_behind_a_body_goes_upstream() {
    for h2 in [false, true] {
        let site = Site::before("push: allow", h2).await;
        let client = if h2 { site.proxy.client().h2() } else { site.proxy.client() };
        let mut trailers = http::HeaderMap::new();
        trailers.insert("authorization", "Basic YTpi".parse().unwrap());
        let frames = [Frame::data(Bytes::from(BODY)), Frame::trailers(trailers)].map(Ok::<_, BodyError>);
        let body = Body::wrap(StreamBody::new(futures_util::stream::iter(frames)));
        let mut session = client.session(QUAY).await;
        let fields = [("trailer", "authorization")];
        let answer = session.send("PUT", "/v2/open/app/manifests/trailed", &fields, body).await.unwrap();
        assert_eq!(answer.status(), 201);
        assert_eq!(site.pushed(true, "trailed").await.as_deref(), Some(BODY.as_bytes()));
        assert_eq!(site.registry.trailed(), 0, "h2 {h2}");
    }
}

#[tokio::test]
async fn a_get_with_a_body_in_absolute_form_is_one_request_upstream_or_none() {
    let site = Site::new("push: allow").await;
    let Honest { target, host, .. } = Door::Absolute.honest(&site);
    let table = [
        ("a length and a body", "200 + ^1"),
        ("chunks", "200 + ^1"),
        ("a trailer that frames", "200 + ^1"),
        ("a body that is a request", "200 + ^1"),
        ("two lengths, the first true", "400"),
        ("chunked, gzip", "400"),
        ("a length that Connection names", "400"),
    ];
    for (kind, expected) in table {
        let (_, write) = KINDS.iter().find(|(name, _)| *name == kind).unwrap();
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n");
        let bytes = [head.into_bytes(), write()].concat();
        let cell = Door::Absolute.try_counting(&site, Site::reached, &bytes, "GET");
        assert_eq!(cell.await, expected, "{kind}");
        site.is_well(kind).await;
    }
}

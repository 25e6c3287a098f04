//! Answers that do not end where they say, or are no HTTP.

use super::Attack;
use crate::hostile::honest::{Answer, Asked};
use crate::hostile::steps::Step;

pub(in crate::hostile) const FRAMING: &[(&str, fn(&Attack) -> Vec<Step>)] = &[
    ("length too short", |attack| {
        let fields = format!("content-length: {}\r\n", attack.honest.body.len() / 2);
        vec![Step::Say(attack.framed(&fields, attack.honest.body.clone()))]
    }),
    ("length too long", |attack| {
        let fields = format!("content-length: {}\r\n", attack.honest.body.len() + 10);
        vec![Step::Say(attack.framed(&fields, attack.honest.body.clone())), Step::Close]
    }),
    ("length and chunked", |attack| {
        let fields = format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", attack.honest.body.len() / 2);
        vec![Step::Say(attack.framed(&fields, chunked(&attack.honest.body)))]
    }),
    ("length of 0 and chunked", |attack| {
        let fields = "content-length: 0\r\ntransfer-encoding: chunked\r\n";
        vec![Step::Say(attack.framed(fields, chunked(&attack.honest.body)))]
    }),
    ("two lengths", |attack| {
        let length = attack.honest.body.len();
        let fields = format!("content-length: {}\r\ncontent-length: {length}\r\n", length / 2);
        vec![Step::Say(attack.framed(&fields, attack.honest.body.clone()))]
    }),
    ("one length twice", |attack| {
        let length = attack.honest.body.len();
        let fields = format!("content-length: {length}\r\ncontent-length: {length}\r\n");
        vec![Step::Say(attack.framed(&fields, attack.honest.body.clone()))]
    }),
    ("signed length", |attack| {
        let fields = format!("content-length: +{}\r\n", attack.honest.body.len());
        vec![Step::Say(attack.framed(&fields, attack.honest.body.clone()))]
    }),
    ("length beyond numbers", |attack| {
        vec![Step::Say(attack.framed("content-length: 18446744073709551616\r\n", attack.honest.body.clone()))]
    }),
    ("length of 8 EiB", |attack| {
        let fields = "content-length: 9223372036854775807\r\n";
        vec![Step::Say(attack.framed(fields, attack.honest.body.clone())), Step::Close]
    }),
    ("chunked", |attack| {
        vec![Step::Say(attack.framed("transfer-encoding: chunked\r\n", chunked(&attack.honest.body)))]
    }),
    ("chunked twice", |attack| {
        vec![Step::Say(attack.framed("transfer-encoding: chunked, chunked\r\n", chunked(&attack.honest.body)))]
    }),
    ("unknown coding", |attack| {
        vec![Step::Say(attack.framed("transfer-encoding: x\r\n", attack.honest.body.clone())), Step::Close]
    }),
    ("unknown coding, chunked", |attack| {
        vec![Step::Say(attack.framed("transfer-encoding: x, chunked\r\n", chunked(&attack.honest.body)))]
    }),
    ("chunked, unknown coding", |attack| {
        vec![Step::Say(attack.framed("transfer-encoding: chunked, x\r\n", chunked(&attack.honest.body))), Step::Close]
    }),
    ("bad chunk", |attack| vec![Step::Say(attack.framed("transfer-encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n"))]),
    ("chunk beyond numbers", |attack| {
        vec![Step::Say(attack.framed("transfer-encoding: chunked\r\n", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"))]
    }),
    ("no last chunk", |attack| {
        let mut body = chunked(&attack.honest.body);
        body.truncate(body.len() - 5);
        vec![Step::Say(attack.framed("transfer-encoding: chunked\r\n", body)), Step::Close]
    }),
    ("trailers", |attack| {
        let mut body = chunked(&attack.honest.body);
        body.truncate(body.len() - 2);
        body.extend(b"content-length: 3\r\nset-cookie: a=b\r\n\r\n");
        vec![Step::Say(attack.framed("transfer-encoding: chunked\r\n", body))]
    }),
    ("endless chunks", |attack| {
        let head = attack.framed("transfer-encoding: chunked\r\n", "");
        vec![Step::Say(head), Step::Flood(chunk())]
    }),
    ("endless body", |attack| {
        vec![Step::Say(attack.framed("connection: close\r\n", "")), Step::Flood(b"{}      ".repeat(2 << 10))]
    }),
    ("endless trailers", |attack| {
        let mut body = chunked(&attack.honest.body);
        body.truncate(body.len() - 2);
        vec![
            Step::Say(attack.framed("transfer-encoding: chunked\r\n", body)),
            Step::Flood(b"x-trailer: x\r\n".to_vec()),
        ]
    }),
    ("no HTTP", |_| vec![Step::Say(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()), Step::Close]),
    ("many fields", |attack| vec![Step::Say(attack.framed(&"x-field: x\r\n".repeat(5000), "")), Step::Close]),
    ("endless fields", |_| vec![Step::Say(b"HTTP/1.1 200 OK\r\n".to_vec()), Step::Flood(b"x-field: x\r\n".to_vec())]),
    ("endless field", |_| {
        vec![Step::Say(b"HTTP/1.1 200 OK\r\nx-field: x".to_vec()), Step::Flood(b"x".repeat(1 << 10))]
    }),
    ("endless reason", |_| vec![Step::Say(b"HTTP/1.1 200 O".to_vec()), Step::Flood(b"K".repeat(1 << 10))]),
    ("NUL in a field", |attack| vec![Step::Say(attack.framed("x-field: a\0b\r\ncontent-length: 0\r\n", ""))]),
    ("folded field", |attack| {
        let fields = format!("x-field: a\r\n b\r\ncontent-length: {}\r\n", attack.honest.body.len());
        vec![Step::Say(attack.framed(&fields, attack.honest.body.clone()))]
    }),
    ("space before a colon", |attack| {
        let fields = format!("content-length : {}\r\n", attack.honest.body.len());
        vec![Step::Say(attack.framed(&fields, attack.honest.body.clone())), Step::Close]
    }),
    ("LF alone", |attack| {
        let mut message = attack.honest.head().replace("\r\n", "\n").into_bytes();
        message.extend(format!("content-length: {}\n\n", attack.honest.body.len()).into_bytes());
        if !attack.asked.is_head() {
            message.extend(&attack.honest.body);
        }
        vec![Step::Say(message)]
    }),
    ("HTTP/1.0", |attack| {
        let message = String::from_utf8(attack.framed("", "")).unwrap().replace("HTTP/1.1", "HTTP/1.0");
        let body = if attack.asked.is_head() { Vec::new() } else { attack.honest.body.clone() };
        vec![Step::Say(message.into_bytes()), Step::Say(body), Step::Close]
    }),
    ("body after HEAD", |attack| {
        let asked = Asked { method: "GET".to_owned(), ..attack.asked.clone() };
        vec![Step::Say(attack.honest.message(&asked))]
    }),
    ("second answer", |attack| {
        let mut both = attack.honest.message(attack.asked);
        both.extend(second(attack).message(&Asked::default()));
        vec![Step::Say(both)]
    }),
    ("second answer later", |attack| {
        let (first, second) = (attack.honest.message(attack.asked), second(attack).message(&Asked::default()));
        vec![Step::Say(first), Step::Pause(std::time::Duration::from_millis(30)), Step::Say(second)]
    }),
    ("close after the head", |attack| {
        let fields = format!("content-length: {}\r\n", attack.honest.body.len());
        vec![Step::Say(attack.framed(&fields, "")), Step::Close]
    }),
    ("close at once", |_| vec![Step::Close]),
];

/// What a stranger must not be told to the next question: the owner's manifest.
fn second(attack: &Attack) -> Answer {
    let kept = &attack.site.things.kept;
    Answer::new(200, crate::support::MANIFEST, kept.bytes.clone())
        .with("docker-content-digest", kept.digest.to_string())
}

/// One of 16 KiB.
fn chunk() -> Vec<u8> {
    format!("4000\r\n{}\r\n", " ".repeat(16 << 10)).into_bytes()
}

/// In two chunks.
fn chunked(body: &[u8]) -> Vec<u8> {
    let mut chunks = Vec::new();
    for piece in body.chunks((body.len() / 2).max(1)) {
        chunks.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        chunks.extend(piece);
        chunks.extend(b"\r\n");
    }
    chunks.extend(b"0\r\n\r\n");
    chunks
}

//! The first message of a TLS handshake, in an intercepted connection.

use super::stage::{CLIENT, REGISTRY, authority, on_stage};
use crate::oci::Host;
use crate::proxy::door::handshake::{HelloReader, Read};
use crate::proxy::door::{client_hello, intercept};

const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;

/// Nothing is said of a certificate to a client that asks for another name than CONNECT did: it gets an alert at most.
/// In a tunnel, the hello that is judged is the one that a server reads.
pub fn hello(data: &[u8]) {
    in_a_tunnel(data);
    let answer = on_stage(|stage| {
        stage.talk(data, |proxy, stream| async move {
            let host = authority().host;
            drop(intercept::accept(&proxy, CLIENT, REGISTRY, stream, |_| Ok(host)).await);
        })
    });
    let records = records(&answer).expect("an answer is whole records");
    if records.iter().all(|(kind, _)| *kind == ALERT) {
        return;
    }
    let messages: Vec<u8> = records_before_a_break(data).into_iter().flat_map(|(_, content)| content).collect();
    let name = server_name(&messages);
    let is_asked = name.as_ref().is_none_or(|name| {
        let text = String::from_utf8_lossy(name).to_ascii_lowercase();
        text.trim_end_matches('.') == REGISTRY || text.parse::<std::net::IpAddr>().is_ok() // RFC 6066: no name at all
    });
    assert!(is_asked, "a certificate was shown to {name:?}");
}

fn in_a_tunnel(data: &[u8]) {
    let Read::Hello(message, end) = HelloReader::first().read(data) else { return };
    let read: Vec<u8> = records_before_a_break(&data[..end]).into_iter().flat_map(|(_, content)| content).collect();
    assert_eq!(read, message);
    let named = server_name(&message).and_then(|name| String::from_utf8(name).ok()?.parse::<Host>().ok());
    if let Some(name) = named {
        let names = client_hello::names(&message);
        assert!(names.is_none_or(|names| names.contains(&name)), "a server reads {name}"); // None: it is closed
    }
}

type Record = (u8, Vec<u8>);

fn record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let ([kind, _, _, high, low], rest) = bytes.split_first_chunk::<5>()?;
    let (content, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
    Some(((*kind, content.to_vec()), rest))
}

/// `None` where the last one is cut.
fn records(mut bytes: &[u8]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (one, rest) = record(bytes)?;
        records.push(one);
        bytes = rest;
    }
    Some(records)
}

/// Those of the handshake's beginning.
fn records_before_a_break(mut bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some((one, rest)) = record(bytes).filter(|((kind, _), _)| *kind == HANDSHAKE) {
        records.push(one);
        bytes = rest;
    }
    records
}

/// The name in a `ClientHello` (RFC 8446, 4.1.2; RFC 6066, 3), if it says one.
fn server_name(message: &[u8]) -> Option<Vec<u8>> {
    let mut hello = message.get(4..)?; // type and length
    hello = hello.get(2 + 32..)?; // version and random
    hello = skip(hello, 1)?; // session
    hello = skip(hello, 2)?; // suites
    hello = skip(hello, 1)?; // compression
    let (mut extensions, _) = counted(hello, 2)?;
    while let Some((kind, rest)) = extensions.split_first_chunk::<2>() {
        let (content, rest) = counted(rest, 2)?;
        extensions = rest;
        if *kind == [0, 0] {
            let (list, _) = counted(content, 2)?;
            let (kind, name) = list.split_first()?;
            return (*kind == 0).then(|| counted(name, 2).map(|(name, _)| name.to_vec()))?;
        }
    }
    None
}

fn skip(bytes: &[u8], width: usize) -> Option<&[u8]> {
    counted(bytes, width).map(|(_, rest)| rest)
}

/// What a length of `width` bytes counts, and what follows.
fn counted(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(width)?;
    rest.split_at_checked(length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

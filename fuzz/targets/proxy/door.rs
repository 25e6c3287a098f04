//! A connection at the proxy's door: its first bytes, the heads of its requests, CONNECT.

use std::net::IpAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::stage::{CLIENT, FROM, authority, on_stage};
use crate::oci::Authority;
use crate::proxy::door::connection::answer;
use crate::proxy::door::first_bytes::{SpokenProtocol, sniff, tell};
use crate::proxy::door::http::PendingAnswer;
use crate::wire::{SpokenFor, parse_header};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes tell is told by any number of them, is never taken back, and costs none of them.
pub fn first_bytes(data: &[u8]) {
    let (pieces, data) = data.split_first().map_or((1, data), |(pieces, data)| (usize::from(*pieces) + 1, data));
    let spoken = match data {
        [22, ..] => Some(SpokenProtocol::Tls),
        _ if data.starts_with(PREFACE) => Some(SpokenProtocol::Http2),
        _ if PREFACE.starts_with(data) => None,
        _ => Some(SpokenProtocol::Http1),
    };
    assert_eq!(tell(data), spoken);
    let first = (0..=data.len()).find_map(|end| tell(&data[..end]));
    assert_eq!(first, spoken, "it was taken back");
    on_stage(|stage| {
        let (mut near, far) = tokio::io::duplex(pieces);
        let read = stage.run(async {
            let write = async {
                near.write_all(data).await.unwrap();
                drop(near);
            };
            let read = async {
                let (spoken, mut stream) = sniff(far).await.unwrap()?;
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).await.unwrap();
                Some((spoken, bytes))
            };
            tokio::join!(write, read).1
        });
        assert_eq!(read, spoken.map(|spoken| (spoken, data.to_vec())));
    });
}

/// A header of the PROXY protocol is told as soon as it is whole, by no fewer bytes and no differently by more; what it is not
/// is told as well. What follows it is not touched.
pub fn proxy_header(data: &[u8]) {
    let told = parse_header(data);
    let first = (0..=data.len()).find_map(|end| parse_header(&data[..end]).transpose());
    match (&told, first) {
        (Ok(None), first) => assert_eq!(first, None, "it was taken back"),
        (Err(_), first) => assert!(matches!(first, Some(Err(_))), "{first:?}"),
        (Ok(Some((spoken_for, length))), first) => {
            assert!(*length <= data.len() && *length <= 16 << 10);
            assert_eq!(first, Some(Ok((*spoken_for, *length))));
            if data[0] == b'P' {
                let line = String::from_utf8_lossy(&data[..*length]); // what follows UNKNOWN is nobody's
                assert!(*length <= 107 && line.find('\r') == Some(line.len() - 2) && line.ends_with('\n'), "{line:?}");
                let words: Vec<&str> = line.trim_end().split(' ').collect();
                let expected = match words[..] {
                    ["PROXY", "TCP4" | "TCP6", from, to, from_port, to_port] => {
                        let address = |ip: &str, port: &str| (ip.parse().unwrap(), port.parse().unwrap());
                        let (from, to): ((IpAddr, u16), (IpAddr, u16)) =
                            (address(from, from_port), address(to, to_port));
                        SpokenFor::Client { from: from.into(), to: to.into() }
                    }
                    _ => SpokenFor::Itself,
                };
                assert_eq!(*spoken_for, expected);
            } else {
                assert_eq!(*length, 16 + usize::from(u16::from_be_bytes([data[14], data[15]])));
                let is_of_a_client = data[12] == 0x21 && matches!(data[13], 0x11 | 0x21);
                assert_eq!(matches!(spoken_for, SpokenFor::Client { .. }), is_of_a_client);
            }
        }
    }
}

/// A connection is answered in what it speaks. An answer is a status, and never that something of ours failed. A
/// CONNECT gets its 200 only for the registry, and only where it says nothing that could be read in another way.
pub fn door(data: &[u8]) {
    let answer = on_stage(|stage| {
        stage.talk(data, |proxy, stream| async move {
            let (client, door) = (proxy.limiter.of(CLIENT), proxy.clone());
            let handle =
                move |request, stream| -> PendingAnswer { Box::pin(answer(door.clone(), FROM, request, stream)) };
            let _ = proxy.serve_stream(stream, (FROM, None), client, handle).await; // how it ended is for the log
        })
    });
    let Some(first) = answer.first() else { return };
    match tell(data) {
        Some(SpokenProtocol::Tls) => assert!((20..=23).contains(first), "TLS is answered by TLS"),
        Some(SpokenProtocol::Http2) => assert_eq!(answer.get(3), Some(&4), "HTTP/2 begins with SETTINGS"),
        Some(SpokenProtocol::Http1) => {
            let status = status(&answer);
            let is_ours = matches!(
                status,
                200 | 400 | 401 | 403 | 404 | 405 | 407 | 414 | 421 | 431 | 501 | 502 | 503 | 504 | 505 | 508
            );
            assert!(is_ours, "{}", String::from_utf8_lossy(&answer));
            if status == 200 && data.starts_with(b"CONNECT ") {
                opened(data);
            }
        }
        None => panic!("an answer to nothing: {answer:?}"),
    }
}

/// The first answer's status.
fn status(answer: &[u8]) -> u16 {
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).expect("a status line is text");
    let words: Vec<&str> = line.splitn(3, ' ').collect();
    assert!(matches!(words[..], ["HTTP/1.1" | "HTTP/1.0", _, _]), "{line:?}");
    words[1].parse().expect("a status is a number")
}

/// A CONNECT that was said yes to.
fn opened(data: &[u8]) {
    let lines = data.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let head: Vec<&[u8]> = lines.take_while(|line| !line.is_empty()).collect();
    let line = std::str::from_utf8(head[0]).expect("a request line is text");
    let target = line.split(' ').nth(1).expect("a CONNECT has a target");
    assert!(!target.contains(['/', '?', '#', '@', '\\', '%']), "{line:?}");
    let port = target.rsplit_once(':').map(|(_, port)| port);
    assert!(port.is_some_and(|port| port.parse() == Ok(443_u16)), "{line:?}");
    assert_eq!(Authority::parse(target, 443), Ok(authority()));
    let named = |name: &str| {
        let fields = head[1..].iter().filter(|field| field.len() > name.len() && field[name.len()] == b':');
        fields.filter(|field| field[..name.len()].eq_ignore_ascii_case(name.as_bytes())).count()
    };
    assert!(named("host") <= 1 && named("content-length") == 0 && named("transfer-encoding") == 0, "{line:?}");
}

//! Reads the header by which a balancer tells whom it speaks for: the PROXY protocol, versions 1 and 2.
//!
//! Threat: whoever may write the header chooses the address that it is judged by. It is read only from peers that the
//! configuration lists, and there it is required, so that no client of a balancer can bring its own. A header is at most
//! 16 KiB long; what it says besides the addresses is skipped.
//! Reading: HAProxy's `doc/proxy-protocol.txt`.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use proxy_header::{ParseConfig, Protocol};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The addresses take at most 232 bytes; the rest is room for what balancers add, such as a client's certificate.
const LONGEST: usize = 16 << 10;

/// Its longest line, with both bytes of its end (`proxy-protocol.txt`, 2.1).
const LONGEST_OF_V1: usize = 107;
const BEGINNING_OF_V1: &[u8] = b"PROXY ";
const BEGINNING_OF_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2 and the command by which a balancer speaks for itself; whatever follows it says nothing.
const LOCAL: u8 = 0x20;
const HEAD_OF_V2: usize = 16;

/// Whom the balancer speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpokenFor {
    /// Itself, as in a health check, or somebody without an address: the peer's address counts.
    Itself,
    /// A client, and where that had connected to.
    Client {
        /// The client's address.
        from: SocketAddr,
        /// The address that the client connected to.
        to: SocketAddr,
    },
}

/// A stream does not begin with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no header of the PROXY protocol")]
pub(crate) struct NoHeader;

/// What a stream that begins with `bytes` tells, and how long its header is; `None` while that is not whole.
///
/// # Errors
/// There is no header, and none that is allowed to come.
pub(crate) fn parse_header(bytes: &[u8]) -> Result<Option<(SpokenFor, usize)>, NoHeader> {
    let begins = |with: &[u8]| bytes.starts_with(with) || with.starts_with(bytes);
    if begins(BEGINNING_OF_V1) {
        // However much has come: a line that is too long is none.
        let line = bytes.get(..LONGEST_OF_V1).unwrap_or(bytes);
        let is_whole = line.len() == LONGEST_OF_V1;
        return parsed(line, is_whole);
    }
    if !begins(BEGINNING_OF_V2) {
        return Err(NoHeader);
    }
    let Some((head, _)) = bytes.split_first_chunk::<HEAD_OF_V2>() else { return Ok(None) };
    let [.., version_and_command, _, high, low] = *head;
    let length = HEAD_OF_V2 + usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST {
        return Err(NoHeader);
    }
    let Some(whole) = bytes.get(..length) else { return Ok(None) };
    if version_and_command == LOCAL {
        return Ok(Some((SpokenFor::Itself, length)));
    }
    parsed(whole, true)
}

fn parsed(bytes: &[u8], is_whole: bool) -> Result<Option<(SpokenFor, usize)>, NoHeader> {
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    match proxy_header::ProxyHeader::parse(bytes, config) {
        Ok((header, length)) => {
            let spoken_for = match header.proxied_address() {
                None => SpokenFor::Itself,
                // Nobody comes over TCP who came by UDP.
                Some(told) if told.protocol != Protocol::Stream => return Err(NoHeader),
                Some(told) => SpokenFor::Client { from: told.source, to: told.destination },
            };
            Ok(Some((spoken_for, length)))
        }
        Err(proxy_header::Error::BufferTooShort) if !is_whole => Ok(None),
        Err(_) => Err(NoHeader),
    }
}

/// Reads the header at the beginning of `stream`, and answers what follows it as far as it was read. `None` where the
/// peer leaves before it has said anything. The time is the caller's to bound.
///
/// # Errors
/// Of kind `InvalidData` where there is no header, or of the stream.
pub async fn read_header<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<(SpokenFor, Bytes)>> {
    let mut ahead = BytesMut::with_capacity(512);
    loop {
        if stream.read_buf(&mut ahead).await? == 0 {
            return if ahead.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        if let Some((spoken_for, length)) =
            parse_header(&ahead).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
        {
            return Ok(Some((spoken_for, ahead.split_off(length).freeze())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(from: &str, to: &str) -> SpokenFor {
        SpokenFor::Client { from: from.parse().unwrap(), to: to.parse().unwrap() }
    }

    fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [BEGINNING_OF_V2, &[command, family], &length, content].concat()
    }

    #[test]
    fn a_header_tells_the_client_and_where_it_connected_to() {
        let v4 = [10, 0, 0, 7, 192, 0, 2, 1, 0x12, 0x34, 1, 0xbb];
        let v6 = [&[0xfd; 16][..], &[0xfe; 16], &[0, 1, 0, 2]].concat();
        let with_tlvs = [&v4[..], &[4, 0, 3, 0, 0, 0], &[0xe0, 0, 1, 9]].concat();
        let unix = [7; 216];
        let sixth = "[fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd]:1";
        let seventh = "[fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe]:2";
        let table = [
            (b"PROXY TCP4 10.0.0.7 192.0.2.1 4660 443\r\n".to_vec(), client("10.0.0.7:4660", "192.0.2.1:443")),
            (b"PROXY TCP6 fd00::7 ::1 1 2\r\n".to_vec(), client("[fd00::7]:1", "[::1]:2")),
            (b"PROXY UNKNOWN\r\n".to_vec(), SpokenFor::Itself),
            (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(), SpokenFor::Itself),
            (v2(0x21, 0x11, &v4), client("10.0.0.7:4660", "192.0.2.1:443")),
            (v2(0x21, 0x11, &with_tlvs), client("10.0.0.7:4660", "192.0.2.1:443")),
            (v2(0x21, 0x21, &v6), client(sixth, seventh)),
            (v2(0x21, 0x31, &unix), SpokenFor::Itself),
            (v2(0x21, 0, b""), SpokenFor::Itself),
            (v2(0x20, 0, b""), SpokenFor::Itself),
            (v2(0x20, 0x11, &v4), SpokenFor::Itself),
            (v2(0x20, 0x11, b""), SpokenFor::Itself),
            (v2(0x20, 0x7f, b"whatever"), SpokenFor::Itself),
        ];
        for (header, expected) in table {
            let stream = [&header[..], b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n"].concat();
            assert_eq!(parse_header(&stream), Ok(Some((expected, header.len()))), "{}", header.escape_ascii());
            for end in 0..header.len() {
                assert_eq!(parse_header(&header[..end]), Ok(None), "{end} of {}", header.escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_no_header_is_told_as_soon_as_it_shows() {
        let v4 = [10, 0, 0, 7, 192, 0, 2, 1, 0, 1, 0, 2];
        let mut oversize = v2(0x21, 0x11, &v4);
        oversize[14..16].copy_from_slice(&[0x40, 0]);
        let table = [
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"\x16\x03\x01".to_vec(),
            b"PROXYTCP4 10.0.0.7 192.0.2.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 10.0.0.7 192.0.2.1 1 2 3\r\n".to_vec(),
            b"PROXY TCP4 10.0.0.777 192.0.2.1 1 2\r\n".to_vec(),
            b"PROXY UDP4 10.0.0.7 192.0.2.1 1 2\r\n".to_vec(),
            [b"PROXY UNKNOWN ", &[b'x'; 120][..]].concat(),
            v2(0x21, 0x11, &v4[..11]),
            v2(0x21, 0x12, &v4),
            v2(0x22, 0x11, &v4),
            v2(0x11, 0x11, &v4),
            oversize,
        ];
        for header in table {
            assert_eq!(parse_header(&header), Err(NoHeader), "{}", header.escape_ascii());
        }
    }
}

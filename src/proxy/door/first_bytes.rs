//! Tells by its first bytes what a connection speaks: TLS, HTTP/1.1 or HTTP/2.
//!
//! The protocol is chosen by bytes, not by ALPN: Go negotiates h2 with an https proxy and then writes an
//! HTTP/1.1 CONNECT.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::wire::Rewind;

/// Threat: connections that are opened and left idle. A client that means to use one sends a byte within this time.
pub(super) const FIRST_BYTE: Duration = Duration::from_secs(60);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol that a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpokenProtocol {
    Tls,
    Http1,
    Http2,
}

/// Reads just enough to tell; `None` if the client closed without sending anything. A partial preface has the same
/// deadline as the first byte.
pub(crate) async fn sniff<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<Option<(SpokenProtocol, Rewind<S>)>> {
    let mut ahead = BytesMut::with_capacity(512);
    let told = tokio::time::timeout(FIRST_BYTE, async {
        loop {
            if stream.read_buf(&mut ahead).await? == 0 {
                return Ok::<_, io::Error>(None);
            }
            if let Some(spoken) = tell(&ahead) {
                return Ok(Some(spoken));
            }
        }
    });
    let spoken = told.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    Ok(spoken.map(|spoken| (spoken, Rewind::new(ahead.freeze(), stream))))
}

/// `None` while the bytes are a beginning of the HTTP/2 preface (RFC 9113, 3.4).
pub(crate) fn tell(ahead: &[u8]) -> Option<SpokenProtocol> {
    const TLS_HANDSHAKE: u8 = 22;
    match ahead.first()? {
        &TLS_HANDSHAKE => Some(SpokenProtocol::Tls),
        _ if ahead.starts_with(PREFACE) => Some(SpokenProtocol::Http2),
        _ if PREFACE.starts_with(ahead) => None,
        _ => Some(SpokenProtocol::Http1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        let table: [(&[u8], Option<SpokenProtocol>); 7] = [
            (b"", None),
            (b"\x16\x03\x01", Some(SpokenProtocol::Tls)),
            (b"CONNECT quay.io:443 HTTP/1.1\r\n", Some(SpokenProtocol::Http1)),
            (b"P", None),
            (b"PRI * HTTP/2.0\r\n\r\n", None),
            (PREFACE, Some(SpokenProtocol::Http2)),
            (b"PUT / HTTP/1.1\r\n", Some(SpokenProtocol::Http1)),
        ];
        for (bytes, expected) in table {
            assert_eq!(tell(bytes), expected, "{bytes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_partial_preface_has_a_deadline() {
        let (mut client, server) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut client, b"PRI * HT").await.unwrap();
        let error = sniff(server).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}

//! Speaks CONNECT as a client: one request, and the head of its answer.
//!
//! Threat: an answer made to fill memory, or to be read as another. Bound: 16 KiB of head, and one status line.

use std::io;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::oci::Authority;

const HEAD_LIMIT: usize = 16 << 10;

/// What was answered.
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    /// What came behind the head already: the host's first bytes.
    pub(crate) ahead: Bytes,
}

/// Asks for a tunnel to `to`. The time is the caller's to bound.
pub(crate) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    to: &Authority,
    login: Option<&HeaderValue>,
    via: Option<&str>,
) -> io::Result<Answered> {
    let mut head = Zeroizing::new(Vec::with_capacity(1024)); // not moved as it grows: it may hold a password
    head.extend(
        format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: pullthrough/{}\r\n", env!("CARGO_PKG_VERSION"))
            .into_bytes(),
    );
    for (name, value) in [("Via", via.map(str::as_bytes)), ("Proxy-Authorization", login.map(HeaderValue::as_bytes))] {
        if let Some(value) = value {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
    }
    head.extend(b"\r\n");
    stream.write_all(&head).await?;
    stream.flush().await?;
    let mut read = BytesMut::with_capacity(1024);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection without an answer"));
        }
        if let Some(answered) = parse(&mut read)? {
            return Ok(answered);
        }
        if read.len() > HEAD_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its answer has no end"));
        }
    }
}

/// The answer at the beginning of `read`, once all of its head is there. What is informative (1xx) is passed over.
fn parse(read: &mut BytesMut) -> io::Result<Option<Answered>> {
    while let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
        let status = status(read).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its answer is no HTTP"))?;
        let _head = read.split_to(end + 4);
        if !status.is_informational() {
            return Ok(Some(Answered { status, ahead: read.split().freeze() }));
        }
    }
    Ok(None)
}

fn status(head: &[u8]) -> Option<StatusCode> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    let (version, rest) = line.split_once(' ')?;
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return None;
    }
    let digits = rest.split(' ').next()?;
    StatusCode::from_bytes(digits.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(u16, String)> {
        let mut read = BytesMut::from(text.as_bytes());
        let answered = parse(&mut read).ok()??;
        Some((answered.status.as_u16(), String::from_utf8(answered.ahead.to_vec()).unwrap()))
    }

    #[test]
    fn the_status_is_read_and_what_follows_is_the_hosts() {
        let table = [
            ("HTTP/1.1 200 Connection established\r\n\r\n", Some((200, ""))),
            ("HTTP/1.0 200\r\nVia: x\r\n\r\n220 hello", Some((200, "220 hello"))),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno", Some((407, "no"))),
            ("HTTP/1.1 200 OK\r\n", None),
            ("SSH-2.0-OpenSSH\r\n\r\n", None),
            ("HTTP/1.1 2000\r\n\r\n", None),
            ("HTTP/2 200\r\n\r\n", None),
        ];
        for (text, expected) in table {
            assert_eq!(parsed(text), expected.map(|(status, ahead)| (status, ahead.to_owned())), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_answer_panics_the_reader(bytes: Vec<u8>) {
            let _ = parse(&mut BytesMut::from(&bytes[..]));
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_not_read_for_ever() {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
        let filler = "x".repeat(HEAD_LIMIT + 1);
        theirs.write_all(format!("HTTP/1.1 200 OK\r\nX: {filler}").as_bytes()).await.unwrap();
        let to = Authority::parse("quay.io", 443).unwrap();
        assert!(ask(&mut ours, &to, None, None).await.is_err());
    }
}

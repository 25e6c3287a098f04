//! HTTP/2 as bytes: frames made by hand, and what comes back on a stream or of the connection.
//!
//! The peer is told that we have no table for compressed fields, so that a status is a literal or in the static table.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;

use super::site::{QUAY, Site};
use super::speech::Stream;
use crate::support::client::Client;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const WITH_PRIORITY: u8 = 0x20;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The stream of the honest request behind each kind.
pub(super) const HONEST: u32 = 1_000_001;
const PATIENCE: Duration = Duration::from_secs(30);

/// Where HTTP/2 is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// The proxy's own pages, without TLS.
    Own,
    /// The same by TLS.
    OwnTls,
    /// Inside CONNECT, at a registry: a list, which is passed on.
    Inside,
}

impl Door {
    pub(super) const ALL: [Self; 3] = [Self::Own, Self::OwnTls, Self::Inside];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::OwnTls => "own tls",
            Self::Inside => "inside",
        }
    }

    pub(super) fn scheme(self) -> &'static str {
        if self == Self::Own { "http" } else { "https" }
    }

    pub(super) fn authority(self) -> &'static str {
        if self == Self::Inside { "quay.io" } else { "localhost" }
    }

    /// What an honest request asks for; at a registry it goes upstream.
    pub(super) fn path(self) -> &'static str {
        if self == Self::Inside { "/v2/open/app/tags/list" } else { "/healthz" }
    }

    /// What is asked for where nobody can tell how often it would go upstream: it is answered from the cache.
    pub(super) fn cached(self) -> &'static str {
        if self == Self::Inside { "/v2/open/app/manifests/latest" } else { "/healthz" }
    }

    pub(super) async fn open(self, site: &Site) -> Connection {
        let proxy = &site.proxy;
        let stream: Box<dyn Stream> = match self {
            Self::Own => Box::new(TcpStream::connect(proxy.address()).await.unwrap()),
            Self::OwnTls => {
                let client = Client::direct(proxy.address()).trusting(&proxy.ca_file()).h2();
                Box::new(client.tls("localhost:443").await.unwrap())
            }
            Self::Inside => Box::new(proxy.client().h2().tls(QUAY).await.unwrap()),
        };
        Connection::over(stream).await
    }

    /// Writes `bytes`, reads what becomes of stream 1, and asks honestly on the same connection. The cell.
    pub(super) async fn try_out(self, site: &Site, bytes: &[u8]) -> String {
        let before = site.reached();
        let mut connection = self.open(site).await;
        connection.write(bytes).await;
        let mut words = connection.outcome(1).await;
        let mut reached = site.reached() - before;
        if connection.hearing.gone.is_none() {
            connection.write(&self.request(HONEST, &[])).await;
            let honest = connection.outcome(HONEST).await;
            if honest == "200" {
                words.push_str(" +");
                reached = site.reached() - before - usize::from(self == Self::Inside);
            } else {
                words = format!("{words}, {honest}");
            }
        }
        if reached > 0 { format!("{words} ^{reached}") } else { words }
    }

    /// An honest request on a stream, with fields more.
    pub(super) fn request(self, stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
        let fields = [&self.pseudo("GET", self.path())[..], more].concat();
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields))
    }

    pub(super) fn pseudo<'a>(self, method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
        [(":method", method), (":scheme", self.scheme()), (":authority", self.authority()), (":path", path)]
    }
}

/// A connection, of which both ways can be used at once.
pub(super) struct Connection {
    pub(super) hearing: Hearing,
    pub(super) write: WriteHalf<Box<dyn Stream>>,
}

/// What comes on a connection, and whether it is known to have ended.
pub(super) struct Hearing {
    read: ReadHalf<Box<dyn Stream>>,
    ahead: Vec<u8>,
    gone: Option<String>,
    /// Every stream that was reset, and how.
    pub(super) resets: Vec<(u32, &'static str)>,
}

/// One frame that came.
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Connection {
    pub(super) async fn over(mut stream: Box<dyn Stream>) -> Self {
        // SETTINGS_HEADER_TABLE_SIZE of 0.
        let begin = [PREFACE, &frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0])].concat();
        stream.write_all(&begin).await.unwrap();
        let (read, write) = tokio::io::split(stream);
        Self { hearing: Hearing { read, ahead: Vec::new(), gone: None, resets: Vec::new() }, write }
    }

    /// It may be refused before its end.
    pub(super) async fn write(&mut self, bytes: &[u8]) {
        let _ = self.write.write_all(bytes).await;
        let _ = self.write.flush().await;
    }

    pub(super) async fn outcome(&mut self, stream: u32) -> String {
        self.hearing.outcome(stream).await
    }
}

impl Hearing {
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.parsed() {
                return Some(frame);
            }
            match self.read.read_buf(&mut self.ahead).await {
                Ok(read) if read > 0 => {}
                _ => return None,
            }
        }
    }

    fn parsed(&mut self) -> Option<Frame> {
        let head = self.ahead.get(..9)?;
        let number = |bytes: &[u8]| bytes.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
        let (length, kind, flags) = (number(&head[..3]) as usize, head[3], head[4]);
        let stream = number(&head[5..9]) & 0x7fff_ffff;
        if self.ahead.len() < 9 + length {
            return None;
        }
        let payload = self.ahead.drain(..9 + length).skip(9).collect();
        Some(Frame { kind, flags, stream, payload })
    }

    /// What becomes of a stream: its status once it has ended, its reset, or the connection's end.
    pub(super) async fn outcome(&mut self, stream: u32) -> String {
        tokio::time::timeout(PATIENCE, self.hear(stream)).await.unwrap_or_else(|_| "silence".to_owned())
    }

    async fn hear(&mut self, stream: u32) -> String {
        let mut words = String::new();
        loop {
            let Some(frame) = self.next().await else {
                let gone = self.gone.get_or_insert_with(|| "end".to_owned());
                return if words.is_empty() { gone.clone() } else { format!("{words} {gone}") };
            };
            if frame.kind == RST_STREAM {
                self.resets.push((frame.stream, reason(&frame.payload)));
            }
            match frame.kind {
                GOAWAY => self.gone = Some(format!("goaway {}", reason(&frame.payload[4..8]))),
                RST_STREAM if frame.stream == stream => {
                    let reset = format!("rst {}", reason(&frame.payload));
                    return if words.is_empty() { reset } else { format!("{words} {reset}") };
                }
                HEADERS if frame.stream == stream && words.is_empty() => words = status(&frame.payload).to_string(),
                _ => {}
            }
            if frame.stream == stream && matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                return words;
            }
        }
    }
}

fn reason(code: &[u8]) -> &'static str {
    const REASONS: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    REASONS.get(usize::from(code[3])).copied().unwrap_or("?")
}

/// The `:status` that a block of fields begins with (RFC 7541, 6 and appendices A and B).
fn status(block: &[u8]) -> u16 {
    let block = &block[block.iter().position(|byte| byte & 0xe0 != 0x20).unwrap_or(0)..]; // sizes of the table first
    match block[0] {
        indexed @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        0x48 | 0x08 | 0x18 if block[1] & 0x80 == 0 => std::str::from_utf8(&block[2..5]).unwrap().parse().unwrap(),
        0x48 | 0x08 | 0x18 => digits(&block[2..2 + usize::from(block[1] & 0x7f)]),
        other => panic!("a block begins with {other:#x}"),
    }
}

/// Three digits in Huffman's code: 0 to 2 have five bits, the others six.
fn digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0_u16, |sum, bit| sum << 1 | u16::from(*bit));
    let (mut at, mut status) = (0, 0);
    for _ in 0..3 {
        let short = number(&bits[at..at + 5]);
        let digit = if short < 3 { short } else { number(&bits[at..at + 6]) - 0x19 + 3 };
        at += if short < 3 { 5 } else { 6 };
        status = status * 10 + digit;
    }
    status
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as literals that no table takes up.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name.as_bytes(), value.as_bytes())).collect()
}

pub(super) fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0][..], &string(name), &string(value)].concat()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut text = integer(0, 7, bytes.len());
    text.extend_from_slice(bytes);
    text
}

/// A number behind a prefix (RFC 7541, 5.1).
pub(super) fn integer(first: u8, bits: u8, number: usize) -> Vec<u8> {
    let most = (1 << bits) - 1;
    if number < most {
        return vec![first | number as u8];
    }
    let (mut bytes, mut rest) = (vec![first | most as u8], number - most);
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}

#[test]
fn statuses_are_read_in_all_their_spellings() {
    let table: [(&[u8], u16); 5] = [
        (&[0x88], 200),
        (&[0x20, 0x8c], 400),
        (&[0x08, 3, b'4', b'2', b'1'], 421),
        (&[0x48, 0x82, 0x64, 0x02], 302),       // RFC 7541, C.6.1
        (&[0x48, 0x83, 0x64, 0x0e, 0xff], 307), // C.6.2
    ];
    for (block, expected) in table {
        assert_eq!(status(block), expected, "{block:x?}");
    }
}

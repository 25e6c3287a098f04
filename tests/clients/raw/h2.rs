//! HTTP/2 by hand: one question with any bytes in its pseudo-headers, and how its answer ended (RFC 9113).

use std::io::{self, ErrorKind, Read, Write};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RESET: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const ACK: u8 = 0x1;
const STREAM: u32 = 1;

/// How the one stream of a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With an answer. What it says is in compressed headers, which nobody reads here.
    Answered,
    /// The stream was reset.
    Reset,
    /// The connection was ended.
    Gone,
}

/// Sends the preface, one HEADERS frame and, where there is a body, one DATA frame with it, and reads frames until the
/// answer's end.
pub(super) fn ask(
    stream: &mut (impl Read + WriteTo),
    fields: &[(&[u8], &[u8])],
    body: Option<&[u8]>,
) -> io::Result<Ending> {
    let mut said = PREFACE.to_vec();
    frame(&mut said, SETTINGS, 0, 0, &[]);
    let end = if body.is_none() { END_STREAM } else { 0 };
    frame(&mut said, HEADERS, end | END_HEADERS, STREAM, &literal(fields));
    if let Some(body) = body {
        frame(&mut said, DATA, END_STREAM, STREAM, body);
    }
    stream.say(&said)?;
    loop {
        let mut head = [0; 9];
        match stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return Ok(Ending::Gone);
            }
            Err(error) => return Err(error),
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let (kind, flags) = (head[3], head[4]);
        let of_stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        io::copy(&mut stream.take(length.into()), &mut io::sink())?;
        match kind {
            SETTINGS if flags & ACK == 0 => {
                let mut ack = Vec::new();
                frame(&mut ack, SETTINGS, ACK, 0, &[]);
                stream.say(&ack)?;
            }
            HEADERS | DATA if of_stream == STREAM && flags & END_STREAM != 0 => return Ok(Ending::Answered),
            RESET if of_stream == STREAM => return Ok(Ending::Reset),
            GOAWAY => return Ok(Ending::Gone),
            _ => {}
        }
    }
}

/// Whatever takes bytes at once.
pub(super) trait WriteTo {
    fn say(&mut self, bytes: &[u8]) -> io::Result<()>;
}

impl<T: Write> WriteTo for io::BufReader<T> {
    fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.get_mut().write_all(bytes)?;
        self.get_mut().flush()
    }
}

fn frame(into: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    into.extend(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
    into.extend([kind, flags]);
    into.extend(stream.to_be_bytes());
    into.extend(payload);
}

/// A header block of literals without indexing, without Huffman codes (RFC 7541, 6.2.2).
fn literal(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend(*text);
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541, 5.1).
fn length(into: &mut Vec<u8>, length: usize) {
    if length < 127 {
        into.push(length as u8);
        return;
    }
    into.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        into.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    into.push(rest as u8);
}

//! Frames that break HTTP/2, or abuse it. The first frame of an honest answer is its head, the last ends its stream.

use super::super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PUSH_PROMISE, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, fields,
};
use crate::hostile::steps::Step;

pub(in crate::hostile) const HTTP2: &[(&str, fn(&Frame, usize) -> Vec<Step>)] = &[
    ("honest", |frame, _| same(frame)),
    ("GOAWAY before the answer", |_, _| vec![say(&goaway(0)), Step::Close]),
    ("GOAWAY with an error", |frame, _| {
        let payload = [frame.stream.to_be_bytes(), 11_u32.to_be_bytes()].concat();
        vec![say(&Frame::new(GOAWAY, 0, 0, payload)), Step::Close]
    }),
    ("GOAWAY and the answer", |frame, place| {
        let mut all = if place == 0 { vec![say(&goaway(frame.stream))] } else { Vec::new() };
        all.push(say(frame));
        all
    }),
    ("reset at once", |frame, place| if place == 0 { vec![say(&reset(frame.stream, 8))] } else { Vec::new() }),
    ("refused at once", |frame, place| if place == 0 { vec![say(&reset(frame.stream, 7))] } else { Vec::new() }),
    ("HTTP/1.1 required", |frame, place| if place == 0 { vec![say(&reset(frame.stream, 13))] } else { Vec::new() }),
    ("reset after the head", |frame, place| match place {
        0 => vec![say(&open(frame)), say(&reset(frame.stream, 2))],
        _ => Vec::new(),
    }),
    ("once, reset in the body", |frame, place| match place {
        0 => vec![say(&open(frame))],
        1 => vec![say(&half(frame)), say(&reset(frame.stream, 2))],
        _ => Vec::new(),
    }),
    ("once, reset without error in the body", |frame, place| match place {
        0 => vec![say(&open(frame))],
        1 => vec![say(&half(frame)), say(&reset(frame.stream, 0))],
        _ => Vec::new(),
    }),
    ("the body ends early", |frame, place| match place {
        0 => vec![say(&open(frame))],
        1 => vec![say(&Frame { flags: END_STREAM, ..half(frame) })],
        _ => Vec::new(),
    }),
    ("the stream ends with the head", |frame, place| match place {
        0 => vec![say(&Frame { flags: frame.flags | END_STREAM, ..frame.clone() })],
        _ => Vec::new(),
    }),
    ("more than the length", |frame, _| match frame.flags & END_STREAM {
        0 => same(frame),
        _ => vec![say(&open(frame)), say(&Frame::new(DATA, END_STREAM, frame.stream, "more"))],
    }),
    ("data after the end", |frame, _| match frame.flags & END_STREAM {
        0 => same(frame),
        _ => vec![say(frame), say(&Frame::new(DATA, END_STREAM, frame.stream, "more"))],
    }),
    ("data without a head", |frame, place| match place {
        0 => vec![say(&Frame::new(DATA, END_STREAM, frame.stream, "data"))],
        _ => Vec::new(),
    }),
    ("no status", |frame, place| head(frame, place, &[("content-type", "text/plain")])),
    ("two statuses", |frame, place| head(frame, place, &[(":status", "200"), (":status", "404")])),
    ("a status that is none", |frame, place| head(frame, place, &[(":status", "ok")])),
    ("101", |frame, place| head(frame, place, &[(":status", "101")])),
    ("a field in capitals", |frame, place| head(frame, place, &[(":status", "200"), ("X-Field", "x")])),
    ("a field of connections", |frame, place| {
        head(frame, place, &[(":status", "200"), ("connection", "close"), ("transfer-encoding", "chunked")])
    }),
    ("a line's end in a field", |frame, place| {
        head(frame, place, &[(":status", "200"), ("x-field", "a\r\nx-other: b")])
    }),
    ("a field too long", |frame, place| {
        let long = "x".repeat(1 << 20);
        head(frame, place, &[(":status", "200"), ("x-field", &long)])
    }),
    ("endless continuation", |frame, _| {
        let block = fields(&[(":status", "200"), ("x-field", "x")]);
        let more = Frame::new(CONTINUATION, 0, frame.stream, fields(&[("x-field", "x")]));
        vec![say(&Frame::new(HEADERS, 0, frame.stream, block)), Step::Flood(more.bytes())]
    }),
    ("endless 103", |frame, _| {
        let hint = Frame::new(HEADERS, END_HEADERS, frame.stream, fields(&[(":status", "103"), ("link", "</x>")]));
        vec![Step::Flood(hint.bytes())]
    }),
    ("103, then the answer", |frame, place| {
        let hint = Frame::new(HEADERS, END_HEADERS, frame.stream, fields(&[(":status", "103"), ("link", "</x>")]));
        let mut all = if place == 0 { vec![say(&hint)] } else { Vec::new() };
        all.push(say(frame));
        all
    }),
    ("trailers", |frame, _| match frame.flags & END_STREAM {
        0 => same(frame),
        _ => {
            let trailers = fields(&[("content-length", "3"), ("docker-content-digest", "sha256:0")]);
            vec![say(&open(frame)), say(&Frame::new(HEADERS, END_HEADERS | END_STREAM, frame.stream, trailers))]
        }
    }),
    ("a second head", |frame, _| match frame.flags & END_STREAM {
        0 => same(frame),
        _ => {
            let again = fields(&[(":status", "404")]);
            vec![say(&open(frame)), say(&Frame::new(HEADERS, END_HEADERS | END_STREAM, frame.stream, again))]
        }
    }),
    ("endless settings", |_, _| vec![Step::Flood(Frame::new(SETTINGS, 0, 0, [0, 4, 0, 1, 0, 0]).bytes())]),
    ("endless pings", |_, _| vec![Step::Flood(Frame::new(PING, 0, 0, [0; 8]).bytes())]),
    ("endless empty data", |frame, place| match place {
        0 => vec![say(&open(frame)), Step::Flood(Frame::new(DATA, 0, frame.stream, "").bytes())],
        _ => Vec::new(),
    }),
    ("a promise", |frame, place| {
        let mut promise = 2_u32.to_be_bytes().to_vec();
        promise.extend(fields(&[(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/v2/")]));
        let mut all = if place == 0 {
            vec![say(&Frame::new(PUSH_PROMISE, END_HEADERS, frame.stream, promise))]
        } else {
            Vec::new()
        };
        all.push(say(frame));
        all
    }),
    ("a window beyond numbers", |frame, place| {
        let grow = Frame::new(WINDOW_UPDATE, 0, 0, 0x7fff_ffff_u32.to_be_bytes());
        let mut all = if place == 0 { vec![say(&grow), say(&grow)] } else { Vec::new() };
        all.push(say(frame));
        all
    }),
    ("a window of nothing", |frame, _| vec![say(&Frame::new(WINDOW_UPDATE, 0, frame.stream, [0; 4])), say(frame)]),
    ("once, more than the window", |frame, place| match place {
        0 => vec![say(&open(frame)), Step::Flood(Frame::new(DATA, 0, frame.stream, vec![b' '; 16 << 10]).bytes())],
        _ => Vec::new(),
    }),
    ("a frame too long", |frame, place| match place {
        0 => vec![say(&open(frame)), say(&Frame::new(DATA, 0, frame.stream, vec![b' '; 1 << 22]))],
        _ => Vec::new(),
    }),
    ("another stream's answer", |frame, _| vec![say(&Frame { stream: frame.stream + 2, ..frame.clone() })]),
    ("garbage", |_, _| vec![Step::Say(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec())]),
    ("silence", |_, _| Vec::new()),
    ("close at once", |_, _| vec![Step::Close]),
];

fn say(frame: &Frame) -> Step {
    Step::Say(frame.bytes())
}

fn same(frame: &Frame) -> Vec<Step> {
    vec![say(frame)]
}

/// The frame without its word that the stream ends.
fn open(frame: &Frame) -> Frame {
    Frame { flags: frame.flags & !END_STREAM, ..frame.clone() }
}

/// Half of what it holds.
fn half(frame: &Frame) -> Frame {
    let payload = frame.payload[..frame.payload.len() / 2].to_vec();
    Frame { payload, ..open(frame) }
}

fn goaway(last: u32) -> Frame {
    Frame::new(GOAWAY, 0, 0, [last.to_be_bytes(), [0; 4]].concat())
}

fn reset(stream: u32, code: u32) -> Frame {
    Frame::new(RST_STREAM, 0, stream, code.to_be_bytes())
}

/// This head instead of the honest one, and the honest body.
fn head(frame: &Frame, place: usize, said: &[(&str, &str)]) -> Vec<Step> {
    if place > 0 {
        return same(frame);
    }
    let block = fields(said);
    let pieces: Vec<&[u8]> = block.chunks(16 << 10).collect();
    let last = pieces.len() - 1;
    let frames = pieces.into_iter().enumerate().map(|(at, piece)| {
        let end = if at == last { END_HEADERS } else { 0 };
        let (kind, ends) = if at == 0 { (HEADERS, frame.flags & END_STREAM) } else { (CONTINUATION, 0) };
        say(&Frame::new(kind, end | ends, frame.stream, piece))
    });
    frames.collect()
}

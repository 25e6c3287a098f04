//! HTTP/2: heads that are malformed, bodies that are not what was said, frames where they do not belong.

use super::http2::{
    ACK, CONTINUATION, DATA, Door, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY, PUSH_PROMISE,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY, block, field, frame, integer,
};
use super::site::Site;
use super::table::Observed;

/// A kind's name, and its bytes.
type Kind = (&'static str, fn(Door) -> Vec<u8>);

/// A head on stream 1 that ends it, with these fields and no others.
fn only(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))
}

/// An honest head on stream 1 with fields more.
fn with(door: Door, more: &[(&str, &str)]) -> Vec<u8> {
    door.request(1, more)
}

/// An honest head on stream 1 with one field more, of any bytes.
fn with_bytes(door: Door, name: &[u8], value: &[u8]) -> Vec<u8> {
    let honest = block(&door.pseudo("GET", door.path()));
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &[honest, field(name, value)].concat())
}

/// A head on stream 1 whose pseudo-fields are changed: taken out, or with another value.
fn changed(door: Door, name: &str, value: Option<&str>) -> Vec<u8> {
    let fields = door.pseudo("GET", door.path()).into_iter().filter_map(|(one, said)| match value {
        _ if one != name => Some((one, said)),
        value => value.map(|value| (one, value)),
    });
    only(&fields.collect::<Vec<_>>())
}

/// A head on stream 1 that leaves it open.
fn open(door: Door, more: &[(&str, &str)]) -> Vec<u8> {
    let fields = [&door.pseudo("GET", door.path())[..], more].concat();
    frame(HEADERS, END_HEADERS, 1, &block(&fields))
}

fn behind(first: Vec<u8>, rest: &[Vec<u8>]) -> Vec<u8> {
    [first, rest.concat()].concat()
}

/// Something, and an honest request behind it.
fn before_honest(door: Door, first: Vec<u8>) -> Vec<u8> {
    behind(first, &[with(door, &[])])
}

const HEADS: &[Kind] = &[
    ("honest", |d| with(d, &[])),
    ("a name in upper case", |d| with(d, &[("X-Field", "x")])),
    ("a name with a space", |d| with(d, &[("x field", "x")])),
    ("a name with a colon", |d| with(d, &[("x:field", "x")])),
    ("an empty name", |d| with(d, &[("", "x")])),
    ("a NUL in a value", |d| with_bytes(d, b"x-field", b"a\0b")),
    ("CR LF in a value", |d| with_bytes(d, b"x-field", b"a\r\nx-smuggled: b")),
    ("LF in a value", |d| with_bytes(d, b"x-field", b"a\nb")),
    ("a space around a value", |d| with_bytes(d, b"x-field", b" a ")),
    ("bytes beyond ASCII in a value", |d| with_bytes(d, b"x-field", b"\xff\x80")),
    ("connection: close", |d| with(d, &[("connection", "close")])),
    ("transfer-encoding: chunked", |d| with(d, &[("transfer-encoding", "chunked")])),
    ("upgrade: websocket", |d| with(d, &[("upgrade", "websocket")])),
    ("keep-alive", |d| with(d, &[("keep-alive", "timeout=5")])),
    ("proxy-connection", |d| with(d, &[("proxy-connection", "keep-alive")])),
    ("te: trailers", |d| with(d, &[("te", "trailers")])),
    ("te: gzip", |d| with(d, &[("te", "gzip")])),
    ("no method", |d| changed(d, ":method", None)),
    ("a method with a space", |d| changed(d, ":method", Some("GET /x"))),
    ("an empty method", |d| changed(d, ":method", Some(""))),
    ("a made-up method", |d| changed(d, ":method", Some("BREW"))),
    ("TRACE", |d| changed(d, ":method", Some("TRACE"))),
    ("no scheme", |d| changed(d, ":scheme", None)),
    ("the scheme http", |d| changed(d, ":scheme", Some("http"))),
    ("the scheme ftp", |d| changed(d, ":scheme", Some("ftp"))),
    ("a scheme with a space", |d| changed(d, ":scheme", Some("ht tp"))),
    ("no path", |d| changed(d, ":path", None)),
    ("an empty path", |d| changed(d, ":path", Some(""))),
    ("the path *", |d| changed(d, ":path", Some("*"))),
    ("a URL as the path", |d| changed(d, ":path", Some("https://evil.example/v2/"))),
    ("a path without a slash", |d| changed(d, ":path", Some("healthz"))),
    ("a path with a space", |d| changed(d, ":path", Some("/v2/ HTTP/1.1"))),
    ("a path with CR LF", |d| changed(d, ":path", Some("/v2/\r\nx: y"))),
    ("a path with a fragment", |d| changed(d, ":path", Some("/v2/#/x"))),
    ("a path with an escaped NUL", |d| changed(d, ":path", Some("/v2/%00"))),
    ("no authority", |d| changed(d, ":authority", None)),
    ("no authority but a host", |d| {
        only(&[(":method", "GET"), (":scheme", d.scheme()), (":path", d.path()), ("host", d.authority())])
    }),
    ("neither authority nor path, but a host", |d| {
        only(&[(":method", "GET"), (":scheme", d.scheme()), ("host", d.authority())])
    }),
    ("an empty authority", |d| changed(d, ":authority", Some(""))),
    ("another authority", |d| changed(d, ":authority", Some("evil.example"))),
    ("an authority with a user", |d| changed(d, ":authority", Some("me@localhost"))),
    ("an authority with a space", |d| changed(d, ":authority", Some("a b"))),
    ("the same host as authority and host", |d| with(d, &[("host", d.authority())])),
    ("another host than the authority", |d| with(d, &[("host", "evil.example")])),
    ("two hosts", |d| with(d, &[("host", d.authority()), ("host", d.authority())])),
    ("the authority twice", |d| with(d, &[(":authority", d.authority())])),
    ("the path twice", |d| {
        let fields = d.pseudo("GET", d.path());
        only(&[fields[0], fields[1], fields[2], fields[3], (":path", "/v2/")])
    }),
    ("a pseudo-field behind others", |d| {
        let fields = d.pseudo("GET", d.path());
        only(&[fields[0], fields[1], fields[2], ("x-field", "x"), fields[3]])
    }),
    ("an unknown pseudo-field", |d| {
        let fields = d.pseudo("GET", d.path());
        only(&[fields[0], fields[1], fields[2], fields[3], (":version", "2")])
    }),
    (":status in a request", |d| {
        let fields = d.pseudo("GET", d.path());
        only(&[fields[0], fields[1], fields[2], fields[3], (":status", "200")])
    }),
    ("CONNECT with a path", |d| changed(d, ":method", Some("CONNECT"))),
    ("CONNECT with a length", |_| {
        only(&[(":method", "CONNECT"), (":authority", "quay.io:443"), ("content-length", "5")])
    }),
    ("CONNECT with a scheme", |_| only(&[(":method", "CONNECT"), (":scheme", "https"), (":authority", "quay.io:443")])),
    ("CONNECT without a port", |_| only(&[(":method", "CONNECT"), (":authority", "quay.io")])),
    ("extended CONNECT", |d| {
        let fields = d.pseudo("CONNECT", d.path());
        only(&[fields[0], (":protocol", "websocket"), fields[1], fields[2], fields[3]])
    }),
    ("300 fields", |d| with(d, &[("x-field", "x"); 300])),
    ("a block of 70,000 bytes in parts", |d| {
        let whole = block(&[&d.pseudo("GET", d.path())[..], &[("x-field", &"x".repeat(70_000))]].concat());
        let mut parts = whole.chunks(16_000);
        let first = frame(HEADERS, END_STREAM, 1, parts.next().unwrap());
        let rest: Vec<Vec<u8>> = parts.map(|part| frame(CONTINUATION, 0, 1, part)).collect();
        behind(first, &[rest.concat(), frame(CONTINUATION, END_HEADERS, 1, &[])])
    }),
    ("the same field 5,000 times by its index", |d| {
        // Taken up into the peer's table once, then named by one byte each time: 20 MB in 5 KB.
        let taken = [&[0x40][..], &field(b"x-field", &b"x".repeat(4000))[1..]].concat();
        let bomb = [block(&d.pseudo("GET", d.path())), taken, vec![0x80 | 62; 5000]].concat();
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)
    }),
    ("an index that is not there", |_| frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x80 | 100])),
    ("an index of 2^64", |_| frame(HEADERS, END_HEADERS | END_STREAM, 1, &[&[0xff][..], &[0xff; 10], &[1]].concat())),
    ("a literal that is cut off", |_| frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0, 100, b'x'])),
    ("a size of the table beyond what was agreed", |d| {
        let size = integer(0x20, 5, 1_000_000);
        let honest = block(&d.pseudo("GET", d.path()));
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &[size, honest].concat())
    }),
    ("an empty block", |_| frame(HEADERS, END_HEADERS | END_STREAM, 1, &[])),
];

const BODIES: &[Kind] = &[
    ("an empty DATA frame that ends it", |d| behind(open(d, &[]), &[frame(DATA, END_STREAM, 1, &[])])),
    ("five empty DATA frames", |d| {
        behind(open(d, &[]), &[frame(DATA, 0, 1, &[]).repeat(4), frame(DATA, END_STREAM, 1, &[])])
    }),
    ("trailers and no data", |d| {
        behind(open(d, &[]), &[frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("x-trailer", "x")]))])
    }),
    ("a DATA frame of padding", |d| behind(open(d, &[]), &[frame(DATA, PADDED | END_STREAM, 1, &[4, 0, 0, 0, 0])])),
    ("five bytes of data", |d| behind(open(d, &[]), &[frame(DATA, END_STREAM, 1, b"12345")])),
    ("a length and the data", |d| behind(open(d, &[("content-length", "5")]), &[frame(DATA, END_STREAM, 1, b"12345")])),
    ("a length of 0 and no data", |d| behind(open(d, &[("content-length", "0")]), &[frame(DATA, END_STREAM, 1, &[])])),
    ("a length of 0 in a head that ends it", |d| with(d, &[("content-length", "0")])),
    ("a length of 5 in a head that ends it", |d| with(d, &[("content-length", "5")])),
    ("less data than the length", |d| {
        behind(open(d, &[("content-length", "5")]), &[frame(DATA, END_STREAM, 1, b"123")])
    }),
    ("more data than the length", |d| {
        behind(open(d, &[("content-length", "3")]), &[frame(DATA, END_STREAM, 1, b"12345")])
    }),
    ("data where the length is 0", |d| {
        behind(open(d, &[("content-length", "0")]), &[frame(DATA, END_STREAM, 1, b"1")])
    }),
    ("two lengths", |d| {
        behind(open(d, &[("content-length", "5"), ("content-length", "3")]), &[frame(DATA, END_STREAM, 1, b"12345")])
    }),
    ("a negative length", |d| with(d, &[("content-length", "-5")])),
    ("a length of letters", |d| with(d, &[("content-length", "five")])),
    ("a length of 2^64", |d| with(d, &[("content-length", "18446744073709551616")])),
    ("trailers that do not end it", |d| {
        behind(open(d, &[]), &[frame(HEADERS, END_HEADERS, 1, &block(&[("x-trailer", "x")]))])
    }),
    ("a pseudo-field in trailers", |d| {
        behind(open(d, &[]), &[frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[(":path", "/v2/")]))])
    }),
    ("data behind the end", |d| behind(with(d, &[]), &[frame(DATA, END_STREAM, 1, b"12345")])),
    ("a head behind the end", |d| with(d, &[]).repeat(2)),
    ("padding longer than the frame", |d| behind(open(d, &[]), &[frame(DATA, PADDED | END_STREAM, 1, &[200, 0])])),
    ("a DATA frame of 20,000 bytes", |d| behind(open(d, &[]), &[frame(DATA, END_STREAM, 1, &[0; 20_000])])),
];

const FRAMES: &[Kind] = &[
    ("a frame of an unknown type", |d| before_honest(d, frame(0x77, 0xff, 0, b"whatever"))),
    ("a frame of an unknown type on a stream", |d| before_honest(d, frame(0x77, 0, 1, b"whatever"))),
    ("unknown flags", |d| frame(HEADERS, 0xc2 | END_HEADERS | END_STREAM, 1, &block(&d.pseudo("GET", d.path())))),
    ("a reserved bit before the stream", |d| {
        let mut bytes = with(d, &[]);
        bytes[5] |= 0x80;
        bytes
    }),
    ("PRIORITY of an idle stream", |d| before_honest(d, frame(PRIORITY, 0, 77, &[0, 0, 0, 0, 255]))),
    ("PRIORITY that depends on itself", |d| before_honest(d, frame(PRIORITY, 0, 5, &[0, 0, 0, 5, 1]))),
    ("PRIORITY of four bytes", |d| before_honest(d, frame(PRIORITY, 0, 5, &[0; 4]))),
    ("PRIORITY of the connection", |d| before_honest(d, frame(PRIORITY, 0, 0, &[0; 5]))),
    ("a head that depends on itself", |d| {
        let head = [&[0, 0, 0, 1, 1][..], &block(&d.pseudo("GET", d.path()))].concat();
        frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, &head)
    }),
    ("PING", |d| before_honest(d, frame(PING, 0, 0, &[7; 8]))),
    ("PING of seven bytes", |d| before_honest(d, frame(PING, 0, 0, &[7; 7]))),
    ("PING on a stream", |d| before_honest(d, frame(PING, 0, 1, &[7; 8]))),
    ("an answer to a PING that nobody sent", |d| before_honest(d, frame(PING, ACK, 0, &[7; 8]))),
    ("SETTINGS on a stream", |d| before_honest(d, frame(SETTINGS, 0, 1, &[]))),
    ("SETTINGS of five bytes", |d| before_honest(d, frame(SETTINGS, 0, 0, &[0; 5]))),
    ("SETTINGS that are unknown", |d| before_honest(d, frame(SETTINGS, 0, 0, &[0x77, 0x77, 0, 0, 0, 1]))),
    ("an acknowledgement with settings", |d| before_honest(d, frame(SETTINGS, ACK, 0, &[0, 3, 0, 0, 0, 1]))),
    ("SETTINGS_ENABLE_PUSH of 2", |d| before_honest(d, frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]))),
    ("SETTINGS_INITIAL_WINDOW_SIZE of 2^31", |d| before_honest(d, frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]))),
    ("SETTINGS_MAX_FRAME_SIZE of 1", |d| before_honest(d, frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]))),
    ("SETTINGS_MAX_FRAME_SIZE of 2^24", |d| before_honest(d, frame(SETTINGS, 0, 0, &[0, 5, 1, 0, 0, 0]))),
    ("WINDOW_UPDATE of 0 for the connection", |d| before_honest(d, frame(WINDOW_UPDATE, 0, 0, &[0; 4]))),
    ("WINDOW_UPDATE of 0 for a stream", |d| behind(open(d, &[]), &[frame(WINDOW_UPDATE, 0, 1, &[0; 4])])),
    ("a window beyond 2^31", |d| before_honest(d, frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]))),
    ("WINDOW_UPDATE of an idle stream", |d| before_honest(d, frame(WINDOW_UPDATE, 0, 77, &[0, 0, 0, 1]))),
    ("WINDOW_UPDATE of three bytes", |d| before_honest(d, frame(WINDOW_UPDATE, 0, 0, &[0; 3]))),
    ("RST_STREAM of an idle stream", |d| before_honest(d, frame(RST_STREAM, 0, 77, &[0, 0, 0, 8]))),
    ("RST_STREAM of the connection", |d| before_honest(d, frame(RST_STREAM, 0, 0, &[0, 0, 0, 8]))),
    ("PUSH_PROMISE", |d| {
        let promise = [&[0, 0, 0, 2][..], &block(&d.pseudo("GET", d.path()))].concat();
        behind(open(d, &[]), &[frame(PUSH_PROMISE, END_HEADERS, 1, &promise)])
    }),
    ("CONTINUATION without a head", |d| before_honest(d, frame(CONTINUATION, END_HEADERS, 1, &[]))),
    ("PING between a head and its rest", |d| {
        let head = frame(HEADERS, END_STREAM, 1, &block(&d.pseudo("GET", d.path())));
        behind(head, &[frame(PING, 0, 0, &[0; 8]), frame(CONTINUATION, END_HEADERS, 1, &[])])
    }),
    ("the rest of a head on another stream", |d| {
        let head = frame(HEADERS, END_STREAM, 1, &block(&d.pseudo("GET", d.path())));
        behind(head, &[frame(CONTINUATION, END_HEADERS, 3, &[])])
    }),
    ("DATA of an idle stream", |_| frame(DATA, END_STREAM, 1, b"12345")),
    ("DATA of the connection", |d| before_honest(d, frame(DATA, END_STREAM, 0, b"12345"))),
    ("a head of the connection", |d| before_honest(d, d.request(0, &[]))),
    ("a head on an even stream", |d| before_honest(d, d.request(2, &[]))),
    ("a head on an earlier stream", |d| behind(d.request(5, &[]), &[d.request(3, &[]), d.request(1, &[])])),
    ("a head of 20,000 bytes in one frame", |d| with(d, &[("x-field", &"x".repeat(20_000))])),
    ("GOAWAY and a request", |d| before_honest(d, frame(GOAWAY, 0, 0, &[0; 8]))),
    ("GOAWAY of four bytes", |d| before_honest(d, frame(GOAWAY, 0, 0, &[0; 4]))),
    ("HTTP/1.1 behind the preface", |_| b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
    ("a second preface", |d| before_honest(d, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec())),
];

async fn compare(kinds: &[Kind], expected: &str) {
    let site = Site::new("").await;
    let mut observed = Observed::at(Door::ALL.map(Door::name).to_vec());
    for (name, write) in kinds {
        let mut cells = Vec::new();
        for door in Door::ALL {
            cells.push(door.try_out(&site, &write(door)).await);
        }
        observed.row(name, cells);
        site.is_well(name).await;
    }
    observed.compare(expected);
}

#[tokio::test]
async fn heads_in_http2_are_answered_as_the_table_says() {
    compare(HEADS, include_str!("heads2.txt")).await;
}

#[tokio::test]
async fn bodies_in_http2_are_answered_as_the_table_says() {
    compare(BODIES, include_str!("bodies2.txt")).await;
}

#[tokio::test]
async fn frames_are_answered_as_the_table_says() {
    compare(FRAMES, include_str!("frames.txt")).await;
}

//! Upstreams that flood, drip or never end, in HTTP/1.1 and in HTTP/2: each costs a bounded time and a bounded memory,
//! ends in an answer to the client, and leaves no connection behind.

use futures_util::StreamExt;

use super::*;
use crate::support::client::{Client, Whole};
use crate::support::{Play, Raw, Served, Tokens};

const RAW: &str = "raw.test:443";
const MIB: usize = 1 << 20;

/// What an upstream does, and what a client is told then.
struct Case {
    what: &'static str,
    play: Play,
    path: String,
    told: &'static [u16],
}

fn case(what: &'static str, path: &str, told: &'static [u16], play: Play) -> Case {
    Case { what, play, path: path.to_owned(), told }
}

fn blob() -> String {
    format!("/v2/a/blobs/sha256:{}", "1".repeat(64))
}

const TAG: &str = "/v2/a/manifests/1";
/// Or, where it is taken for away by then, our own challenge.
const FAILED: &[u16] = &[502, 503, 504, 401];

fn text(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn http1() -> Vec<Case> {
    let flood = |first: &str, again: &str| Play::Flood(text(first), text(again));
    let drip = |first: &str, again: &str| Play::Drip(text(first), text(again));
    let many = (0..200).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    vec![
        case("1xx for ever", TAG, &[502], flood("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")),
        case("100 for ever", TAG, &[502], flood("", "HTTP/1.1 100 Continue\r\n\r\n")),
        case("fields for ever", TAG, FAILED, flood("HTTP/1.1 200 OK\r\n", "x: y\r\n")),
        case("one field for ever", TAG, FAILED, flood("HTTP/1.1 200 OK\r\nx: ", "y")),
        case("200 fields", TAG, FAILED, Play::Once(text(&format!("HTTP/1.1 200 OK\r\n{many}\r\n")))),
        case("a status line for ever", TAG, FAILED, flood("HTTP/1.1 200 ", "OK")),
        case("no HTTP", TAG, FAILED, flood("", "SSH-2.0-OpenSSH\r\n")),
        case("a head that drips", TAG, FAILED, drip("HTTP/1.1 200 OK\r\n", "x: y\r\n")),
        case(
            "an error without end",
            TAG,
            &[404],
            flood("HTTP/1.1 404 N\r\nTransfer-Encoding: chunked\r\n\r\n", &chunk),
        ),
        case(
            "an error that drips",
            TAG,
            &[404],
            drip("HTTP/1.1 404 N\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
        ),
        case("a refusal that drips", &blob(), &[403], drip("HTTP/1.1 403 N\r\nContent-Length: 9999\r\n\r\n", "x")),
        case(
            "a manifest without end",
            TAG,
            FAILED,
            flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &chunk),
        ),
        case(
            "an extension without end",
            TAG,
            FAILED,
            flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "x"),
        ),
        case(
            "a chunk's length without end",
            TAG,
            FAILED,
            flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0"),
        ),
        case(
            "trailers without end",
            TAG,
            FAILED,
            flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", "x: y\r\n"),
        ),
        case(
            "a redirect that drips",
            TAG,
            FAILED,
            drip("HTTP/1.1 307 T\r\nLocation: /v2/\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
        ),
    ]
}

/// One HTTP/2 frame (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
/// `:status: 200`, which HPACK's table has.
const OK: [u8; 1] = [0x88];

/// A field that is not indexed: its name and its value (RFC 7541, 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let string = |text: &str| [vec![u8::try_from(text.len()).unwrap()], text.as_bytes().to_vec()].concat();
    [vec![0], string(name), string(value)].concat()
}

fn http2() -> Vec<Case> {
    let begun = frame(SETTINGS, 0, 0, &[]);
    let then = |frames: &[Vec<u8>]| [std::slice::from_ref(&begun), frames].concat().concat();
    let flood = |first: &[Vec<u8>], again: Vec<u8>| Play::Flood(then(first), again);
    // The first stream is the ping of nobody, or the question itself: all of them are 1 on a connection of its own.
    let ok = || frame(HEADERS, END_HEADERS, 1, &OK);
    let early = [&[0x08, 3][..], b"103"].concat(); // `:status` by index 8, with a value of its own
    let large: Vec<u8> = (0..1200).flat_map(|_| field("x-large", &"y".repeat(100))).collect();
    let pieces: Vec<Vec<u8>> = large.chunks(16_000).map(|piece| frame(CONTINUATION, 0, 1, piece)).collect();
    vec![
        case("SETTINGS for ever", TAG, FAILED, flood(&[], frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]))),
        case("PING for ever", TAG, FAILED, flood(&[], frame(PING, 0, 0, &[0; 8]))),
        case("WINDOW_UPDATE for ever", TAG, FAILED, flood(&[], frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]))),
        case("RST_STREAM for ever", TAG, FAILED, flood(&[], frame(RST_STREAM, 0, 1, &[0, 0, 0, 2]))),
        case(
            "RST_STREAM of streams that nobody opened",
            TAG,
            FAILED,
            flood(&[], frame(RST_STREAM, 0, 77, &[0, 0, 0, 2])),
        ),
        case(
            "PUSH_PROMISE for ever",
            TAG,
            FAILED,
            flood(&[], frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])),
        ),
        case("GOAWAY at once", TAG, FAILED, flood(&[], frame(GOAWAY, 0, 0, &[0; 8]))),
        case("1xx for ever", TAG, FAILED, flood(&[], frame(HEADERS, END_HEADERS, 1, &early))),
        case(
            "a 1xx and then a body",
            TAG,
            FAILED,
            flood(&[frame(HEADERS, END_HEADERS, 1, &early)], frame(DATA, 0, 1, b"x")),
        ),
        case("a body without a head", TAG, FAILED, flood(&[], frame(DATA, 0, 1, b"x"))),
        case(
            "CONTINUATION for ever",
            TAG,
            FAILED,
            flood(&[frame(HEADERS, 0, 1, &OK)], frame(CONTINUATION, 0, 1, &field("x", "y"))),
        ),
        case(
            "empty CONTINUATION for ever",
            TAG,
            FAILED,
            flood(&[frame(HEADERS, 0, 1, &OK)], frame(CONTINUATION, 0, 1, &[])),
        ),
        case(
            "a head that is too large",
            TAG,
            FAILED,
            Play::Still(then(
                &[&[frame(HEADERS, 0, 1, &OK)], &pieces[..], &[frame(CONTINUATION, END_HEADERS, 1, &[])]].concat(),
            )),
        ),
        case("empty DATA for ever", TAG, FAILED, flood(&[ok()], frame(DATA, 0, 1, &[]))),
        case("empty DATA that drips", TAG, &[504], Play::Drip(then(&[ok()]), frame(DATA, 0, 1, &[]))),
        case("empty DATA of a blob for ever", &blob(), FAILED, flood(&[ok()], frame(DATA, 0, 1, &[]))),
        case("a manifest without end", TAG, FAILED, flood(&[ok()], frame(DATA, 0, 1, &[b'x'; 16_000]))),
        case("more than the window", TAG, FAILED, flood(&[ok()], vec![0xff; 4096])),
        case("trailers again and again", TAG, FAILED, flood(&[ok()], frame(HEADERS, END_HEADERS, 1, &field("x", "y")))),
    ]
}

async fn asked(client: &Client, host: &str, path: &str) -> Whole {
    let patience = Duration::from_secs(40); // a client has its head within 25 s
    tokio::time::timeout(patience, client.get(host, path)).await.expect("an answer comes")
}

async fn all(cases: Vec<Case>, protocol: &'static [u8]) {
    let judged = cases.into_iter().map(|Case { what, play, path, told }| async move {
        let raw = Raw::start("raw.test", protocol, play);
        let proxy = plan(&raw, "raw.test").start().await;
        let answer = asked(&proxy.client(), RAW, &path).await;
        assert!(told.contains(&answer.status.as_u16()), "{what}: {} {answer:?}", answer.status);
        assert!(raw.connections() <= 12, "{what}: {}", raw.connections()); // ten redirects, and a probe
        eventually(&format!("{what}: few connections are left"), || raw.open_connections() <= 2).await;
    });
    // Few at a time: what floods takes a processor.
    futures_util::stream::iter(judged).buffer_unordered(4).collect::<Vec<()>>().await;
}

fn plan(raw: &Raw, name: &str) -> Plan {
    Plan::new().raw_registry(&raw.entry(name, "")).upstream("first_byte_timeout: 3s").impatient()
}

#[tokio::test]
async fn no_http1_upstream_floods_or_drips_for_ever() {
    all(http1(), b"http/1.1").await;
}

#[tokio::test]
async fn no_http2_upstream_floods_or_drips_for_ever() {
    all(http2(), b"h2").await;
}

#[tokio::test]
async fn what_floods_for_ever_takes_no_memory() {
    for (cases, protocol) in [(http1(), &b"http/1.1"[..]), (http2(), &b"h2"[..])] {
        for case in cases.into_iter().filter(|case| case.what.ends_with("for ever")) {
            let raw = Raw::start("raw.test", protocol, case.play);
            let folder = tempfile::tempdir().unwrap();
            let yaml = plan(&raw, "raw.test").yaml(folder.path());
            std::fs::write(folder.path().join("pullthrough.yaml"), yaml).unwrap();
            let server = Served::start(folder.path(), "warn");
            let client = Client::through(server.proxy(), &folder.path().join("ca/ca.crt"));
            assert!(!asked(&client, RAW, &case.path).await.status.is_success());
            let resident = server.resident();
            assert!(resident < 128 * MIB, "{}: {resident} bytes", case.what);
        }
    }
}

#[tokio::test]
async fn a_few_interim_answers_are_passed_over() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(20);
    let answer = format!("HTTP/1.1 100 Continue\r\n\r\n{hints}HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let raw = Raw::start("raw.test", b"http/1.1", Play::Once(text(&answer)));
    let proxy = Plan::new().raw_registry(&raw.entry("raw.test", "")).start().await;
    assert_eq!(asked(&proxy.client(), RAW, TAG).await.status, 404);
    assert_eq!(raw.connections(), 1);
}

#[tokio::test]
async fn where_a_question_was_left_unanswered_nothing_else_is_asked() {
    let registry = Registry::start("quay.io");
    registry.script("/v2/silent", Act::Silence);
    let config = Config { first_byte_timeout: Period::seconds(1), ..hosts(&[&registry]) };
    let upstream = upstream(&config, &[&registry]);
    let ask = async |path| upstream.send(&endpoint(&registry), exchange(path)).await;
    for _ in 0..3 {
        assert_eq!(bytes(ask("/v2/").await.unwrap()).await.unwrap(), "{}");
    }
    assert_eq!(registry.connections(), 1);
    assert!(matches!(ask("/v2/silent").await, Err(Error::FirstByteTimeout { .. })));
    for _ in 0..3 {
        assert_eq!(bytes(ask("/v2/").await.unwrap()).await.unwrap(), "{}");
    }
    assert_eq!(registry.connections(), 2);
    eventually("the first one is closed", || registry.open_connections() == 1).await;
}

#[tokio::test]
async fn no_token_service_is_read_or_waited_for_for_ever() {
    let json = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let plays = [
        ("a token without end", Play::Flood(text(json), text(&format!("4000\r\n{}\r\n", "x".repeat(0x4000))))),
        ("a token that drips", Play::Drip(text(json), text("1\r\n \r\n"))),
        ("a no that drips", Play::Drip(text(&json.replace("200 OK", "500 No")), text("1\r\n \r\n"))),
        ("silence", Play::Still(Vec::new())),
    ];
    for auth in ["auth: anonymous", "auth: {username: u, password: p}, realms: ['https://raw.test/token']"] {
        let asked = plays.clone().map(|(what, play)| async move {
            let raw = Raw::start("raw.test", b"http/1.1", play);
            let registry = Registry::start("quay.io");
            registry.require_token(&Tokens::new(), "https://raw.test/token");
            let reach = format!(
                "hosts: {{raw.test: {{address: '{}', ca_file: '{}'}}}}",
                raw.address(),
                lab::ca_file().display()
            );
            let more = format!("token_hosts: [raw.test], {auth}");
            let proxy = Plan::new().registry(&registry, &more).upstream(&reach).start().await;
            let patience = Duration::from_secs(40);
            let asked = tokio::time::timeout(patience, proxy.client().get("quay.io:443", TAG)).await;
            let status = asked.expect("an answer comes").status;
            assert!(status.is_server_error() || status == 401, "{what}, {auth}: {status}");
            assert!(raw.connections() <= 8, "{what}, {auth}: {} connections", raw.connections());
        });
        futures_util::future::join_all(asked).await;
    }
}

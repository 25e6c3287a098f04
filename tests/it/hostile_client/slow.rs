//! Clients that are slow, silent, or gone: each stage has a deadline, costs nobody else anything, and gives back what
//! it held.
//!
//! Deadlines are waited for with the clock paused: it goes on by itself once nothing else can happen.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::door::{Door, Honest};
use super::hello::Hello;
use super::http2::{self, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, block, frame};
use super::site::{QUAY, Site};
use super::speech::{Answer, Listener, Stream};
use crate::pull::layer;
use crate::support::{Act, Gate, eventually, until};

/// An honest request at a door, whole.
fn honest(door: Door, site: &Site) -> Vec<u8> {
    let Honest { method, target, host } = door.honest(site);
    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

/// Nobody is connected any more but who asks for this.
async fn all_gone(site: &Site) {
    let open = async || site.proxy.metric("pullthrough_connections{door=\"proxy\"}").await;
    until("every connection is closed", async || open().await == 0.0).await;
}

#[tokio::test]
async fn a_request_in_a_thousand_pieces_is_a_request() {
    let site = Site::new("").await;
    for door in Door::ALL {
        let mut listener = Listener::new(door.open(&site).await);
        let bytes = honest(door, &site);
        for byte in &bytes[..bytes.len() - 4] {
            listener.stream().write_all(&[*byte]).await.unwrap();
            listener.stream().flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        let padding = format!("\r\nX-Field: {}\r\n\r\n", "x".repeat(1000));
        for byte in padding.as_bytes() {
            listener.stream().write_all(&[*byte]).await.unwrap();
            listener.stream().flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        let method = door.honest(&site).method;
        assert_eq!(listener.next(method).await, Answer::Whole(door.answers().0), "{door:?}");
    }
    site.is_well("a thousand pieces").await;
}

#[tokio::test]
async fn a_client_that_closes_its_half_gets_what_is_there_at_once() {
    let site = Site::new("").await;
    for door in [Door::Own, Door::Admin, Door::Control] {
        let mut listener = Listener::new(door.open(&site).await);
        listener.stream().write_all(&honest(door, &site)).await.unwrap();
        listener.stream().shutdown().await.unwrap();
        assert_eq!(listener.next("GET").await, Answer::Whole(door.answers().0), "{door:?}");
        assert_eq!(listener.next("GET").await, Answer::End, "{door:?}");
    }
    all_gone(&site).await;
    site.is_well("half a connection").await;
}

/// What a client has said before it falls silent, at each door.
async fn silent(site: &Site) -> Vec<(&'static str, Box<dyn Stream>)> {
    let mut list: Vec<(&'static str, Box<dyn Stream>)> = Vec::new();
    let plain = async || TcpStream::connect(site.proxy.address()).await.unwrap();
    list.push(("nothing", Box::new(plain().await)));
    let hello = Hello::to("localhost").record();
    let begun: [(&str, &[u8]); 7] = [
        ("a byte", b"G"),
        ("half a preface", b"PRI * HTTP/2.0\r\n"),
        ("half a request line", b"GET /healthz HT"),
        ("half a head", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Fie"),
        ("half a CONNECT", b"CONNECT quay.io:443 HTTP/1.1\r\nHo"),
        ("a byte of TLS", &[22]),
        ("half a hello", &hello[..100]),
    ];
    for (what, bytes) in begun {
        let mut stream = plain().await;
        stream.write_all(bytes).await.unwrap();
        list.push((what, Box::new(stream)));
    }
    for (what, bytes) in [("nothing behind CONNECT", &b""[..]), ("half a hello behind CONNECT", &hello[..100])] {
        let mut stream = site.proxy.client().tunnel(QUAY).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        list.push((what, Box::new(stream)));
    }
    for door in [Door::OwnTls, Door::Inside, Door::Admin, Door::Control] {
        for (what, bytes) in [("half a head at a door", &b"GET / HTTP/1.1\r\nHo"[..])] {
            let mut stream = door.open(site).await;
            stream.write_all(bytes).await.unwrap();
            stream.flush().await.unwrap();
            list.push((what, stream));
        }
    }
    for door in [Door::Own, Door::OwnTls, Door::Inside, Door::Admin, Door::Control] {
        let mut listener = Listener::new(door.open(site).await);
        listener.stream().write_all(&honest(door, site)).await.unwrap();
        listener.stream().flush().await.unwrap();
        assert!(matches!(listener.next("GET").await, Answer::Whole(_)));
        list.push(("nothing behind a request", listener.into_stream()));
    }
    list
}

#[tokio::test]
async fn who_falls_silent_at_any_stage_is_left_in_time() {
    let site = Site::new("").await;
    let silent = silent(&site).await;
    site.is_well("while they are silent").await;
    tokio::time::pause();
    for (what, mut stream) in silent {
        let begun = tokio::time::Instant::now();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(1000), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{what}: still open after {:?}", begun.elapsed());
    }
    tokio::time::resume();
    all_gone(&site).await;
    site.is_well("silence").await;
}

/// HTTP/2 has no deadline for a head: who does not answer a PING is gone.
#[tokio::test]
async fn who_falls_silent_in_http2_is_left_in_time() {
    let site = Site::new("").await;
    let mut list = Vec::new();
    for door in http2::Door::ALL {
        let half = frame(HEADERS, END_STREAM, 1, &block(&door.pseudo("GET", door.path())));
        let open_ended = frame(HEADERS, 4, 1, &block(&door.pseudo("GET", door.path())));
        for (what, bytes) in [
            ("nothing", Vec::new()),
            ("half a head", half.clone()),
            ("a head in pieces that never end", [half, frame(CONTINUATION, 0, 1, &[])].concat()),
            ("a body that never comes", open_ended),
        ] {
            let mut connection = door.open(&site).await;
            connection.write(&bytes).await;
            list.push((what, door, connection));
        }
    }
    site.is_well("while they are silent").await;
    tokio::time::pause();
    for (what, door, mut connection) in list {
        let all = async { while connection.hearing.next().await.is_some() {} };
        let ended = tokio::time::timeout(Duration::from_secs(1000), all).await;
        assert!(ended.is_ok(), "{what} at {door:?}: still open");
    }
    tokio::time::resume();
    assert_eq!(site.registry.count("*/tags/list"), 0);
    all_gone(&site).await;
    site.is_well("silence").await;
}

/// Leaves by FIN, or by RST.
fn leave(stream: TcpStream, abruptly: bool) {
    if abruptly {
        stream.set_zero_linger().unwrap();
    }
}

#[tokio::test]
async fn who_leaves_at_any_byte_leaves_nothing_behind() {
    let site = Site::new("").await;
    let hello = Hello::to("quay.io").record();
    let connect = honest(Door::Connect, &site);
    for script in
        [honest(Door::Own, &site), honest(Door::Absolute, &site), connect.clone(), Hello::to("localhost").record()]
    {
        for end in (0..script.len()).step_by(3) {
            let mut stream = TcpStream::connect(site.proxy.address()).await.unwrap();
            stream.write_all(&script[..end]).await.unwrap();
            leave(stream, end % 2 == 0);
        }
    }
    for end in (0..hello.len()).step_by(7) {
        let mut stream = site.proxy.client().tunnel(QUAY).await.unwrap();
        stream.write_all(&hello[..end]).await.unwrap();
        leave(stream, end % 2 == 0);
    }
    let inside = honest(Door::Inside, &site);
    for end in (0..inside.len()).step_by(5) {
        let mut stream = site.proxy.client().tls(QUAY).await.unwrap();
        stream.write_all(&inside[..end]).await.unwrap();
        stream.flush().await.unwrap();
        leave(stream.into_inner().0, end % 2 == 0);
    }
    assert_eq!(site.reached(), site.registry.count("*/manifests/*") + site.registry.count("*/blobs/*"), "no list");
    all_gone(&site).await;
    site.is_well("they left").await;
}

#[tokio::test]
async fn who_leaves_before_or_within_an_answer_costs_one_request_and_no_more() {
    let site = Site::new("").await;
    for (seed, h2) in [(7, false), (8, true)] {
        let bytes = layer(3_000_000, seed);
        let digest = site.registry.push_blob("open/app", bytes.clone());
        let path = format!("/v2/open/app/blobs/{digest}");
        let gate = Gate::new();
        let held = site.registry.script(&format!("GET {path}"), Act::Hold(1_000_000, gate.clone()));
        let client = if h2 { site.proxy.client().h2() } else { site.proxy.client() };
        let mut session = client.session(QUAY).await;
        let mut answer = session.send("GET", &path, &[], pullthrough::wire::Body::empty()).await.unwrap();
        assert_eq!(answer.status(), 200);
        http_body_util::BodyExt::frame(answer.body_mut()).await.unwrap().unwrap();
        drop((answer, session));
        gate.open();
        site.proxy.stored(&digest).await;
        assert_eq!(site.registry.count(&format!("GET {path}")), 1, "who left does not stop it, and nobody asks again");
        site.registry.unscript(held);
    }
    let gate = Gate::new();
    let held = site.registry.script("*/tags/list", Act::Wait(gate.clone()));
    let asked = site.registry.count("*/tags/list");
    for h2 in [false, true] {
        let client = if h2 { site.proxy.client().h2() } else { site.proxy.client() };
        let mut session = client.session(QUAY).await;
        let sending = session.send("GET", "/v2/open/app/tags/list", &[], pullthrough::wire::Body::empty());
        let arrived =
            eventually("the question is there", || site.registry.count("*/tags/list") == asked + 1 + usize::from(h2));
        tokio::select! {
            _ = sending => panic!("nobody answers yet"),
            () = arrived => {}
        }
    }
    site.is_well("while a question is open").await;
    gate.open();
    site.registry.unscript(held);
    eventually("no question is open upstream", || site.registry.open_connections() <= 8).await;
    all_gone(&site).await;
    site.is_well("they left").await;
}

#[tokio::test]
async fn a_request_behind_a_body_that_nobody_reads_is_not_read_as_one() {
    let site = Site::new("").await;
    // 405 to the push; what follows may be its body, and so the connection ends.
    let smuggled = "GET /v2/open/app/tags/list HTTP/1.1\r\nHost: quay.io\r\n\r\n";
    let head = "PUT /v2/open/app/manifests/x HTTP/1.1\r\nHost: quay.io\r\nContent-Length: 9223372036854775808\r\n\r\n";
    for expect in ["", "Expect: 100-continue\r\n"] {
        let head = head.replace("\r\n\r\n", &format!("\r\n{expect}\r\n"));
        let mut listener = Listener::new(Door::Inside.open(&site).await);
        listener.stream().write_all(format!("{head}{smuggled}").as_bytes()).await.unwrap();
        listener.stream().flush().await.unwrap();
        assert_eq!(listener.next("PUT").await, Answer::Whole(405));
        assert_eq!(listener.next("GET").await, Answer::End);
    }
    assert_eq!(site.registry.count("*/tags/list") + site.registry.count("PUT *"), 0);
    site.is_well("a body that nobody reads").await;
}

/// What announces a body and brings none, or stops within it.
const UPLOADS: [(&str, &str, &str, &str); 4] = [
    ("PUT", "/v2/open/app/manifests/x", "Content-Length: 100", ""),
    ("PATCH", "/v2/open/app/blobs/uploads/1", "Transfer-Encoding: chunked", "5\r\nbegun\r\n"),
    ("POST", "/v2/open/app/blobs/uploads/", "Content-Length: 1000\r\nExpect: 100-continue", ""),
    ("POST", "/a/page", "Content-Length: 100", "begun"),
];

/// Time that goes two hundred times as fast as it is, while `of` waits. Not as fast as nothing happens: what is under way
/// between the ends of a connection would take seconds of it, and a ping of HTTP/2 be overdue.
async fn hurried<F: Future>(of: F) -> F::Output {
    let clock = async {
        loop {
            // While this runs, the clock stands.
            let _ = tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(5))).await;
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        output = of => output,
        () = clock => unreachable!(),
    }
}

/// The first answer that is no interim one, after whatever time.
async fn at_last(listener: &mut Listener) -> Answer {
    loop {
        match listener.next("PUT").await {
            Answer::Silence | Answer::Whole(100) => {}
            answer => return answer,
        }
    }
}

#[tokio::test]
async fn a_body_that_never_comes_is_no_outage_of_the_registry() {
    for (push, upstream_h2) in [("push: allow, ", false), ("push: allow, ", true), ("", false), ("", true)] {
        let site = Site::impatient(push, upstream_h2, "30s").await;
        site.registry.script("POST /a/page", Act::Silence); // as whoever waits for all of it
        let uploads = UPLOADS.into_iter().filter(|(_, path, ..)| !push.is_empty() || !path.starts_with("/v2/"));
        let (mut plain, mut streams) = (Vec::new(), Vec::new());
        for (method, path, framing, begun) in uploads {
            let mut listener = Listener::new(Door::Inside.open(&site).await);
            let head = format!("{method} {path} HTTP/1.1\r\nHost: quay.io\r\n{framing}\r\n\r\n{begun}");
            listener.stream().write_all(head.as_bytes()).await.unwrap();
            listener.stream().flush().await.unwrap();
            plain.push((method, path, listener));
            let door = http2::Door::Inside;
            let mut connection = door.open(&site).await;
            connection.write(&frame(HEADERS, END_HEADERS, 1, &block(&door.pseudo(method, path)))).await;
            connection.write(&frame(DATA, 0, 1, begun.as_bytes())).await;
            streams.push((method, path, connection));
        }
        let asked = || ["PUT *", "PATCH *", "POST *"].map(|pattern| site.registry.count(pattern)).iter().sum::<usize>();
        eventually("all have begun upstream", || asked() == plain.len() + streams.len()).await;
        tokio::time::pause();
        for (method, path, mut listener) in plain {
            let answer = hurried(at_last(&mut listener)).await;
            assert_eq!(answer, Answer::Whole(408), "{push}{upstream_h2} {method} {path}");
            assert_eq!(listener.next("PUT").await, Answer::End, "{method} {path}");
        }
        for (method, path, mut connection) in streams {
            let answer = tokio::time::timeout(
                Duration::from_secs(1000),
                hurried(async {
                    loop {
                        match connection.outcome(1).await {
                            silence if silence == "silence" => {}
                            answer => return answer,
                        }
                    }
                }),
            );
            let answer = answer.await.unwrap();
            assert!(answer.starts_with("408"), "{push}{upstream_h2} {method} {path} by HTTP/2: {answer}");
        }
        tokio::time::resume();
        let list = site.proxy.client().session(QUAY).await.get("/v2/open/app/tags/list").await;
        assert_eq!(list.status, 200, "{push}{upstream_h2}");
        let up = "pullthrough_upstream_up{registry=\"quay.io\",endpoint=\"https://quay.io\"}";
        assert_eq!(site.proxy.metric(up).await, 1.0, "{push}{upstream_h2}");
        site.is_well("bodies that never come").await;
    }
}

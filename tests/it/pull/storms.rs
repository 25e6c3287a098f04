//! A registry that answers, whatever it answers, and brings nothing: it is asked a bounded number of times, at a
//! growing pause, and one warning says what it did.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use pullthrough::oci::Digest;
use pullthrough::wire::Body;

use super::layer;
use crate::support::client::whole;
use crate::support::{Act, Gate, Length, Log, Part, Plan, Proxy, Registry, Setup, until};

const BLOBS: &str = "GET */blobs/sha*";
const LENGTH: usize = 1_000_000;
const CUT: u64 = 100_000;
const MIB: usize = 1 << 20;

/// What a range is answered with.
struct Storm {
    what: &'static str,
    answer: fn(u64, &Bytes) -> Part,
    worth: Worth,
}

/// What such an answer counts for.
#[derive(Clone, Copy)]
enum Worth {
    /// It brings nothing.
    Nothing,
    /// As that; over a connection that had answered, a stream that is reset is tried once more on another one.
    Reset,
    /// It brings something: sixteen tries are for nothing before they count as in vain.
    Little,
}

impl Worth {
    /// How often the rest is asked for at most, if it is given up after so many tries in vain.
    fn requests(self, in_vain: usize) -> usize {
        match self {
            Self::Nothing => in_vain,
            Self::Reset => 2 * in_vain,
            Self::Little => 16 + in_vain,
        }
    }
}

fn part(from: u64, to: u64, bytes: &Bytes) -> Part {
    let range = Some(format!("bytes {from}-{}/{}", to - 1, bytes.len()));
    Part { status: 206, range, bytes: bytes.slice(from as usize..to as usize), length: Length::True }
}

fn storms() -> Vec<Storm> {
    let storm = |what, answer| Storm { what, answer, worth: Worth::Nothing };
    vec![
        storm("a part long before", |_, bytes| part(0, 1, bytes)),
        storm("a part up to the place", |from, bytes| part(0, from, bytes)),
        storm("the right part, empty, without a length", |from, bytes| Part {
            bytes: Bytes::new(),
            length: Length::Unsaid,
            ..part(from, bytes.len() as u64, bytes)
        }),
        storm("the right part, cut before its first byte", |from, bytes| Part {
            bytes: Bytes::new(),
            length: Length::Said(bytes.len() as u64 - from),
            ..part(from, bytes.len() as u64, bytes)
        }),
        storm("the beginning of the whole, without a length", |_, bytes| Part {
            status: 200,
            range: None,
            bytes: bytes.slice(..1000),
            length: Length::Unsaid,
        }),
        storm("the beginning of the whole, cut", |_, bytes| Part {
            status: 200,
            range: None,
            bytes: bytes.slice(..1000),
            length: Length::Said(bytes.len() as u64),
        }),
        storm("503", |_, _| Part { status: 503, ..Part::default() }),
        Storm { what: "a reset", answer: |_, _| Part::default(), worth: Worth::Reset },
        storm("a part that says not which", |_, bytes| Part { range: None, ..part(0, 1, bytes) }),
        storm("a part long before of an unknown whole", |_, bytes| Part {
            range: Some("bytes 0-0/*".into()),
            ..part(0, 1, bytes)
        }),
        storm("416, and the length is the known one", |_, bytes| Part {
            status: 416,
            range: Some(format!("bytes */{}", bytes.len())),
            ..Part::default()
        }),
        storm("a part long behind", |from, bytes| part(from + 1, from + 2, bytes)),
        storm("another length", |from, bytes| Part {
            range: Some(format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len() + 1)),
            ..part(from, bytes.len() as u64, bytes)
        }),
        Storm { what: "a byte at a time", answer: |from, bytes| part(from, from + 1, bytes), worth: Worth::Little },
    ]
}

struct Lab {
    proxy: Proxy,
    log: Log,
    /// Opens the first answer of each, which then breaks.
    gate: Gate,
    blobs: Vec<(Storm, Registry, Digest)>,
}

impl Lab {
    /// One proxy before a registry for each storm. The first answer brings a tenth and is cut, once the gate is open.
    async fn of(storms: Vec<Storm>, h2: bool, length: usize) -> Self {
        let (log, gate, mut plan, mut blobs) = (Log::begin(), Gate::new(), Plan::new(), Vec::new());
        for (number, storm) in storms.into_iter().enumerate() {
            let registry = Registry::with(Setup { h2, ..Setup::named(&format!("r{number}.test")) });
            let digest = registry.push_blob("org/app", layer(length, number as u64));
            registry.script_times(1, BLOBS, Act::Hold(CUT, gate.clone()));
            registry.script(BLOBS, Act::Cut(CUT)); // so the whole brings no more, either
            registry.script(BLOBS, Act::PartOf(storm.answer));
            plan = plan.registry(&registry, "");
            blobs.push((storm, registry, digest));
        }
        Self { proxy: plan.start().await, log, gate, blobs }
    }

    /// Asks for every blob, and does this with each answer.
    async fn each<F: Future>(&self, headers: &[(&str, &str)], then: impl Fn(&'static str, Response<Incoming>) -> F) {
        let then = &then;
        let asking = self.blobs.iter().map(|(storm, registry, digest)| async move {
            let mut session = self.proxy.client().session(&format!("{}:443", registry.name())).await;
            let path = format!("/v2/org/app/blobs/{digest}");
            let answer = session.send("GET", &path, headers, Body::empty()).await.unwrap();
            then(storm.what, answer).await;
        });
        join_all(asking).await;
    }

    async fn ends(&self) {
        until("no fill is left", async || self.proxy.metric("pullthrough_fills_in_progress").await == 0.0).await;
    }

    /// Each registry was asked no more than so often, and one line says which fill was given up, and why.
    fn judge(&self, in_vain: usize) {
        for (Storm { what, worth, .. }, registry, digest) in &self.blobs {
            let (requests, most) = (registry.count(BLOBS), 1 + worth.requests(in_vain));
            assert!(requests <= most, "{what}: {requests} requests");
            let lines = self.log.warnings(&[&digest.to_string()]);
            assert_eq!(lines.len(), 1, "{what}: {lines:#?}");
            for word in [registry.name(), "org/app", "gave up a fill", "fault="] {
                assert!(lines[0].contains(word), "{what}: no {word} in {}", lines[0]);
            }
        }
    }
}

async fn a_client_that_stays(h2: bool) {
    let lab = Lab::of(storms(), h2, LENGTH).await;
    lab.gate.open();
    let begun = Instant::now();
    lab.each(&[], async |what, answer| {
        let answer = whole(answer).await;
        assert!(!answer.status.is_success() || answer.body.is_err(), "{what}: it must not end cleanly");
    })
    .await;
    lab.ends().await;
    lab.judge(8);
    assert!(begun.elapsed() > Duration::from_secs(8), "the pauses have grown");
}

async fn a_client_that_leaves(h2: bool) {
    let lab = Lab::of(storms(), h2, LENGTH).await;
    lab.each(&[], async |_, mut answer| drop(answer.frame().await.unwrap().unwrap())).await;
    let open = async || lab.proxy.metric("pullthrough_connections{door=\"proxy\"}").await;
    until("all clients are gone", async || open().await == 0.0).await;
    lab.gate.open();
    lab.ends().await;
    lab.judge(2);
}

async fn a_reader_far_ahead(h2: bool) {
    let lab = Lab::of(storms(), h2, 8 * MIB).await;
    let tried = async {
        let asked = |(_, registry, _): &(Storm, Registry, Digest)| registry.count(BLOBS) > 1;
        until("all have been tried", async || lab.blobs.iter().all(asked)).await;
        lab.gate.open();
    };
    let read = lab.each(&[("range", "bytes=-65536")], async |what, answer| {
        assert!(whole(answer).await.body.is_err(), "{what}: it must not end cleanly");
    });
    tokio::join!(read, tried);
    lab.ends().await;
    for (Storm { what, worth, .. }, registry, _) in &lab.blobs {
        // After four in vain, ranges are of no use to the readers of this blob; its own lane is judged by itself.
        let (requests, most) = (registry.count(BLOBS), 1 + worth.requests(4) + worth.requests(8));
        assert!(requests <= most, "{what}: {requests} requests");
    }
}

#[tokio::test]
async fn no_answer_that_brings_nothing_makes_a_storm_while_a_client_waits() {
    a_client_that_stays(false).await;
}

#[tokio::test]
async fn no_answer_that_brings_nothing_makes_a_storm_while_a_client_waits_over_http2() {
    a_client_that_stays(true).await;
}

#[tokio::test]
async fn no_answer_that_brings_nothing_makes_a_storm_after_the_client_has_left() {
    a_client_that_leaves(false).await;
}

#[tokio::test]
async fn no_answer_that_brings_nothing_makes_a_storm_after_the_client_has_left_over_http2() {
    a_client_that_leaves(true).await;
}

#[tokio::test]
async fn no_answer_that_brings_nothing_makes_a_storm_for_a_reader_far_ahead() {
    a_reader_far_ahead(false).await;
}

#[tokio::test]
async fn no_answer_that_brings_nothing_makes_a_storm_for_a_reader_far_ahead_over_http2() {
    a_reader_far_ahead(true).await;
}

#[tokio::test]
async fn a_fill_that_nobody_waits_for_is_put_away_without_a_word_of_its_own_while_the_registry_is_away() {
    let (log, gate) = (Log::begin(), Gate::new());
    let mut registry = Registry::with(Setup { h2: false, ..Setup::named("r.test") });
    let digest = registry.push_blob("org/app", layer(LENGTH, 1));
    registry.script_times(1, BLOBS, Act::Hold(CUT, gate));
    let proxy = Plan::new().registry(&registry, "").start().await;
    let mut session = proxy.client().session("r.test:443").await;
    let mut answer = session.send("GET", &format!("/v2/org/app/blobs/{digest}"), &[], Body::empty()).await.unwrap();
    answer.frame().await.unwrap().unwrap();
    drop((answer, session));
    let metric = async |name| proxy.metric(name).await;
    until("the client is gone", async || metric("pullthrough_connections{door=\"proxy\"}").await == 0.0).await;
    registry.stop();
    until("no fill is left", async || metric("pullthrough_fills_in_progress").await == 0.0).await;
    assert_eq!(log.warnings(&[&digest.to_string()]), Vec::<String>::new());
    assert_eq!(log.warnings(&["the registry is unreachable"]).len(), 1);
}

#[tokio::test]
async fn a_blob_of_which_no_byte_ever_comes_is_asked_for_twice() {
    let log = Log::begin();
    let cases: [(&str, fn(&str) -> Act, usize); 3] = [
        ("503", |_| Act::Status(503), 2),
        ("reset", |_| Act::Reset, 2),
        ("circle", |name| Act::Redirect { status: 307, location: format!("https://{name}{{path}}") }, 2 * 11),
    ];
    for (number, (what, act, expected)) in cases.into_iter().enumerate() {
        let registry = Registry::with(Setup { h2: false, ..Setup::named(&format!("r{number}.test")) });
        let digest = registry.push_blob("org/app", layer(1000, number as u64));
        registry.script(BLOBS, act(registry.name()));
        let proxy = Plan::new().registry(&registry, "").start().await;
        let host = format!("{}:443", registry.name());
        for round in 1..3 {
            let answer = proxy.client().get(&host, &format!("/v2/org/app/blobs/{digest}")).await;
            assert!(answer.status.is_server_error(), "{what}: {}", answer.status);
            assert_eq!(registry.count(BLOBS), round * expected, "{what}");
            assert_eq!(log.warnings(&[&digest.to_string(), "gave up a fill"]).len(), round, "{what}");
        }
    }
}

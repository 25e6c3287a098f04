//! A layer that is cut on the way is taken up wherever the registry allows it: whatever it answers to a question for the
//! rest, the client gets the right bytes, and what has landed is fetched again only where there is no other way.

mod refused;

use futures_util::future::join_all;
use http_body_util::BodyExt;
use pullthrough::oci::Digest;
use pullthrough::wire::Body;

use super::layer;
use crate::support::{Act, Gate, Length, Part, Plan, Proxy, Registry, Seen, Setup, basic_value, eventually, until};

const BLOBS: &str = "GET */blobs/sha*";
const LENGTH: usize = 1_500_000;
/// Where the first answer is held until everybody is there, and where it is cut.
const HOLD: u64 = 600_000;
const CUT: u64 = 1_200_000;

/// What is answered after the cut.
struct Row {
    what: &'static str,
    acts: Vec<(usize, Act)>,
    cost: Cost,
}

/// What it costs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cost {
    /// The rest comes by a part, after so many requests besides the first one.
    Rest(usize),
    /// The registry can only send the whole.
    Whole(usize),
}

const ALWAYS: usize = usize::MAX;

fn answer(status: u16, headers: &[(&str, &str)]) -> Act {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Act::Answer { status, headers, body: "{\"errors\":[]}".into() }
}

fn to_range(act: Act) -> Act {
    Act::ToRange(Box::new(act))
}

/// Every range is answered like this.
fn always(what: &'static str, act: Act, requests: usize) -> Row {
    Row { what, acts: vec![(ALWAYS, act)], cost: Cost::Whole(requests) }
}

/// So many ranges are, and then it is well. The first request, which is none, counts along.
fn at_first(what: &'static str, times: usize, act: Act) -> Row {
    Row { what, acts: vec![(times + 1, to_range(act))], cost: Cost::Rest(times + 1) }
}

fn part_of(make: fn(u64, &bytes::Bytes) -> Part) -> Act {
    Act::PartOf(make)
}

fn rows() -> Vec<Row> {
    let open = |status| Act::ToOpenRange(Box::new(answer(status, &[])));
    let wait = [("retry-after", "1")];
    vec![
        Row { what: "416 to an open range", acts: vec![(ALWAYS, open(416))], cost: Cost::Rest(2) },
        Row { what: "400 to an open range", acts: vec![(ALWAYS, open(400))], cost: Cost::Rest(2) },
        Row { what: "403 to an open range", acts: vec![(ALWAYS, open(403))], cost: Cost::Rest(3) },
        Row { what: "500 to an open range", acts: vec![(ALWAYS, open(500))], cost: Cost::Rest(3) },
        always("416 to any range", to_range(answer(416, &[("content-range", "bytes */1500000")])), 3),
        always("416 without a length", to_range(answer(416, &[])), 3),
        always("400 to any range", to_range(answer(400, &[])), 3),
        always("501 to any range", to_range(answer(501, &[])), 3),
        always("500 to any range", to_range(answer(500, &[])), 6),
        always("403 to any range", to_range(answer(403, &[])), 6),
        always("404 to any range", to_range(answer(404, &[])), 6),
        always("the whole", Act::IgnoreRange, 1),
        always(
            "another part",
            part_of(|from, bytes| Part {
                status: 206,
                range: Some(format!("bytes {}-{}/{}", from + 1, bytes.len() - 1, bytes.len())),
                bytes: bytes.slice(from as usize + 1..),
                length: Length::True,
            }),
            3,
        ),
        always(
            "a part of another length",
            part_of(|from, bytes| Part {
                status: 206,
                range: Some(format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len() + 7)),
                bytes: bytes.slice(from as usize..),
                length: Length::True,
            }),
            3,
        ),
        always(
            "a part that does not say which",
            part_of(|from, bytes| Part { status: 206, bytes: bytes.slice(from as usize..), ..Part::default() }),
            3,
        ),
        always(
            "several parts",
            to_range(Act::Answer {
                status: 206,
                headers: vec![("content-type".into(), "multipart/byteranges; boundary=x".into())],
                body: "--x\r\ncontent-range: bytes 1200000-1200003/1500000\r\n\r\nabcd\r\n--x--\r\n".into(),
            }),
            3,
        ),
        at_first("429 with Retry-After", 4, answer(429, &wait)),
        at_first("429 without Retry-After", 2, answer(429, &[])),
        at_first("500", 2, answer(500, &[])),
        at_first("502", 2, answer(502, &[])),
        at_first("503", 2, answer(503, &[])),
        at_first("503 with Retry-After", 2, answer(503, &wait)),
        at_first("504", 2, answer(504, &[])),
        at_first("403", 1, answer(403, &[])),
        at_first("404", 1, answer(404, &[])),
        at_first("silence", 1, Act::Silence),
    ]
}

struct Lab {
    proxy: Proxy,
    gate: Gate,
    blobs: Vec<(Row, Registry, Digest, Vec<u8>)>,
}

impl Lab {
    async fn of(rows: Vec<Row>, h2: bool, fill: &str) -> Self {
        let (gate, mut plan, mut blobs) = (Gate::new(), Plan::new().impatient().fill(fill), Vec::new());
        for (number, row) in rows.into_iter().enumerate() {
            let registry = Registry::with(Setup { h2, ..Setup::named(&format!("r{number}.test")) });
            let bytes = layer(LENGTH, number as u64);
            let digest = registry.push_blob("org/app", bytes.clone());
            registry.script_times(1, BLOBS, Act::Hold(HOLD, gate.clone()));
            registry.script_times(1, BLOBS, Act::Cut(CUT));
            for (times, act) in &row.acts {
                if *times == ALWAYS {
                    registry.script(BLOBS, act.clone());
                } else {
                    registry.script_times(*times, BLOBS, act.clone());
                }
            }
            plan = plan.registry(&registry, "");
            blobs.push((row, registry, digest, bytes));
        }
        Self { proxy: plan.start().await, gate, blobs }
    }

    /// Everybody begins to read, then the first answers are cut, and everybody reads on.
    async fn pull(&self, readers: &[&str]) {
        let pulls = self.blobs.iter().flat_map(|blob| readers.iter().map(move |reader| (blob, reader)));
        let pulls = join_all(pulls.map(|((row, registry, digest, bytes), reader)| async move {
            let mut session = self.proxy.client().session(&format!("{}:443", registry.name())).await;
            let authorization = basic_value(reader, "secret");
            let headers = [("authorization", authorization.as_str())];
            let path = format!("/v2/org/app/blobs/{digest}");
            let mut answer = session.send("GET", &path, &headers, Body::empty()).await.unwrap();
            assert_eq!(answer.status(), 200, "{}", row.what);
            let first = answer.frame().await.unwrap().unwrap().into_data().unwrap();
            (row, session, answer.into_body(), first, bytes)
        }))
        .await;
        self.gate.open();
        join_all(pulls.into_iter().map(|(row, session, body, first, bytes)| async move {
            let rest = body.collect().await.unwrap_or_else(|error| panic!("{}: {error}", row.what)).to_bytes();
            drop(session);
            assert!([&first[..], &rest[..]].concat() == *bytes, "{}: other bytes", row.what);
        }))
        .await;
    }

    async fn judge(&self) {
        let mut wrong = Vec::new();
        for (row, registry, digest, _) in &self.blobs {
            self.proxy.stored(digest).await;
            let label = format!("pullthrough_upstream_bytes_total{{registry=\"{}\"}}", registry.name());
            let (requests, bytes) = (registry.count(BLOBS) - 1, self.proxy.metric(&label).await as u64);
            let (expected, most) = match row.cost {
                Cost::Rest(requests) => (requests, LENGTH as u64),
                Cost::Whole(requests) => (requests, LENGTH as u64 + CUT),
            };
            // An answer of the wrong part is left; some of it may have come.
            if requests != expected || !(LENGTH as u64..=most + (256 << 10)).contains(&bytes) {
                wrong.push(format!("{}: {requests} requests, not {expected}; {bytes} bytes", row.what));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

const SINGLE: &str = "lanes: 1";

#[tokio::test]
async fn whatever_is_answered_to_the_rest_of_a_layer_one_reader_gets_it() {
    let lab = Lab::of(rows(), false, SINGLE).await;
    lab.pull(&["alice"]).await;
    lab.judge().await;
}

#[tokio::test]
async fn whatever_is_answered_to_the_rest_of_a_layer_one_reader_gets_it_over_http2() {
    let lab = Lab::of(rows(), true, SINGLE).await;
    lab.pull(&["alice"]).await;
    lab.judge().await;
}

#[tokio::test]
async fn whatever_is_answered_to_the_rest_of_a_layer_several_readers_get_it() {
    let lab = Lab::of(rows(), false, SINGLE).await;
    lab.pull(&["alice", "bob", "carol"]).await;
    lab.blobs.iter().for_each(|(row, registry, ..)| {
        let most = 10; // with two others there is somebody else to ask
        assert!(registry.count(BLOBS) <= most, "{}: {} requests", row.what, registry.count(BLOBS));
    });
}

#[tokio::test]
async fn lanes_that_are_refused_their_parts_leave_the_layer_to_one_that_is_not() {
    for readers in [&["alice"][..], &["alice", "bob"]] {
        let lab = Lab::of(rows(), false, "parallel_from: 1MiB, lanes: 4").await;
        // Slow enough that more lanes are tried before the first one is cut.
        lab.blobs.iter().for_each(|(_, registry, ..)| {
            registry.script(BLOBS, Act::Throttle(1_500_000));
        });
        lab.pull(readers).await;
        for (row, registry, digest, _) in &lab.blobs {
            lab.proxy.stored(digest).await;
            assert!(registry.count(BLOBS) <= 12, "{}: {} requests", row.what, registry.count(BLOBS));
        }
    }
}

#[tokio::test]
async fn a_layer_whose_length_nobody_said_is_taken_up_too() {
    let acts = [
        (None, 2),
        (Some(Act::IgnoreRange), 2),
        (Some(Act::ToOpenRange(Box::new(answer(416, &[])))), 3),
        (Some(to_range(answer(400, &[]))), 4),
    ];
    for (number, (act, requests)) in acts.into_iter().enumerate() {
        let registry = Registry::start("quay.io");
        let proxy = Plan::new().registry(&registry, "").start().await;
        let bytes = layer(LENGTH, number as u64);
        let digest = registry.push_blob("a", bytes.clone());
        registry.script(BLOBS, Act::NoLength);
        registry.script_times(1, BLOBS, Act::Cut(CUT));
        if let Some(act) = act {
            registry.script(BLOBS, act);
        }
        let answer = proxy.client().get(super::QUAY, &format!("/v2/a/blobs/{digest}")).await;
        assert!(*answer.bytes() == bytes, "{number}");
        assert_eq!(registry.count(BLOBS), requests, "{number}");
    }
}

/// A registry behind which a CDN has the blobs, and what its first answers to a range are.
async fn behind_a_cdn(act: Act, requests: usize) {
    let registry = Registry::start("quay.io");
    let cdn = registry.sibling(Setup::named("cdn.quay.io"));
    registry.redirect_blobs("https://cdn.quay.io");
    cdn.script_times(1, BLOBS, Act::Cut(CUT));
    cdn.script_times(requests, BLOBS, to_range(act));
    let proxy = Plan::new().registry(&registry, "").host("cdn.quay.io", &cdn).start().await;
    let bytes = layer(LENGTH, 14);
    let digest = registry.push_blob("a", bytes.clone());
    let answer = proxy.client().get(super::QUAY, &format!("/v2/a/blobs/{digest}")).await;
    assert!(*answer.bytes() == bytes);
    // Each time from the registry on, which signs a new address.
    assert_eq!((registry.count(BLOBS), cdn.count(BLOBS)), (requests + 1, requests + 1));
    assert_eq!(proxy.metric("pullthrough_upstream_bytes_total").await as usize, LENGTH, "nothing came twice");
}

#[tokio::test]
async fn an_expired_address_is_asked_for_again_at_the_registry() {
    for status in [403, 404, 401, 410] {
        behind_a_cdn(answer(status, &[]), 1).await;
        behind_a_cdn(answer(status, &[]), 2).await;
    }
    for headers in [&[("retry-after", "1")][..], &[]] {
        behind_a_cdn(answer(429, headers), 2).await;
        behind_a_cdn(answer(503, headers), 2).await;
    }
}

#[tokio::test]
async fn an_expired_address_on_the_registrys_own_host_is_asked_for_again_too() {
    for status in [403, 404] {
        let registry = Registry::start("quay.io");
        let location = "https://quay.io/signed{path}".to_owned();
        registry.script("GET /v2/*/blobs/sha*", Act::Redirect { status: 307, location });
        registry.script_times(1, "GET /signed/*", Act::Cut(CUT));
        registry.script_times(2, "GET /signed/*", to_range(answer(status, &[])));
        let proxy = Plan::new().registry(&registry, "").start().await;
        let bytes = layer(LENGTH, 15);
        let digest = registry.push_blob("a", bytes.clone());
        let answer = proxy.client().get(super::QUAY, &format!("/v2/a/blobs/{digest}")).await;
        assert!(*answer.bytes() == bytes, "{status}");
        assert_eq!((registry.count("GET /v2/*"), registry.count("GET /signed/*")), (3, 3), "{status}");
    }
}

/// What an upstream says to everything after the cut.
fn dead_ends() -> Vec<(&'static str, Act)> {
    let page = vec![("content-type".to_owned(), "text/html".to_owned())];
    vec![
        ("401", answer(401, &[])),
        ("403", answer(403, &[])),
        ("404", answer(404, &[])),
        ("416", answer(416, &[])),
        ("500", answer(500, &[])),
        ("503", answer(503, &[])),
        ("400", answer(400, &[])),
        ("a page", Act::Answer { status: 200, headers: page, body: "<html>".into() }),
        ("a reset", Act::Reset),
    ]
}

#[tokio::test]
async fn what_has_landed_is_kept_when_every_way_fails_and_the_next_demand_goes_on_from_there() {
    for (length, cut) in [(LENGTH, CUT), (300_000, 100_000)] {
        let log = crate::support::Log::begin();
        let (mut plan, mut blobs) = (Plan::new(), Vec::new());
        for (number, (what, act)) in dead_ends().into_iter().enumerate() {
            let registry = Registry::start(&format!("r{number}.test"));
            let bytes = layer(length, number as u64);
            let digest = registry.push_blob("org/app", bytes.clone());
            registry.script_times(1, BLOBS, Act::Cut(cut));
            plan = plan.registry(&registry, "");
            blobs.push((what, act, registry, digest, bytes));
        }
        let proxy = plan.start().await;
        let count = blobs.len();
        join_all(blobs.into_iter().map(|(what, act, registry, digest, bytes)| {
            let (log, proxy) = (&log, &proxy);
            async move {
                let (host, path) = (format!("{}:443", registry.name()), format!("/v2/org/app/blobs/{digest}"));
                let mut session = proxy.client().session(&host).await;
                let gate = Gate::new();
                registry.script_times(1, BLOBS, Act::Hold(cut / 2, gate.clone()));
                let mut answer = session.send("GET", &path, &[], Body::empty()).await.unwrap();
                answer.frame().await.unwrap().unwrap();
                let line = registry.script(BLOBS, act);
                gate.open();
                assert!(answer.into_body().collect().await.is_err(), "{what}: it must not end cleanly");
                until("it is given up", async || log.warnings(&[&digest.to_string()]).len() == 1).await;
                let lines = log.warnings(&[&digest.to_string()]);
                for word in [registry.name(), "org/app", "gave up a fill"] {
                    assert!(lines[0].contains(word), "{what}: no {word} in {}", lines[0]);
                }
                registry.unscript(line);
                registry.forget();
                let got = proxy.client().get(&host, &path).await;
                assert!(*got.bytes() == bytes, "{what}: it pulls then");
                let asked: Vec<_> = registry.requests().iter().filter(|seen| seen.path == path).map(range).collect();
                assert_eq!(asked, [format!("bytes={cut}-")], "{what}");
                let label = format!("pullthrough_upstream_bytes_total{{registry=\"{}\"}}", registry.name());
                let came = proxy.metric(&label).await as usize;
                assert!((length..length + 100).contains(&came), "{what}: {came} bytes");
            }
        }))
        .await;
        eventually("all is stored, and nothing else is left", || proxy.files() == (count, 0)).await;
    }
}

fn range(seen: &Seen) -> String {
    seen.headers.get("range").map_or_else(String::new, |range| range.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn what_was_kept_of_a_broken_fill_survives_a_restart() {
    let registry = Registry::start("quay.io");
    let mut proxy = Plan::new().registry(&registry, "").start().await;
    let bytes = layer(300_000, 17);
    let digest = registry.push_blob("a", bytes.clone());
    let lines = [registry.script(BLOBS, Act::Cut(100_000)), registry.script(BLOBS, to_range(answer(404, &[])))];
    let path = format!("/v2/a/blobs/{digest}");
    let broken = super::get(&mut proxy.client().session(super::QUAY).await, &path, &[]).await;
    assert!(broken.body.is_err());
    lines.into_iter().for_each(|line| registry.unscript(line));
    registry.forget();
    proxy.restart().await;
    assert_eq!(proxy.files(), (0, 2));
    let got = proxy.client().get(super::QUAY, &path).await;
    assert!(*got.bytes() == bytes);
    assert_eq!(registry.requests().iter().map(range).collect::<Vec<_>>(), ["bytes=100000-"]);
}

#[tokio::test]
async fn a_part_of_an_empty_blob_is_all_of_it() {
    for entry in ["", "max_size: 1MiB"] {
        let registry = Registry::start("quay.io");
        let mut plan = Plan::new().registry(&registry, "");
        if !entry.is_empty() {
            plan = plan.cache(entry);
        }
        let proxy = plan.start().await;
        let digest = registry.push_blob("a", &b""[..]);
        let path = format!("/v2/a/blobs/{digest}");
        let mut session = proxy.client().session(super::QUAY).await;
        for range in ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=7-", "bytes=0-1,5-9"] {
            let got = super::get(&mut session, &path, &[("range", range)]).await;
            assert_eq!((got.status.as_u16(), got.header("content-length")), (200, "0"), "{range}");
            assert_eq!((got.header("content-range"), got.bytes().len()), ("", 0), "{range}");
        }
        assert_eq!(registry.count(BLOBS), 1);
    }
}

#[tokio::test]
async fn a_blob_that_the_cache_does_not_take_is_resumed_where_it_was_cut() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").cache("max_size: 1MiB").start().await;
    let bytes = layer(3_000_000, 41);
    let digest = registry.push_blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{digest}");
    registry.script_times(4, BLOBS, Act::Cut(900_000));
    let mut session = proxy.client().session(super::QUAY).await;
    let got = super::get(&mut session, &path, &[]).await;
    assert!(got.status == 200 && got.body.as_deref() == Ok(&bytes[..]), "{:?}", got.status);
    registry.script_times(1, BLOBS, Act::Cut(500_000));
    let got = super::get(&mut session, &path, &[("range", "bytes=1000000-2999998")]).await;
    assert!(got.status == 206 && got.body.as_deref() == Ok(&bytes[1_000_000..2_999_999]), "{:?}", got.status);
    assert_eq!(proxy.files().0, 0);
}

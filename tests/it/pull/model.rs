//! The fill engine against a plain byte array: random cuts, stalls, refusals, readers and hang-ups, on a clock
//! that is moved by hand, each case the same whenever its seed is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::unfold;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;
use pullthrough::cache::{
    BlobFound, Cache, Caller, Fault, FillConfig, Flow, Follower, Origins, Place, Proof, Retry, Source, Subject, Trust,
    Want, Whole,
};
use pullthrough::host::{Percent, Size};
use pullthrough::oci::{Algorithm, Digest};
use pullthrough::store::{self, Disk, DiskStep, Store, Witness};
use pullthrough::telemetry::Metrics;
use pullthrough::wire::{Body, Span};

use super::layer;
use crate::support::Dice;

const MIB: u64 = 1 << 20;

/// An upstream that goes wrong a number of times and is honest from then on.
struct Sim {
    bytes: Bytes,
    dice: Dice,
    trouble: AtomicI64,
    has_ranges: bool,
    says_length: bool,
    opened: AtomicUsize,
}

/// One answer on its way.
struct Sending {
    bytes: Bytes,
    dice: Dice,
    /// After so many bytes it breaks: at once, or after a silence.
    cut: Option<(u64, bool)>,
    sent: u64,
}

/// So many milliseconds on the clock of the play, which leaps when nobody has anything to do.
async fn later(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

fn again(why: &str) -> Fault {
    Fault::new(Retry::Again, std::io::Error::other(why.to_owned()))
}

impl Sim {
    fn goes_wrong(&self) -> bool {
        self.dice.below(3) == 0 && self.trouble.fetch_sub(1, Ordering::Relaxed) > 0
    }
}

impl Source for Sim {
    fn decides(&self) -> bool {
        true
    }

    fn open<'a>(&'a self, _: &'a Digest, want: Want) -> BoxFuture<'a, Result<Flow, Fault>> {
        Box::pin(async move {
            self.opened.fetch_add(1, Ordering::Relaxed);
            later(self.dice.below(300)).await;
            let wrong = self.goes_wrong().then(|| self.dice.below(3));
            if wrong == Some(0) {
                return Err(again("503"));
            }
            let length = self.bytes.len() as u64;
            assert!(want.from < length.max(1), "never beyond the end");
            let is_ranged = self.has_ranges && (want.from > 0 || want.to.is_some());
            let (at, to) = if is_ranged { (want.from, want.to.unwrap_or(length).min(length)) } else { (0, length) };
            let cut = wrong.map(|kind| (self.dice.below(to - at + 1), kind == 2));
            let sending =
                Sending { bytes: self.bytes.slice(at as usize..to as usize), dice: self.dice.clone(), cut, sent: 0 };
            let body = StreamBody::new(Box::pin(unfold(sending, |mut sending| async move {
                let piece = sending.next().await?;
                Some((piece.map(Frame::data), sending))
            })));
            Ok(Flow {
                at,
                to: is_ranged.then_some(to),
                total: self.says_length.then_some(length),
                ranges: if want.from > 0 { Some(is_ranged) } else { None },
                is_coded: false,
                is_open_ended: false,
                validator: None,
                endpoint: None,
                proof: Proof { media_type: Some("application/octet-stream".to_owned()), ..Proof::default() },
                body: Body::wrap(body),
            })
        })
    }

    fn prove<'a>(&'a self, _: &'a Subject) -> BoxFuture<'a, Result<Proof, Fault>> {
        Box::pin(async { Ok(Proof::default()) })
    }

    fn whole<'a>(&'a self, _: &'a Subject, _: Origins) -> BoxFuture<'a, Result<Whole, Fault>> {
        Box::pin(async { Err(again("no manifest")) })
    }
}

impl Sending {
    async fn next(&mut self) -> Option<Result<Bytes, std::io::Error>> {
        if self.dice.below(4) == 0 {
            later(self.dice.below(40)).await;
        }
        let mut length = (1 + self.dice.below(100_000)).min(self.bytes.len() as u64);
        if let Some((cut, is_silent)) = self.cut {
            length = length.min(cut - self.sent);
            if length == 0 {
                if is_silent {
                    later(30_000).await;
                }
                self.cut = None;
                self.bytes = Bytes::new();
                return Some(Err(std::io::Error::other("broken")));
            }
        }
        if self.bytes.is_empty() {
            return None;
        }
        self.sent += length;
        Some(Ok(self.bytes.split_to(length as usize)))
    }
}

/// A disk that takes so many writes of fills and no more, or takes its time for each.
struct Ill {
    left: AtomicUsize,
    errno: i32,
    pause: Duration,
}

impl Witness for Ill {
    fn before(&self, step: &DiskStep<'_>) -> std::io::Result<()> {
        let is_staged = |path: &&std::path::Path| path.components().any(|part| part.as_os_str() == "fills");
        let DiskStep::Write(path, ..) = step else { return Ok(()) };
        if !is_staged(path) {
            return Ok(());
        }
        std::thread::sleep(self.pause); // on a thread that may wait for the disk
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| std::io::Error::from_raw_os_error(self.errno))
    }
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

/// One reader: where it reads, when it comes, and after how many bytes it leaves.
#[derive(Clone, Debug)]
struct Reader {
    span: Option<(u64, u64)>,
    comes: u64,
    leaves: Option<u64>,
    is_slow: bool,
}

#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    length: u64,
    trouble: i64,
    has_ranges: bool,
    says_length: bool,
    /// The disk takes so many writes, each after a pause, and then answers with an error.
    writes: Option<usize>,
    errno: i32,
    pause: Duration,
    readers: Vec<Reader>,
}

impl Reader {
    /// Reads until it leaves or has all; asks again when it is cut off, as clients do.
    async fn read(&self, cache: &Cache, caller: &Caller, digest: &Digest, bytes: &Bytes, dice: &Dice) {
        later(self.comes).await;
        for _ in 0..50 {
            if self.try_read(cache, caller, digest, bytes, dice).await {
                return;
            }
            later(1000).await;
        }
        panic!("it never got its bytes: {self:?}");
    }

    async fn try_read(&self, cache: &Cache, caller: &Caller, digest: &Digest, bytes: &Bytes, dice: &Dice) -> bool {
        let total = bytes.len() as u64;
        let (mut body, from, to) = match cache.blob(caller, digest).await {
            Err(_) => return false,
            Ok(BlobFound::Unstorable { cause, .. }) => panic!("{cause}"),
            Ok(BlobFound::Stored(stored, _)) => {
                let (from, to) = self.span.unwrap_or((0, total));
                (Body::wrap(stored.body(Span { from, to })), from, to)
            }
            Ok(BlobFound::Filling(guest, _)) => match guest.length().await {
                // It would be passed on without the cache.
                Err(fault) if fault.cause.downcast_ref::<store::Error>().is_some() => return true,
                Err(_) => return false,
                Ok(None) => (Body::wrap(Follower::of(&guest, None)), 0, total),
                Ok(Some(length)) => {
                    assert_eq!(length, total);
                    let (from, to) = self.span.unwrap_or((0, total));
                    (Body::wrap(Follower::of(&guest, Some(Span { from, to }))), from, to)
                }
            },
        };
        let mut at = from;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            let data = frame.into_data().unwrap();
            assert!(data == bytes.slice(at as usize..at as usize + data.len()), "a wrong byte at {at}");
            at += data.len() as u64;
            if self.leaves.is_some_and(|leaves| at - from >= leaves) {
                return true;
            }
            if self.is_slow {
                later(dice.below(100)).await;
            }
        }
        assert_eq!(at, to, "an end before the end");
        true
    }
}

impl Case {
    /// Plays it through. Answers how often the upstream was asked.
    fn play(&self) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config =
            store::Config { dir: folder.path().join("cache"), max_size: Some(Size(1 << 30)), min_free: Percent(0) };
        let disk = self.writes.map_or_else(Disk::default, |writes| {
            Disk::watched(Arc::new(Ill { left: writes.into(), errno: self.errno, pause: self.pause }))
        });
        let store = Store::open_on(&config, disk).unwrap();
        let opened = runtime.block_on(async {
            // The catalog answers from a thread of its own, which the clock does not see: it must not leap meanwhile.
            tokio::spawn(async {
                loop {
                    later(1).await;
                }
            });
            let fill = FillConfig {
                parallel_from: Size(2 * MIB),
                lanes: 4,
                finish_share: Percent(60),
                finish_rest: Size(MIB),
            };
            let cache = Cache::new(store.clone(), fill, Metrics::new()).unwrap();
            let bytes = Bytes::from(layer(self.length as usize, self.seed));
            let digest = Digest::of(Algorithm::Sha256, &bytes);
            let dice = Dice::seeded(self.seed);
            let source = Arc::new(Sim {
                bytes: bytes.clone(),
                dice: dice.clone(),
                trouble: self.trouble.into(),
                has_ranges: self.has_ranges,
                says_length: self.says_length,
                opened: 0.into(),
            });
            let place = Place { registry: "quay.io".into(), repository: "a".parse().unwrap() };
            let trust = Trust::default();
            let caller = Caller::new(place, cache.principal("quay.io", None), source.clone(), trust);
            let all = join_all(self.readers.iter().map(|reader| reader.read(&cache, &caller, &digest, &bytes, &dice)));
            tokio::time::timeout(Duration::from_secs(3600), all).await.expect("nobody is left waiting");
            // Whatever happened before, the whole is to be had in the end, and right.
            let last = Reader { span: None, comes: 0, leaves: None, is_slow: false };
            last.read(&cache, &caller, &digest, &bytes, &dice).await;
            source.opened.load(Ordering::Relaxed)
        });
        store.close();
        opened
    }
}

fn reader(length: u64) -> impl Strategy<Value = Reader> {
    let span = prop_oneof![
        2 => Just(None),
        1 => Just(Some((0, length))),
        3 => (0..length, 1..300_000_u64).prop_map(move |(from, count)| Some((from, (from + count).min(length)))),
        2 => (0..length).prop_map(move |from| Some((from, length))),
    ];
    (span, 0..3000_u64, prop::option::of(0..400_000_u64), any::<bool>())
        .prop_map(|(span, comes, leaves, is_slow)| Reader { span, comes, leaves, is_slow })
}

fn case() -> impl Strategy<Value = Case> {
    let length = prop_oneof![1 => 1..1000_u64, 2 => 1..300_000_u64, 4 => MIB..8 * MIB];
    length.prop_flat_map(|length| {
        let readers = prop::collection::vec(reader(length), 1..12);
        (
            any::<u64>(),
            0..12_i64,
            prop::bool::weighted(0.8),
            prop::bool::weighted(0.85),
            prop::option::weighted(0.3, 0..60_usize),
            readers,
        )
            .prop_map(move |(seed, trouble, has_ranges, says_length, writes, readers)| Case {
                writes,
                errno: ENOSPC,
                pause: Duration::ZERO,
                seed,
                length,
                trouble,
                has_ranges,
                says_length,
                readers,
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_reader_gets_the_bytes_of_a_plain_array(case in case()) {
        case.play();
    }
}

#[test]
fn a_thousand_readers_of_one_blob_through_cuts_get_right_bytes_and_nobody_is_left_waiting() {
    let dice = Dice::seeded(77);
    let length = 12 * MIB;
    let readers = (0..1000).map(|number| {
        let from = dice.below(length);
        let span = (number % 5 == 0).then(|| (from, (from + 1 + dice.below(500_000)).min(length)));
        let leaves = (number % 11 == 0).then(|| dice.below(2 * MIB));
        Reader { span, comes: dice.below(2000), leaves, is_slow: number % 50 == 0 }
    });
    let readers = readers.collect();
    let case = Case { readers, ..plain(78, length, 7) };
    let opened = case.play();
    assert!(opened < 60, "asked {opened} times: ranges next to each other are fetched together");
}

/// An honest length and ranges, a disk that is well, and nobody who reads.
fn plain(seed: u64, length: u64, trouble: i64) -> Case {
    let (has_ranges, says_length, pause) = (true, true, Duration::ZERO);
    Case { seed, length, trouble, has_ranges, says_length, writes: None, errno: 0, pause, readers: Vec::new() }
}

/// Readers of the whole, of a part and of the end.
fn some_of(length: u64) -> Vec<Reader> {
    let spans = [None, Some((0, length)), Some((100, length)), Some((3 * MIB, 3 * MIB + 100_000))];
    spans.map(|span| Reader { span, comes: 0, leaves: None, is_slow: true }).to_vec()
}

#[test]
fn readers_go_on_without_the_cache_when_the_disk_takes_no_more() {
    for says_length in [true, false] {
        for errno in [ENOSPC, EIO, EROFS] {
            let length = 4 * MIB;
            let readers = some_of(length);
            Case { writes: Some(6), errno, says_length, readers, ..plain(79, length, 2) }.play();
        }
    }
}

#[test]
fn a_slow_disk_slows_its_readers_and_breaks_nothing() {
    let length = 4 * MIB;
    let (writes, pause) = (Some(usize::MAX), Duration::from_millis(5));
    Case { writes, pause, readers: some_of(length), ..plain(80, length, 2) }.play();
}

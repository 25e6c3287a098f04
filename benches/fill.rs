//! A fill by several ranges against one stream, where each upstream connection is slow; and what a thousand
//! readers of one fill cost in memory. Prints figures; asserts none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark ends where it fails")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::unfold;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use pullthrough::cache::{
    BlobFound, Cache, Caller, Fault, FillConfig, Flow, Follower, Origins, Place, Proof, Retry, Source, Subject, Trust,
    Waiter, Want, Whole,
};
use pullthrough::host::{Percent, Size};
use pullthrough::oci::{Algorithm, Digest};
use pullthrough::store::{self, Store};
use pullthrough::telemetry::Metrics;
use pullthrough::wire::Body;

/// Bytes a second that one connection brings.
const RATE: u64 = 10_000_000;
const PIECE: usize = 64 << 10;
const LENGTH: usize = 256 << 20;

/// An upstream of slow connections.
struct Slow {
    bytes: Bytes,
    rate: u64,
}

impl Source for Slow {
    fn decides(&self) -> bool {
        true
    }

    fn open<'a>(&'a self, _: &'a Digest, want: Want) -> BoxFuture<'a, Result<Flow, Fault>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let (length, rate) = (self.bytes.len() as u64, self.rate);
            let to = want.to.unwrap_or(length).min(length);
            let state = (self.bytes.slice(want.from as usize..to as usize), Instant::now(), 0_u64);
            let body = StreamBody::new(Box::pin(unfold(state, move |(mut left, began, sent)| async move {
                if left.is_empty() {
                    return None;
                }
                let piece = left.split_to(PIECE.min(left.len()));
                let sent = sent + piece.len() as u64;
                let due = began + Duration::from_secs_f64(sent as f64 / rate as f64);
                tokio::time::sleep_until(due.into()).await;
                Some((Ok::<_, std::io::Error>(Frame::data(piece)), (left, began, sent)))
            })));
            let (at, ranges) = (want.from, Some(true));
            let (total, body) = (Some(length), Body::wrap(body));
            let proof = Proof { media_type: Some("application/octet-stream".into()), ..Proof::default() };
            Ok(Flow {
                at,
                to: Some(to),
                total,
                ranges,
                is_coded: false,
                is_open_ended: false,
                validator: None,
                endpoint: None,
                proof,
                body,
            })
        })
    }

    fn prove<'a>(&'a self, _: &'a Subject) -> BoxFuture<'a, Result<Proof, Fault>> {
        Box::pin(async { Err(Fault::new(Retry::Never, std::io::Error::other("not asked"))) })
    }

    fn whole<'a>(&'a self, _: &'a Subject, _: Origins) -> BoxFuture<'a, Result<Whole, Fault>> {
        Box::pin(async { Err(Fault::new(Retry::Never, std::io::Error::other("not asked"))) })
    }
}

struct Bench {
    cache: Cache,
    store: Store,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new(lanes: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config =
            store::Config { dir: folder.path().join("cache"), max_size: Some(Size(8 << 30)), min_free: Percent(0) };
        let store = Store::open(&config).unwrap();
        let fill = FillConfig { lanes, ..FillConfig::default() };
        Self { cache: Cache::new(store.clone(), fill, Metrics::new()).unwrap(), store, _folder: folder }
    }

    async fn join(&self, bytes: &Bytes, digest: &Digest, rate: u64) -> Waiter {
        let place = Place { registry: "quay.io".into(), repository: "a".parse().unwrap() };
        let source = Arc::new(Slow { bytes: bytes.clone(), rate });
        let caller = Caller::new(place, self.cache.principal("quay.io", None), source, Trust::default());
        match self.cache.blob(&caller, digest).await.unwrap() {
            BlobFound::Filling(waiter, _) => waiter,
            _ => panic!("it is not filling"),
        }
    }
}

async fn read(waiter: Waiter) -> u64 {
    let (mut body, mut got) = (Follower::of(&waiter, None), 0);
    drop(waiter);
    while let Some(frame) = body.frame().await {
        got += frame.unwrap().into_data().unwrap().len() as u64;
    }
    got
}

/// Seconds of one cold pull.
async fn pull(lanes: u16, bytes: &Bytes, digest: &Digest, rate: u64) -> f64 {
    let bench = Bench::new(lanes);
    let began = Instant::now();
    let guest = bench.join(bytes, digest, rate).await;
    assert_eq!(read(guest).await, bytes.len() as u64);
    let elapsed = began.elapsed().as_secs_f64();
    bench.cache.stop().await;
    bench.store.close();
    elapsed
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn content(length: usize) -> Bytes {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect::<Vec<u8>>().into()
}

#[tokio::main]
async fn main() {
    let bytes = content(LENGTH);
    let digest = Digest::of(Algorithm::Sha256, &bytes);
    let one = pull(1, &bytes, &digest, RATE).await;
    println!("{} MiB at 10 MB/s a connection, one lane:  {one:.1} s", LENGTH >> 20);
    for lanes in [4, 8] {
        let several = pull(lanes, &bytes, &digest, RATE).await;
        println!("up to {lanes} lanes: {several:.1} s, {:.2} times as fast", one / several);
    }
    let bytes = content(64 << 20);
    let digest = Digest::of(Algorithm::Sha256, &bytes);
    let bench = Bench::new(4);
    let before = resident();
    let mut guests = Vec::new();
    for _ in 0..1000 {
        guests.push(bench.join(&bytes, &digest, RATE).await);
    }
    let readers: Vec<_> = guests.into_iter().map(|guest| tokio::spawn(read(guest))).collect();
    let mut peak = 0;
    let watching = async {
        loop {
            peak = peak.max(resident());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        done = join_all(readers) => assert!(done.iter().all(|got| *got.as_ref().unwrap() == bytes.len() as u64)),
        () = watching => {}
    }
    println!("1,000 readers of one fill of 64 MiB: {} MiB more at the peak", peak.saturating_sub(before));
    bench.cache.stop().await;
    bench.store.close();
}

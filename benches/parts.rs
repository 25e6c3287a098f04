//! What the parts of a request cost by themselves: mint, route, lookup, extents, digests, checksums, metrics.
//!
//! Plain loops over this thread's CPU clock, so that a busy machine disturbs them little: each figure is the median
//! of nine batches of about 30 ms, beside the quickest batch. A part is chosen by `cargo bench --bench parts -- NAME`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest as aws;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pullthrough::ca::{self, Authority, Permitted};
use pullthrough::cache::{
    Asking, BlobFound, Cache, Caller, Extents, Fault, FillConfig, Flow, Freshness, Place, Principal, Proof, Question,
    Source, Trust, Want, Whole,
};
use pullthrough::oci::{self, Accept, Algorithm, Digest, Hasher, Host, HostPattern, Reference, Route};
use pullthrough::store::{self, Store};
use pullthrough::telemetry::{self, AccessLine, Kind, Metrics, Outcome};
use pullthrough::wire::{Body, Span};
use rustix::time::{ClockId, clock_gettime};

const BATCHES: usize = 9;
const BATCH: Duration = Duration::from_millis(30);
const CHUNK: usize = 256 << 10;

fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let bench = Bench { wanted };
    println!("| part | median | quickest |\n|---|---|---|");
    digests(&bench);
    words(&bench)?;
    extents(&bench);
    mint(&bench)?;
    counters(&bench);
    access(&bench)?;
    tokio::runtime::Runtime::new()?.block_on(lookups(&bench))
}

struct Bench {
    wanted: Vec<String>,
}

impl Bench {
    /// Times `act` and prints nanoseconds or microseconds of one call.
    fn time(&self, name: &str, act: impl FnMut()) {
        if let Some((median, quickest)) = self.measure(name, act) {
            println!("| {name} | {} | {} |", Time(median), Time(quickest));
        }
    }

    /// Times `act`, which goes over so many bytes, and prints 10^9 bytes a second.
    fn rate(&self, name: &str, bytes: usize, act: impl FnMut()) {
        if let Some((median, quickest)) = self.measure(name, act) {
            let rate = |seconds: f64| bytes as f64 / 1e9 / seconds;
            println!("| {name} | {:.2} GB/s | {:.2} GB/s |", rate(median), rate(quickest));
        }
    }

    fn measure(&self, name: &str, mut act: impl FnMut()) -> Option<(f64, f64)> {
        if !self.wanted.is_empty() && !self.wanted.iter().any(|part| name.contains(part.as_str())) {
            return None;
        }
        let mut count = 1_u32;
        while batch(count, &mut act) < BATCH && count < 1 << 28 {
            count *= 2;
        }
        let mut times: Vec<f64> =
            (0..BATCHES).map(|_| batch(count, &mut act).as_secs_f64() / f64::from(count)).collect();
        times.sort_unstable_by(f64::total_cmp);
        Some((times[BATCHES / 2], times[0]))
    }
}

fn batch(count: u32, act: &mut impl FnMut()) -> Duration {
    let started = clock_gettime(ClockId::ThreadCPUTime);
    (0..count).for_each(|_| act());
    let ended = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(ended - started).unwrap_or_default()
}

struct Time(f64);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 * 1e9 {
            nanoseconds if nanoseconds < 10_000.0 => write!(f, "{nanoseconds:.1} ns"),
            nanoseconds => write!(f, "{:.1} µs", nanoseconds / 1e3),
        }
    }
}

/// A fill hashes every byte; a stored blob's chunks are checked on every read.
fn digests(bench: &Bench) {
    let chunk: Vec<u8> = (0..CHUNK).map(|at| (at * 31) as u8).collect();
    for (name, algorithm, other) in
        [("sha256", Algorithm::Sha256, &aws::SHA256), ("sha512", Algorithm::Sha512, &aws::SHA512)]
    {
        let mut ours = Hasher::new(algorithm);
        bench.rate(&format!("{name}, oci::Hasher (sha2)"), CHUNK, || ours.update(black_box(&chunk)));
        let mut theirs = aws::Context::new(other);
        bench.rate(&format!("{name}, aws-lc-rs"), CHUNK, || theirs.update(black_box(&chunk)));
    }
    bench.rate("crc32c, 256 KiB", CHUNK, || _ = black_box(crc_fast::crc32_iscsi(black_box(&chunk))));
    let mut copy = vec![0; CHUNK];
    bench.rate("a plain copy, 256 KiB, for comparison", CHUNK, || copy.copy_from_slice(black_box(&chunk)));
}

fn words(bench: &Bench) -> anyhow::Result<()> {
    let digest = Digest::of(Algorithm::Sha256, b"content").to_string();
    let blob = format!("/v2/library/postgres/blobs/{digest}");
    bench.time("route, a blob", || _ = black_box(Route::parse(black_box(&blob))));
    bench.time("route, a manifest by tag", || {
        _ = black_box(Route::parse(black_box("/v2/library/postgres/manifests/16")))
    });
    let parsed: Digest = digest.parse()?;
    bench.time("digest, parse", || _ = black_box(black_box(&digest).parse::<Digest>()));
    bench.time("digest, to text", || _ = black_box(black_box(&parsed).to_string()));
    bench.time("authority, parse", || _ = black_box(oci::Authority::parse(black_box("registry-1.docker.io:443"), 443)));
    Ok(())
}

fn extents(bench: &Bench) {
    let mut order: Vec<u64> = (0..4096).collect();
    let mut state = 1_u64;
    for at in (1..order.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        order.swap(at, (state >> 33) as usize % (at + 1));
    }
    bench.time("extents, 4,096 inserts in any order", || {
        let mut extents = Extents::default();
        order.iter().for_each(|at| extents.insert(Span { from: at * 64, to: at * 64 + 64 }));
        black_box(extents.count());
    });
    let mut holes = Extents::default();
    order.iter().for_each(|at| holes.insert(Span { from: at * 64, to: at * 64 + 32 }));
    bench
        .time("extents, where a reader may read to, among 4,096", || _ = black_box(holes.end_from(black_box(131_072))));
    let mut front = 0;
    let mut growing = Extents::default();
    bench.time("extents, append to the front", || {
        growing.insert(Span { from: front, to: front + 64 });
        front += 64;
    });
}

fn mint(bench: &Bench) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let config = ca::Config { dir: folder.path().join("ca"), ..ca::Config::default() };
    let pattern: HostPattern = "*.bench.test".parse()?;
    let authority = Authority::open(&config, &Permitted::of([&pattern])?)?;
    let mut number = 0_u64;
    bench.time("leaf, minted", || {
        number += 1;
        let host = format!("host{number}.bench.test").parse::<Host>();
        black_box(host.ok().map(|host| authority.server_config(&host).is_ok()));
    });
    let host: Host = "kept.bench.test".parse()?;
    bench.time("leaf, kept", || _ = black_box(authority.server_config(black_box(&host)).is_ok()));
    Ok(())
}

fn counters(bench: &Bench) {
    let metrics = Metrics::new();
    bench.time("metrics of one request", || {
        metrics.request("docker.io", Kind::Blob, Outcome::Hit, 200, black_box(Duration::from_millis(3)));
        metrics.client_bytes("docker.io", 1000);
    });
}

/// Written to standard error, which belongs into `/dev/null` meanwhile.
fn access(bench: &Bench) -> anyhow::Result<()> {
    telemetry::init(&telemetry::Config::default())?;
    let line = AccessLine {
        client: "10.0.0.7".parse()?,
        method: http::Method::GET,
        host: "registry-1.docker.io".into(),
        registry: Some("docker.io".into()),
        repository: Some("library/debian".parse()?),
        reference: Some(Reference::Digest(Digest::of(Algorithm::Sha256, b"access"))),
        kind: "manifest",
        outcome: "hit",
        status: 200,
        bytes: 1234,
        elapsed: Duration::from_micros(123),
        detail: None,
    };
    bench.time("access line", || black_box(&line).emit());
    Ok(())
}

/// An upstream that brings one content and says yes to everything.
struct Always(Bytes);

impl Source for Always {
    fn decides(&self) -> bool {
        true
    }

    fn open(&self, _: Want) -> BoxFuture<'_, Result<Flow, Fault>> {
        let total = Some(self.0.len() as u64);
        let body = Body::full(self.0.clone());
        let flow = Flow { at: 0, to: None, total, ranges: None, validator: None, endpoint: None, body };
        async move { Ok(flow) }.boxed()
    }

    fn prove(&self) -> BoxFuture<'_, Result<Proof, Fault>> {
        async move { Ok(Proof { digest: Some(Digest::of(Algorithm::Sha256, &self.0)), ..Proof::default() }) }.boxed()
    }

    fn whole(&self) -> BoxFuture<'_, Result<Whole, Fault>> {
        let whole = Whole {
            bytes: self.0.clone(),
            media_type: Some("application/vnd.oci.image.manifest.v1+json".into()),
            digest: Some(Digest::of(Algorithm::Sha256, &self.0)),
        };
        async move { Ok(whole) }.boxed()
    }
}

async fn lookups(bench: &Bench) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let config = store::Config {
        dir: folder.path().join("cache"),
        min_free: pullthrough::host::Percent(1),
        ..store::Config::default()
    };
    let store = tokio::task::spawn_blocking(move || Store::open(&config)).await??;
    let cache = Cache::new(store.clone(), FillConfig::default(), Metrics::new())?;
    let content = Bytes::from(r#"{"schemaVersion":2}"#.repeat(100));
    let digest = Digest::of(Algorithm::Sha256, &content);
    let caller = Caller {
        trust: Trust::default(),
        place: Place { registry: "docker.io".into(), repository: "library/postgres".parse()? },
        principal: Principal::Anonymous,
        source: Arc::new(Always(content)),
    };
    let fault = |fault: Fault| anyhow::anyhow!("{fault}");
    let question = Question {
        tag: "16".parse()?,
        accept: Accept::parse(["application/vnd.oci.image.manifest.v1+json"]),
        freshness: Freshness { fresh_for: Duration::from_secs(3600), deadline: Duration::from_secs(1) },
        asking: Asking::Content,
    };
    cache.tag(&caller, &question).await.map_err(fault)?;
    cache.manifest(&caller, &digest).await.map_err(fault)?;
    while !matches!(cache.blob(&caller, &digest).await.map_err(fault)?, BlobFound::Stored(..)) {
        tokio::task::yield_now().await;
    }
    // A hit never waits, so one poll is all of it.
    bench.time("lookup, a blob (opens its file)", || {
        assert!(matches!(cache.blob(&caller, &digest).now_or_never(), Some(Ok(_))))
    });
    bench.time("lookup, a manifest by digest", || {
        assert!(matches!(cache.manifest(&caller, &digest).now_or_never(), Some(Ok(_))))
    });
    bench.time("lookup, a tag", || assert!(matches!(cache.tag(&caller, &question).now_or_never(), Some(Ok(_)))));
    let authorization = b"Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhdXRoIn0.c2lnbmF0dXJl".repeat(12);
    bench.time("lookup, whose a bearer of 700 bytes is", || {
        _ = black_box(cache.principal("docker.io", Some(&authorization)))
    });
    tokio::task::spawn_blocking(move || store.close()).await?;
    Ok(())
}

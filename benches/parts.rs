//! What the parts of a request cost by themselves: mint, route, lookup, extents, digests, checksums, metrics.
//!
//! On this thread's CPU clock, so that a busy machine disturbs them little. A part is chosen by
//! `cargo bench --bench parts -- NAME`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest as aws;
use bytes::Bytes;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pullthrough::ca::{self, CertificateAuthority, Permitted};
use pullthrough::cache::{
    Asking, BlobFound, Cache, Caller, Extents, Fault, FillConfig, Flow, Freshness, Origins, Place, Principal, Proof,
    Source, Subject, TagQuestion, Trust, Want, Whole,
};
use pullthrough::host::RequestId;
use pullthrough::oci::{self, Accept, Algorithm, Digest, Hasher, Host, HostPattern, Reference, Route};
use pullthrough::store::{self, Store};
use pullthrough::telemetry::{self, AccessLine, Kind, Metrics, Outcome};
use pullthrough::wire::{Body, Span};
use rustix::time::{ClockId, Timespec, clock_gettime};

const CHUNK: usize = 256 << 10;

type Bench = Criterion<Cpu>;

fn main() -> anyhow::Result<()> {
    let mut bench = Criterion::default()
        .with_measurement(Cpu)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
        .configure_from_args();
    digests(&mut bench);
    words(&mut bench)?;
    extents(&mut bench);
    mint(&mut bench)?;
    counters(&mut bench);
    access(&mut bench)?;
    tokio::runtime::Runtime::new()?.block_on(lookups(&mut bench))?;
    bench.final_summary();
    Ok(())
}

/// The CPU clock of this thread.
struct Cpu;

impl Measurement for Cpu {
    type Intermediate = Timespec;
    type Value = Duration;

    fn start(&self) -> Timespec {
        clock_gettime(ClockId::ThreadCPUTime)
    }

    fn end(&self, started: Timespec) -> Duration {
        Duration::try_from(self.start() - started).unwrap_or_default()
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter() // nanoseconds, as these are
    }
}

/// A fill hashes every byte; a stored blob's chunks are checked on every read.
fn digests(bench: &mut Bench) {
    let mut bench = bench.benchmark_group("bytes");
    bench.throughput(Throughput::Bytes(CHUNK as u64));
    let chunk: Vec<u8> = (0..CHUNK).map(|at| (at * 31) as u8).collect();
    for (name, algorithm, other) in
        [("sha256", Algorithm::Sha256, &aws::SHA256), ("sha512", Algorithm::Sha512, &aws::SHA512)]
    {
        let mut ours = Hasher::new(algorithm);
        bench.bench_function(format!("{name}, oci::Hasher (sha2)"), |b| b.iter(|| ours.update(black_box(&chunk))));
        let mut theirs = aws::Context::new(other);
        bench.bench_function(format!("{name}, aws-lc-rs"), |b| b.iter(|| theirs.update(black_box(&chunk))));
    }
    bench.bench_function("crc32c, 256 KiB", |b| b.iter(|| crc_fast::crc32_iscsi(black_box(&chunk))));
    let mut copy = vec![0; CHUNK];
    bench.bench_function("a plain copy, 256 KiB, for comparison", |b| {
        b.iter(|| copy.copy_from_slice(black_box(&chunk)))
    });
}

fn words(bench: &mut Bench) -> anyhow::Result<()> {
    let digest = Digest::of(Algorithm::Sha256, b"content").to_string();
    let blob = format!("/v2/library/postgres/blobs/{digest}");
    bench.bench_function("route, a blob", |b| b.iter(|| Route::parse(black_box(&blob))));
    bench.bench_function("route, a manifest by tag", |b| {
        b.iter(|| Route::parse(black_box("/v2/library/postgres/manifests/16")))
    });
    let parsed: Digest = digest.parse()?;
    bench.bench_function("digest, parse", |b| b.iter(|| black_box(&digest).parse::<Digest>()));
    bench.bench_function("digest, to text", |b| b.iter(|| black_box(&parsed).to_string()));
    bench.bench_function("authority, parse", |b| {
        b.iter(|| oci::Authority::parse(black_box("registry-1.docker.io:443"), 443))
    });
    Ok(())
}

fn extents(bench: &mut Bench) {
    let mut order: Vec<u64> = (0..4096).collect();
    let mut state = 1_u64;
    for at in (1..order.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        order.swap(at, (state >> 33) as usize % (at + 1));
    }
    bench.bench_function("extents, 4,096 inserts in any order", |b| {
        b.iter(|| {
            let mut extents = Extents::default();
            order.iter().for_each(|at| extents.insert(Span { from: at * 64, to: at * 64 + 64 }));
            extents.count()
        })
    });
    let mut holes = Extents::default();
    order.iter().for_each(|at| holes.insert(Span { from: at * 64, to: at * 64 + 32 }));
    bench.bench_function("extents, where a reader may read to, among 4,096", |b| {
        b.iter(|| holes.end_from(black_box(131_072)))
    });
    let mut front = 0;
    let mut growing = Extents::default();
    bench.bench_function("extents, append to the front", |b| {
        b.iter(|| {
            growing.insert(Span { from: front, to: front + 64 });
            front += 64;
        })
    });
}

fn mint(bench: &mut Bench) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let config = ca::Config { dir: folder.path().join("ca"), ..ca::Config::default() };
    let pattern: HostPattern = "*.bench.test".parse()?;
    let authority = CertificateAuthority::open(&config, &Permitted::of([&pattern])?)?;
    let mut number = 0_u64;
    bench.bench_function("leaf, minted", |b| {
        b.iter(|| {
            number += 1;
            let host = format!("host{number}.bench.test").parse::<Host>();
            host.ok().map(|host| authority.server_config(&host).is_ok())
        })
    });
    let host: Host = "kept.bench.test".parse()?;
    bench.bench_function("leaf, kept", |b| b.iter(|| authority.server_config(black_box(&host)).is_ok()));
    Ok(())
}

fn counters(bench: &mut Bench) {
    let metrics = Metrics::new();
    bench.bench_function("metrics of one request", |b| {
        b.iter(|| {
            let registry = metrics.registry("docker.io");
            registry.answered(Kind::Blob, Outcome::Hit, 200, 1000, black_box(Duration::from_millis(3)));
        })
    });
}

/// Written to standard error, which belongs into `/dev/null` meanwhile.
fn access(bench: &mut Bench) -> anyhow::Result<()> {
    telemetry::init(&telemetry::Config::default());
    let line = AccessLine {
        client: "10.0.0.7".parse()?,
        user: None,
        agent: Some(http::HeaderValue::from_static("docker/27.5.1 go/go1.22")),
        door: "proxy",
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
        upstream: None,
        request_id: RequestId::next(),
        path: None,
        detail: None,
    };
    bench.bench_function("access line", |b| b.iter(|| black_box(&line).emit()));
    Ok(())
}

/// An upstream that brings one content and says yes to everything.
struct Always(Bytes);

impl Always {
    fn proof(&self) -> Proof {
        Proof {
            digest: Some(Digest::of(Algorithm::Sha256, &self.0)),
            media_type: Some("application/vnd.oci.image.manifest.v1+json".into()),
            size: Some(self.0.len() as u64),
        }
    }
}

impl Source for Always {
    fn decides(&self) -> bool {
        true
    }

    fn open<'a>(&'a self, _: &'a Digest, _: Want) -> BoxFuture<'a, Result<Flow, Fault>> {
        let total = Some(self.0.len() as u64);
        let body = Body::full(self.0.clone());
        let proof = Proof { size: total, ..self.proof() };
        let flow = Flow {
            at: 0,
            to: None,
            total,
            ranges: None,
            is_coded: false,
            is_open_ended: false,
            validator: None,
            endpoint: None,
            proof,
            body,
        };
        async move { Ok(flow) }.boxed()
    }

    fn prove<'a>(&'a self, _: &'a Subject) -> BoxFuture<'a, Result<Proof, Fault>> {
        async move { Ok(self.proof()) }.boxed()
    }

    fn whole<'a>(&'a self, _: &'a Subject, _: Origins) -> BoxFuture<'a, Result<Whole, Fault>> {
        let whole = Whole {
            bytes: self.0.clone(),
            media_type: Some("application/vnd.oci.image.manifest.v1+json".into()),
            digest: Some(Digest::of(Algorithm::Sha256, &self.0)),
            is_foreign: false,
        };
        async move { Ok(whole) }.boxed()
    }
}

async fn lookups(bench: &mut Bench) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let config = store::Config {
        dir: folder.path().join("cache"),
        min_free: pullthrough::host::Percent(1),
        ..store::Config::default()
    };
    let store = tokio::task::spawn_blocking(move || Store::open(&config)).await??;
    let cache = Cache::new(store.clone(), FillConfig::default(), Metrics::new())?;
    let content = format!(r#"{{"schemaVersion":2,"layers":[],"annotations":{{"pad":"{}"}}}}"#, "x".repeat(1850));
    let content = Bytes::from(content);
    let digest = Digest::of(Algorithm::Sha256, &content);
    let place = Place { registry: "docker.io".into(), repository: "library/postgres".parse()? };
    let caller = Caller::new(place, Principal::Anonymous, Arc::new(Always(content)), Trust::default());
    let fault = |fault: Fault| anyhow::anyhow!("{fault}");
    let question = TagQuestion {
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
    bench.bench_function("lookup, a blob (opens its file)", |b| {
        b.iter(|| assert!(matches!(cache.blob(&caller, &digest).now_or_never(), Some(Ok(_)))))
    });
    bench.bench_function("lookup, a manifest by digest", |b| {
        b.iter(|| assert!(matches!(cache.manifest(&caller, &digest).now_or_never(), Some(Ok(_)))))
    });
    bench.bench_function("lookup, a tag", |b| {
        b.iter(|| assert!(matches!(cache.tag(&caller, &question).now_or_never(), Some(Ok(_)))))
    });
    let authorization = b"Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhdXRoIn0.c2lnbmF0dXJl".repeat(12);
    bench.bench_function("lookup, whose a bearer of 700 bytes is", |b| {
        b.iter(|| cache.principal("docker.io", Some(&authorization)))
    });
    tokio::task::spawn_blocking(move || store.close()).await?;
    Ok(())
}

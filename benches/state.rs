//! What much state costs: lookups and memory with a few blobs in the cache, and with a million.
//!
//! `cargo bench --bench state` builds a cache folder of 1,000 blobs and one of 1,000,000 (another number:
//! `-- 200000`), a tenth of them manifests with a tag each, in repositories of a hundred blobs, and prints both side
//! by side. Times are medians of single lookups by the wall clock, as a first lookup waits for the catalog's thread.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, anyhow, ensure};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pullthrough::cache::{
    Asking, BlobFound, Cache, Caller, Fault, FillConfig, Flow, Freshness, Origins, Place, Principal, Proof, Retry,
    Source, Subject, TagQuestion, Trust, Want, Whole,
};
use pullthrough::host::{Percent, Size};
use pullthrough::oci::{Accept, Algorithm, Digest, Tag};
use pullthrough::store::{self, Content, Learned, Link, Store, TagEntry};
use pullthrough::telemetry::Metrics;
use rustix::param::page_size;

const REGISTRY: &str = "docker.io";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const SMALL: u64 = 1_000;
const LARGE: u64 = 1_000_000;
/// One in so many blobs is a manifest, with a tag of its own.
const MANIFEST_EACH: u64 = 10;
const REPOSITORY_OF: u64 = 100;
/// So many things that were never looked up are looked up.
const FIRSTS: u64 = 80;
/// A tag's memory is told from so many tags on.
const TOLD: u64 = 10_000;
/// The catalog drops notes when too many wait: so many are sent at a time.
const NOTES: u64 = 4_000;
const REPEATS: usize = 20_000;

fn main() -> anyhow::Result<()> {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let large = wanted.map_or(Ok(LARGE), |text| text.parse()).context("the number of blobs is not one")?;
    ensure!(large >= SMALL, "no less than {SMALL} blobs");
    let (few, many) = (measured(SMALL)?, measured(large)?);
    println!("| what | {SMALL} blobs | {large} blobs |\n|---|---|---|");
    for (few, many) in few.iter().zip(&many) {
        println!("| {} | {} | {} |", few.0, few.1, many.1);
    }
    Ok(())
}

/// The lines of the table, for a folder of so many blobs.
fn measured(count: u64) -> anyhow::Result<Vec<(&'static str, String)>> {
    let folder = tempfile::tempdir()?;
    let config = store::Config {
        dir: folder.path().join("cache"),
        max_size: Some(Size(count * 1_000_000)),
        min_free: Percent(0),
    };
    build(&config, count)?;
    let before = memory()?;
    let began = Instant::now();
    let store = Store::open(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let cache = Cache::new(store.clone(), FillConfig::default(), Metrics::new())?;
    runtime.block_on(look(&cache, 0))?;
    let first = began.elapsed();
    let mut lines =
        vec![("open, and the first pull: tag, manifest, blob", format!("{:.1} ms", first.as_secs_f64() * 1e3))];
    lines.extend(runtime.block_on(lookups(&cache, count))?);
    let opened = memory()?;
    let touched = runtime.block_on(touch_all(&cache, count))?;
    lines.push(("memory of the state, at rest", format!("{:.1} MiB", mebibytes(opened.saturating_sub(before)))));
    let each = memory()?.saturating_sub(opened) / touched;
    let is_told = touched >= TOLD; // below that it is lost among pages
    lines.push(("memory of each hot tag", if is_told { format!("{each} bytes") } else { "-".to_owned() }));
    store.close();
    let catalog = fs::metadata(config.dir.join("catalog.sqlite"))?.len();
    lines.push(("catalog on disk, of each blob", format!("{} bytes", catalog / count)));
    Ok(lines)
}

fn content(number: u64) -> String {
    format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","layers":[],"number":{number}}}"#)
}

fn digest(number: u64) -> Digest {
    Digest::of(Algorithm::Sha256, content(number).as_bytes())
}

fn place(number: u64) -> anyhow::Result<Place> {
    let repository = format!("team{}/app", number / REPOSITORY_OF).parse()?;
    Ok(Place { registry: REGISTRY.into(), repository })
}

fn tag(number: u64) -> anyhow::Result<Tag> {
    Ok(format!("v{number}").parse()?)
}

/// Writes the blobs where the store has them, lets it find them, and notes what it would have learned.
fn build(config: &store::Config, count: u64) -> anyhow::Result<()> {
    Store::open(config)?.close();
    for number in 0..count {
        fs::write(path(&config.dir, &digest(number)), content(number))?;
    }
    fs::remove_file(config.dir.join("catalog.sqlite"))?;
    let store = Store::open(config)?;
    while !store.is_settled() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let accept = Accept::parse([MANIFEST]);
    for number in 0..count {
        let (place, digest) = (place(number)?, digest(number));
        let is_manifest = number % MANIFEST_EACH == 0;
        let (content, media_type) =
            if is_manifest { (Content::Manifest, Some(MANIFEST.to_owned())) } else { (Content::Blob, None) };
        if is_manifest {
            store.catalog().record_tag(TagEntry {
                registry: place.registry.clone(),
                repository: place.repository.clone(),
                tag: tag(number)?,
                accept,
                digest,
                media_type: MANIFEST.into(),
                size: self::content(number).len() as u64,
                checked: SystemTime::now(),
                learned: Learned::Anonymously,
            });
        }
        if number % REPOSITORY_OF == 0 {
            store.catalog().record_public(&place.registry, &place.repository, Some(SystemTime::now()));
        }
        let (registry, repository) = (place.registry, place.repository);
        let (learned, proven) = (Learned::Anonymously, SystemTime::now());
        store.catalog().record_link(Link { registry, repository, digest, content, media_type, learned, proven });
        if number % NOTES == 0 {
            runtime.block_on(store.catalog().ping(REGISTRY))?; // all notes before it are written then
        }
    }
    for number in 0..count.min(SMALL * 10) {
        store.prove(&digest(number))?; // hashed, so that no lookup has to
    }
    store.close();
    Ok(())
}

fn path(dir: &Path, digest: &Digest) -> std::path::PathBuf {
    dir.join("blobs/sha256").join(digest.hex())
}

/// A caller whose registry is never asked.
fn caller(number: u64) -> anyhow::Result<Caller> {
    Ok(Caller::new(place(number)?, Principal::Anonymous, Arc::new(Silent), Trust::default()))
}

fn question(number: u64) -> anyhow::Result<TagQuestion> {
    Ok(TagQuestion {
        tag: tag(number)?,
        accept: Accept::parse([MANIFEST]),
        freshness: Freshness { fresh_for: Duration::from_secs(86_400), deadline: Duration::from_secs(1) },
        asking: Asking::Content,
    })
}

/// What a pull looks up around the manifest of this number: its tag, it, and the blob after it.
async fn look(cache: &Cache, number: u64) -> anyhow::Result<()> {
    let caller = caller(number)?;
    let found = cache.tag(&caller, &question(number)?).await.map_err(|fault| anyhow!("{fault}"))?;
    cache.manifest(&caller, &found.digest).await.map_err(|fault| anyhow!("{fault}"))?;
    let blob = cache.blob(&caller, &digest(number + 1)).await.map_err(|fault| anyhow!("{fault}"))?;
    ensure!(matches!(blob, BlobFound::Stored(..)), "blob {number} is not in the cache");
    Ok(())
}

async fn lookups(cache: &Cache, count: u64) -> anyhow::Result<Vec<(&'static str, String)>> {
    let mut firsts = Vec::new();
    let known = count.min(SMALL * 10); // whose digests were proven
    for step in 1..=FIRSTS {
        let number = step * (known / (FIRSTS + 1)) / MANIFEST_EACH * MANIFEST_EACH;
        let began = Instant::now();
        look(cache, number).await?;
        firsts.push(began.elapsed());
    }
    let (caller, question) = (caller(0)?, question(0)?);
    let (manifest, layer) = (digest(0), digest(1));
    let tags = repeat(|| cache.tag(&caller, &question).now_or_never().is_some_and(|found| found.is_ok()))?;
    let manifests = repeat(|| cache.manifest(&caller, &manifest).now_or_never().is_some_and(|found| found.is_ok()))?;
    let blobs = repeat(|| cache.blob(&caller, &layer).now_or_never().is_some_and(|found| found.is_ok()))?;
    Ok(vec![
        ("the first lookup of a tag, its manifest and a blob", micros(median(firsts))),
        ("a hot tag", micros(tags)),
        ("a hot manifest by digest", micros(manifests)),
        ("a hot blob (opens its file)", micros(blobs)),
    ])
}

/// Looks up every tag. How many.
async fn touch_all(cache: &Cache, count: u64) -> anyhow::Result<u64> {
    let numbers = (0..count).step_by(MANIFEST_EACH as usize);
    let mut touched = 0;
    for number in numbers {
        let caller = caller(number)?;
        cache.tag(&caller, &question(number)?).await.map_err(|fault| anyhow!("{fault}"))?;
        touched += 1;
    }
    Ok(touched)
}

fn repeat(mut hit: impl FnMut() -> bool) -> anyhow::Result<Duration> {
    let mut times = Vec::with_capacity(REPEATS);
    for _ in 0..REPEATS {
        let began = Instant::now();
        ensure!(black_box(hit()), "a hit waited or failed");
        times.push(began.elapsed());
    }
    Ok(median(times))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn micros(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// This process's resident memory in bytes.
fn memory() -> anyhow::Result<u64> {
    let pages = fs::read_to_string("/proc/self/statm")?;
    let resident: u64 = pages.split(' ').nth(1).context("statm has no second field")?.parse()?;
    Ok(resident * page_size() as u64)
}

/// A registry that is not to be asked.
struct Silent;

impl Silent {
    fn fault() -> Fault {
        Fault::new(Retry::Never, std::io::Error::other("nothing was to be asked upstream"))
    }
}

impl Source for Silent {
    fn decides(&self) -> bool {
        true
    }

    fn open<'a>(&'a self, _: &'a Digest, _: Want) -> BoxFuture<'a, Result<Flow, Fault>> {
        async { Err(Self::fault()) }.boxed()
    }

    fn prove<'a>(&'a self, _: &'a Subject) -> BoxFuture<'a, Result<Proof, Fault>> {
        async { Err(Self::fault()) }.boxed()
    }

    fn whole<'a>(&'a self, _: &'a Subject, _: Origins) -> BoxFuture<'a, Result<Whole, Fault>> {
        async { Err(Self::fault()) }.boxed()
    }
}

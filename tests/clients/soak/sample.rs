//! What the proxy's process takes, measured again and again: memory, files, threads, tasks, disk.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::plan::{Plan, Third};
use super::scene::Scene;
use crate::proxy::fetch;

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at: Duration,
    pub(super) pid: u32,
    /// Resident memory, in KiB.
    pub(super) memory: u64,
    pub(super) files: u64,
    pub(super) threads: u64,
    pub(super) tasks: u64,
    pub(super) connections: u64,
    pub(super) fills: u64,
    /// What the proxy says that blobs and fills take, in bytes.
    pub(super) cache: u64,
    /// What they take on the disk, in bytes.
    pub(super) disk: u64,
    pub(super) evictions: u64,
}

const COLUMNS: &str = "seconds,pid,memory_kib,files,threads,tasks,connections,fills,cache_bytes,disk_bytes,evictions\n";

impl Sample {
    /// Measures the process that runs now; none while it is being restarted.
    pub(super) fn take(scene: &Scene) -> Option<Self> {
        let pid = Some(scene.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let of_status = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        let page = fetch(scene.admin, "/metrics")?;
        let metric = |name: &str| {
            let values = page.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
            values.sum::<f64>() as u64
        };
        Some(Self {
            at: Duration::ZERO,
            pid,
            memory: of_status("VmRSS:")?,
            files: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64,
            threads: of_status("Threads:")?,
            tasks: metric("pullthrough_tasks "),
            connections: metric("pullthrough_connections{door=\"proxy\"}"),
            fills: metric("pullthrough_fills_in_progress "),
            cache: metric("pullthrough_cache_bytes "),
            disk: disk(&scene.dir.join("cache")),
            evictions: metric("pullthrough_evictions_total "),
        })
    }

    fn line(&self) -> String {
        let Self { at, pid, memory, files, threads, tasks, connections, fills, cache, disk, evictions } = self;
        let seconds = at.as_secs();
        format!("{seconds},{pid},{memory},{files},{threads},{tasks},{connections},{fills},{cache},{disk},{evictions}\n")
    }
}

/// The blocks of blobs and staged files. One that is removed meanwhile takes nothing.
fn disk(cache: &Path) -> u64 {
    let folders = ["blobs/sha256", "fills"].map(|folder| fs::read_dir(cache.join(folder)));
    let entries = folders.into_iter().flatten().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.blocks() * 512).sum()
}

/// Measures until `stop`; all of it also stands in `samples.csv` from the start on.
pub(super) fn until(stop: &AtomicBool, scene: &Scene, plan: &Plan, begin: Instant) -> Vec<(Third, Sample)> {
    let mut samples = Vec::new();
    let mut table = COLUMNS.to_owned();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if Instant::now() < next {
            sleep(Duration::from_millis(100));
            continue;
        }
        next += plan.measured();
        let Some(sample) = Sample::take(scene) else { continue };
        let sample = Sample { at: begin.elapsed(), ..sample };
        let _ = table.write_str(&sample.line());
        plan.write("samples.csv", &table);
        samples.push((Third::of(sample.at, plan.length), sample));
    }
    samples
}

/// Waits, when no client is left, until nothing is under way and the process has given back what it took for them.
/// The last measurement, whatever it is.
pub(super) fn rest(scene: &Scene, base: &Sample, within: Duration) -> Sample {
    let until = Instant::now() + within;
    loop {
        let now = Sample::take(scene).unwrap_or(*base);
        if now.rests(base) || Instant::now() > until {
            return now;
        }
        sleep(Duration::from_secs(1));
    }
}

impl Sample {
    /// Whether no more is open than when the proxy had just started: some connections to upstreams may be kept.
    pub(super) fn rests(&self, base: &Self) -> bool {
        self.connections == 0 && self.fills == 0 && self.files <= base.files + 24 && self.tasks <= base.tasks + 24
    }
}

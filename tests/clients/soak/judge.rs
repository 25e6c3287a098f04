//! Whether all was right, and the table that says so.

use std::fmt::Write as _;
use std::time::Duration;

use super::log::Log;
use super::plan::Third;
use super::sample::Sample;
use super::scene::{MAX_SIZE, Scene};
use crate::proxy::Proxy;

/// What the soak found.
pub(super) struct Verdict {
    pub(super) faults: Vec<String>,
    pub(super) text: String,
}

/// A measure of which the last third may not have more than the second.
struct Measure {
    name: &'static str,
    of: fn(&Sample) -> u64,
    /// So much more is no growth: the load is never quite the same.
    slack: u64,
    /// So much more, as a part of what there was.
    percent: u64,
}

/// Medians are compared, twenty minutes apart in an hour. A leak of one file or task a pull would be thousands by then;
/// one of 1 KiB a request some 50 MB. Memory has the most slack: bounded caches (manifests in memory, the catalog's
/// pages) still fill, and the allocator gives back late.
const MEASURES: [Measure; 4] = [
    Measure { name: "memory, KiB", of: |sample| sample.memory, slack: 24 << 10, percent: 10 },
    Measure { name: "open files", of: |sample| sample.files, slack: 24, percent: 10 },
    Measure { name: "threads", of: |sample| sample.threads, slack: 8, percent: 10 },
    Measure { name: "tasks", of: |sample| sample.tasks, slack: 32, percent: 10 },
];

/// Looks at everything.
pub(super) fn judge(
    scene: &Scene,
    proxy: &Proxy,
    samples: &[(Third, Sample)],
    base: &Sample,
    rest: &Sample,
    took: Duration,
) -> Verdict {
    let mut faults = scene.tally.faults();
    let mut text = format!("\nsoak of {} minutes\n\n", took.as_secs() / 60);
    clients(scene, &mut text);
    growth(samples, base, rest, &mut faults, &mut text);
    disk(samples, &mut faults, &mut text);
    log(scene, proxy, &mut faults, &mut text);
    let asked = scene.names.asked();
    if !asked.is_empty() {
        faults.push(format!("somebody wanted to leave the lab: {asked:?}"));
    }
    for note in scene.tally.notes() {
        let _ = writeln!(text, "note: {note}");
    }
    let _ = match faults.as_slice() {
        [] => writeln!(text, "\nall of it was right"),
        faults => writeln!(text, "\n{} FAULTS\n{}", faults.len(), faults.join("\n")),
    };
    Verdict { faults, text }
}

fn clients(scene: &Scene, text: &mut String) {
    let _ = writeln!(text, "{:<20} {:>8} {:>14} {:>7} {:>9}", "client", "right", "tried again", "wrong", "slowest");
    for (name, done) in scene.tally.done() {
        let slowest = done.slowest.as_secs_f64();
        let _ = writeln!(text, "{name:<20} {:>8} {:>14} {:>7} {slowest:>8.1}s", done.right, done.excused, done.wrong);
    }
    let _ = writeln!(text);
    for (what, times) in scene.tally.events() {
        let _ = writeln!(text, "{times:>6} times: {what}");
    }
}

fn growth(samples: &[(Third, Sample)], base: &Sample, rest: &Sample, faults: &mut Vec<String>, text: &mut String) {
    let of = |third: Third| samples.iter().filter(move |sample| sample.0 == third).map(|sample| &sample.1);
    // The first sample of the second third may still be of a process that was ended then.
    let pid = of(Third::Last).next_back().map(|sample| sample.pid);
    let same = |third| of(third).filter(move |sample| Some(sample.pid) == pid);
    if same(Third::Second).count() < 5 || same(Third::Last).count() < 5 {
        faults.push("too few measurements of one process: the soak is too short".to_owned());
        return;
    }
    if rest.pid != pid.unwrap_or_default() {
        faults.push("the process that was measured last is another".to_owned());
    }
    let _ = writeln!(
        text,
        "\n{:<14} {:>10} {:>12} {:>12} {:>9} {:>9}",
        "", "at start", "second third", "last third", "bound", "at rest"
    );
    for measure in MEASURES {
        let median = |third| median(same(third).map(measure.of).collect());
        let (second, last) = (median(Third::Second), median(Third::Last));
        let bound = second + measure.slack + second * measure.percent / 100;
        let name = measure.name;
        let [first, rest] = [base, rest].map(measure.of);
        let _ = writeln!(text, "{name:<14} {first:>10} {second:>12} {last:>12} {bound:>9} {rest:>9}");
        if last > bound {
            faults.push(format!("{name}: {last} in the last third, {second} in the second: more than {bound}"));
        }
    }
    if !rest.rests(base) {
        faults.push(format!("the proxy does not come to rest when its clients have left: {rest:?}, at start {base:?}"));
    }
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

fn disk(samples: &[(Third, Sample)], faults: &mut Vec<String>, text: &mut String) {
    let most = |of: fn(&Sample) -> u64| samples.iter().map(|sample| of(&sample.1)).max().unwrap_or_default();
    let (said, taken) = (most(|sample| sample.cache), most(|sample| sample.disk));
    let evictions = most(|sample| sample.evictions);
    let mib = |bytes: u64| bytes >> 20;
    let _ = writeln!(
        text,
        "\ncache: {} MiB at most, {} MiB of the disk, of {} MiB; {evictions} evictions by one process",
        mib(said),
        mib(taken),
        mib(MAX_SIZE)
    );
    // A write is counted before room is made for it. Files are summed one after the other while others are removed and
    // written, and each ends in a block.
    if said > MAX_SIZE + (4 << 20) || taken > MAX_SIZE + (16 << 20) {
        faults.push(format!("the cache took {said} bytes by its own word, {taken} of the disk, of {MAX_SIZE}"));
    }
    if evictions == 0 {
        faults.push("nothing was evicted: the cache is too large for this soak".to_owned());
    }
}

fn log(scene: &Scene, proxy: &Proxy, faults: &mut Vec<String>, text: &mut String) {
    let log = Log::read(&proxy.dir.join("log"), &scene.windows, scene.clock);
    let _ = writeln!(text, "\nlog: {} lines; answers by status {:?}", log.lines, log.answers);
    for (kind, times) in &log.expected {
        let _ = writeln!(text, "{times:>6} times, expected: {kind}");
    }
    for (kind, times) in log.too_often() {
        faults.push(format!("the log has too often, {times} times: {kind}"));
    }
    for (kind, (times, line)) in &log.unexpected {
        faults.push(format!("the log has {times} times: {kind}\n  {line}"));
    }
    for (kind, (times, line)) in &log.failed {
        faults.push(format!("outside of every window {times} times: {kind}\n  {line}"));
    }
}

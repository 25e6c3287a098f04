//! Compares the policy with LRU and the optimum on a generated trace: the hot set, growing tags, nightly scans.
//!
//! Twenty-four days of a generated site: 150 images in 15 families that share base layers, pulled by day by Zipf's law
//! and rarely at weekends. Each day a tenth of them gets a new tag with new upper layers, whose predecessors are never
//! pulled again. Each night a scanner pulls every image once, and an archive of images that no one else pulls. The
//! cache holds a small part of a night. The first six days fill the cache and do not count. Belady's optimum counts
//! pulls, not objects of unequal size: a policy that keeps small ones can have more hits.

use std::collections::{BTreeSet, HashMap};

use super::*;
use crate::oci::{Algorithm, Digest};
use crate::store::catalog::{heat, heated};

const DAYS: i64 = 24;
const COUNTED_FROM: i64 = 6;
const IMAGES: usize = 150;
const FAMILIES: usize = 15;
const ARCHIVE: usize = 250;
const PULLS: i64 = 600;
const SECOND: i64 = 1_000_000;
const DAY: i64 = 24 * 3600 * SECOND;
const MIB: u64 = 1 << 20;

/// One request for a blob.
#[derive(Clone, Copy)]
struct Pull {
    at: i64,
    blob: usize,
    by_day: bool,
}

struct Trace {
    pulls: Vec<Pull>,
    sizes: Vec<u64>,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() * end as f64) as usize
    }
}

impl Trace {
    fn blob(&mut self, size: u64) -> usize {
        self.sizes.push(size);
        self.sizes.len() - 1
    }

    /// Many small layers, few large ones.
    fn layer(&mut self, random: &mut Random) -> usize {
        let size = MIB as f64 * (random.next() * 5.3).exp();
        self.blob(size as u64)
    }

    /// Manifest, configuration, and these layers under one to three new ones.
    fn image(&mut self, random: &mut Random, base: &[usize]) -> Vec<usize> {
        let mut image = vec![self.blob(1500), self.blob(7000)];
        image.extend_from_slice(base);
        (0..1 + random.below(3)).for_each(|_| image.push(self.layer(random)));
        image
    }

    fn pull(&mut self, random: &mut Random, image: &[usize], at: i64, by_day: bool) {
        for (nth, blob) in image.iter().enumerate() {
            // A node has some layers already; a scanner has none.
            if nth == 0 || !by_day || random.next() < 0.6 {
                self.pulls.push(Pull { at: at + nth as i64, blob: *blob, by_day });
            }
        }
    }

    fn made(seed: u64) -> Self {
        let (mut trace, mut random) = (Self { pulls: Vec::new(), sizes: Vec::new() }, Random(seed));
        let bases: Vec<Vec<usize>> =
            (0..FAMILIES).map(|_| (0..3).map(|_| trace.layer(&mut random)).collect()).collect();
        let mut images: Vec<Vec<usize>> =
            (0..IMAGES).map(|image| trace.image(&mut random, &bases[image % FAMILIES])).collect();
        let archive: Vec<Vec<usize>> = (0..ARCHIVE).map(|_| trace.image(&mut random, &[])).collect();
        let weights: Vec<f64> = (1..=IMAGES).map(|rank| 1.0 / rank as f64).collect();
        let all: f64 = weights.iter().sum();
        for day in 0..DAYS {
            let midnight = day * DAY;
            for (nth, image) in images.iter().chain(&archive).enumerate() {
                trace.pull(&mut random, image, midnight + 2 * 3600 * SECOND + nth as i64 * 5 * SECOND, false);
            }
            for image in 0..IMAGES {
                if random.next() < 0.1 {
                    images[image] = trace.image(&mut random, &bases[image % FAMILIES]);
                }
            }
            let pulls = if day % 7 < 5 { PULLS } else { PULLS / 20 };
            for nth in 0..pulls {
                let mut left = random.next() * all;
                let image = weights.iter().position(|weight| {
                    left -= weight;
                    left <= 0.0
                });
                let at = midnight + 6 * 3600 * SECOND + nth * 16 * 3600 * SECOND / pulls;
                trace.pull(&mut random, &images[image.unwrap_or(0)], at, true);
            }
        }
        trace.pulls.sort_by_key(|pull| pull.at);
        trace
    }
}

/// The hits by day, of all pulls by day: by objects and by bytes.
#[derive(Default)]
struct Score {
    asked: (u64, u64),
    hit: (u64, u64),
}

impl Score {
    fn add(&mut self, pull: Pull, size: u64, hit: bool) {
        if pull.by_day && pull.at >= COUNTED_FROM * DAY {
            self.asked = (self.asked.0 + 1, self.asked.1 + size);
            if hit {
                self.hit = (self.hit.0 + 1, self.hit.1 + size);
            }
        }
    }

    /// The hit ratios in percent.
    fn ratios(&self) -> (f64, f64) {
        let percent = |hit: u64, of: u64| hit as f64 * 100.0 / of as f64;
        (percent(self.hit.0, self.asked.0), percent(self.hit.1, self.asked.1))
    }
}

/// This policy, as the evictor runs it: passes from the high to the low mark.
fn ours(trace: &Trace, limit: u64) -> Score {
    let (mut score, mut rows, mut bytes) = (Score::default(), HashMap::<usize, BlobRow>::new(), 0);
    let digest = Digest::of(Algorithm::Sha256, b"");
    for pull in &trace.pulls {
        let (size, at) = (trace.sizes[pull.blob], pull.at);
        let id = i64::try_from(pull.blob).unwrap();
        score.add(*pull, size, rows.contains_key(&pull.blob));
        rows.entry(pull.blob)
            .and_modify(|row| {
                row.heat = heated(row.heat, row.last_used, at);
                row.last_used = at;
            })
            .or_insert_with(|| {
                bytes += size;
                BlobRow { id, digest, size, last_used: at, proven: true, pinned: false, heat: heat(at) }
            });
        if bytes > limit / 100 * 97 {
            let mut choice = Choice::new(bytes - limit / 100 * 94);
            rows.values().for_each(|row| choice.offer(*row));
            for row in choice.victims() {
                rows.remove(&usize::try_from(row.id).unwrap());
                bytes -= row.size;
            }
        }
    }
    score
}

/// Evicts the smallest key first, at the moment when space is needed.
fn by_key(trace: &Trace, limit: u64, key: impl Fn(usize) -> i64) -> Score {
    let (mut score, mut keys, mut order, mut bytes) =
        (Score::default(), HashMap::<usize, i64>::new(), BTreeSet::new(), 0);
    for (position, pull) in trace.pulls.iter().enumerate() {
        let size = trace.sizes[pull.blob];
        let before = keys.insert(pull.blob, key(position));
        score.add(*pull, size, before.is_some());
        match before {
            Some(before) => drop(order.remove(&(before, pull.blob))),
            None => bytes += size,
        }
        order.insert((key(position), pull.blob));
        while bytes > limit {
            let Some((_, blob)) = order.pop_first() else { break };
            keys.remove(&blob);
            bytes -= trace.sizes[blob];
        }
    }
    score
}

/// Evicts the least recently used.
fn lru(trace: &Trace, limit: u64) -> Score {
    by_key(trace, limit, |position| i64::try_from(position).unwrap())
}

/// Belady's optimum: evicts the blob whose next use is latest, which no real cache can know.
fn optimum(trace: &Trace, limit: u64) -> Score {
    let (mut next, mut seen) = (vec![i64::MIN; trace.pulls.len()], HashMap::new());
    for (position, pull) in trace.pulls.iter().enumerate().rev() {
        if let Some(later) = seen.insert(pull.blob, position) {
            next[position] = -i64::try_from(later).unwrap();
        }
    }
    by_key(trace, limit, |position| next[position])
}

#[test]
fn a_nightly_pull_of_everything_does_not_flush_the_hot_set() {
    let trace = Trace::made(0x2545_f491_4f6c_dd1d);
    let night: u64 = trace.pulls.iter().filter(|pull| !pull.by_day && pull.at < DAY).map(|p| trace.sizes[p.blob]).sum();
    println!("{} pulls of blobs, {} blobs, {} MiB a night", trace.pulls.len(), trace.sizes.len(), night / MIB);
    for (share, objects, bytes) in [(5, 25.0, 8.0), (10, 12.0, 4.0), (20, 10.0, 6.0)] {
        let limit = night / 100 * share;
        let (ours, lru, best) = (ours(&trace, limit), lru(&trace, limit), optimum(&trace, limit));
        let (ours, lru, best) = (ours.ratios(), lru.ratios(), best.ratios());
        println!(
            "cache of {share:2}% of a night: objects {:.1}% (LRU {:.1}, optimum {:.1}), bytes {:.1}% (LRU {:.1}, optimum {:.1})",
            ours.0, lru.0, best.0, ours.1, lru.1, best.1
        );
        assert!(ours.0 >= lru.0 + objects, "objects");
        assert!(ours.1 >= lru.1 + bytes, "bytes");
    }
}

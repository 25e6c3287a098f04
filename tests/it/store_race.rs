//! Many at once on few digests, and a process killed in the middle of it: no wrong byte, no broken promise.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use pullthrough::oci::Digest;
use pullthrough::store::{Error, Store};

use crate::store::{bytes, config, content, digest, eventually, lying_in};

const FOLDER: &str = "PULLTHROUGH_TEST_STORE";

/// Blob number `n`, of a length that is its own.
fn blob(n: u64) -> Vec<u8> {
    content(n + 1, usize::try_from(n * 977 % 5000).unwrap())
}

/// A generator of small numbers.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 8
}

#[test]
fn commits_reads_removals_and_evictions_of_the_same_blobs_go_well_together() {
    const BLOBS: u64 = 24;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&config(folder.path(), 30_000)).unwrap();
    let (reads, commits) = (AtomicU64::new(0), AtomicU64::new(0));
    let all: Vec<Vec<u8>> = (0..BLOBS).map(blob).collect();
    let names: Vec<Digest> = all.iter().map(|blob| digest(blob)).collect();
    thread::scope(|scope| {
        for seed in 1..=6_u64 {
            let (store, all, names, reads, commits) = (store.clone(), &all, &names, &reads, &commits);
            scope.spawn(move || {
                let mut state = seed * 0x9e37_79b9;
                for _ in 0..150 {
                    let n = (random(&mut state) % BLOBS) as usize;
                    match random(&mut state) % 16 {
                        0 => store.remove(&names[n]).unwrap(),
                        1 => drop(store.evict()),
                        2..=6 => {
                            let staged = Arc::new(store.stage(&names[n]).unwrap());
                            let half = all[n].len() / 2;
                            // When all the room is staged or read, a writer is told so.
                            let written = staged.write_at(half as u64, &all[n][half..]);
                            match written.and_then(|()| staged.write_at(0, &all[n][..half])) {
                                Ok(()) => {
                                    let blob = staged.commit(all[n].len() as u64).unwrap();
                                    assert!(bytes(&blob) == all[n]);
                                    commits.fetch_add(1, Ordering::Relaxed);
                                }
                                Err(error) => assert!(matches!(error, Error::Full { .. }), "{error}"),
                            }
                        }
                        _ => {
                            if let Some(blob) = store.read(&names[n]).unwrap() {
                                store.catalog().used(&names[n]);
                                assert!(bytes(&blob) == all[n]);
                                reads.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                }
            });
        }
    });
    assert!(reads.into_inner() > 50 && commits.into_inner() > 50, "there was something to race for");
    eventually("the eviction", || store.usage().bytes <= 30_000);
    store.close();
    assert_eq!(store.usage().bytes, lying_in(folder.path()));
    let store = Store::open(&config(folder.path(), 30_000)).unwrap();
    assert!(store.is_settled());
    assert_eq!(store.usage().bytes, lying_in(folder.path()));
}

/// Not a test by itself: the process that `a_killed_process_loses_no_commit` kills.
#[test]
#[ignore = "started by another test"]
fn commit_until_killed() {
    let (folder, round) =
        std::env::var(FOLDER).unwrap().rsplit_once('#').map(|(f, r)| (f.to_owned(), r.to_owned())).unwrap();
    let store = Store::open(&config(&PathBuf::from(folder), 1 << 30)).unwrap();
    let mut state = round.parse::<u64>().unwrap() * 0x9e37_79b9 + 1;
    loop {
        let whole = blob(random(&mut state) % 100_000);
        store.put(&digest(&whole), &whole).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "\ncommitted {}", digest(&whole)).unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn a_killed_process_loses_no_commit() {
    let folder = tempfile::tempdir().unwrap();
    let mut promised = BTreeSet::new();
    for round in 0..200 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "store_race::commit_until_killed", "--nocapture", "--test-threads=1"])
            .env(FOLDER, format!("{}#{round}", folder.path().display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let committed = lines.filter_map(|line| line.unwrap().strip_prefix("committed ").map(str::to_owned));
        // The kill comes at whatever the child does after its n-th commit.
        let before = promised.len();
        promised.extend(committed.take(round * 7 % 23 + 1).map(|name| name.parse::<Digest>().unwrap()));
        assert!(promised.len() > before, "round {round}: the child should commit until it is killed");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let store = Store::open(&config(folder.path(), 1 << 30)).unwrap();
    for name in &promised {
        let blob = store.read(name).unwrap().unwrap_or_else(|| panic!("{name} was promised"));
        assert_eq!(digest(&bytes(&blob)), *name);
    }
    eventually("the walk", || store.is_settled());
    store.close();
    assert_eq!(store.usage().bytes, lying_in(folder.path()));
}

//! Many at once on few digests: no wrong byte, no broken promise.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use pullthrough::oci::Digest;
use pullthrough::store::{Error, Store};

use crate::store::{bytes, config, content, digest, lying_in};
use crate::support::wait_until;

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
    wait_until("the eviction", || store.usage().bytes <= 30_000);
    store.close();
    assert_eq!(store.usage().bytes, lying_in(folder.path()));
    let store = Store::open(&config(folder.path(), 30_000)).unwrap();
    assert!(store.is_settled());
    assert_eq!(store.usage().bytes, lying_in(folder.path()));
}

//! Many blobs: a first hit does not wait for a list of them, with the catalog or without; nothing is made up.
//!
//! 3,000 by default; `PULLTHROUGH_TEST_BLOBS=1000000 cargo test --test it store::many -- --nocapture` shows the times of a million.

use std::fs;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use pullthrough::oci::Digest;
use pullthrough::store::Store;

use crate::store::{bytes, config, digest};

fn content(n: u64) -> Vec<u8> {
    format!("{n:0100}").into_bytes()
}

/// How long the longest of many lookups took while `work` ran.
fn longest_lookup(store: &Store, work: impl FnOnce()) -> Duration {
    let (over, is_over) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let longest = scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut longest = Duration::ZERO;
            // It measures, and must not be the load: a lookup a millisecond.
            while is_over.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
                let began = Instant::now();
                let _ = runtime.block_on(store.catalog().ping("quay.io"));
                longest = longest.max(began.elapsed());
            }
            longest
        });
        work();
        drop(over);
        longest.join().unwrap()
    })
}

#[test]
fn a_lost_catalog_is_rebuilt_while_serving_and_invents_nothing() {
    let count: u64 = std::env::var("PULLTHROUGH_TEST_BLOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(3000);
    let folder = tempfile::tempdir().unwrap();
    let limit = count * 100 * 2;
    drop(Store::open(&config(folder.path(), limit)).unwrap());
    let names: Vec<Digest> = (0..count).map(|n| digest(&content(n))).collect();
    for (n, name) in (0..).zip(&names) {
        fs::write(crate::store::path_of(folder.path(), name), content(n)).unwrap();
    }
    fs::remove_file(folder.path().join("cache/catalog.sqlite")).unwrap();
    let began = Instant::now();
    let store = Store::open(&config(folder.path(), limit)).unwrap();
    let last = names.last().unwrap();
    assert_eq!(bytes(&store.read(last).unwrap().unwrap()), content(count - 1));
    println!("{count} blobs without a catalog: first hit after {:?}", began.elapsed());
    let mut hits = 0;
    let longest = longest_lookup(&store, || {
        while !store.is_settled() {
            let name = &names[hits * 7919 % names.len()];
            assert!(store.read(name).unwrap().is_some(), "what is there is served while the catalog is rebuilt");
            hits += 1;
        }
    });
    println!("rebuilt after {:?}, {hits} hits meanwhile, longest lookup {longest:?}", began.elapsed());
    assert_eq!((store.usage().entries, store.usage().bytes), (count, count * 100));
    store.close();
    let catalog = rusqlite::Connection::open(folder.path().join("cache/catalog.sqlite")).unwrap();
    for table in ["links", "tags", "history", "places", "pings", "pins", "blobs WHERE pinned"] {
        let rows: i64 = catalog.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "{table}");
    }
    drop(catalog);
    let began = Instant::now();
    let store = Store::open(&config(folder.path(), limit)).unwrap();
    assert_eq!(bytes(&store.read(&names[0]).unwrap().unwrap()), content(0));
    println!("with its catalog: first hit after {:?}", began.elapsed());
    store.close();
    let began = Instant::now();
    let store = Store::open(&config(folder.path(), count * 100)).unwrap();
    let longest = longest_lookup(&store, || {
        while store.usage().bytes > count * 94 || store.evict() > 0 {
            std::thread::yield_now();
        }
    });
    println!("{} evicted within {:?}, longest lookup {longest:?}", store.usage().evictions, began.elapsed());
    assert!(store.usage().entries >= count * 93 / 100, "no more than is needed");
}

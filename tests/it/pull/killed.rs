//! The real program, killed in the midst of pulls: what it once answered from its cache is there and right.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use futures_util::future::join_all;
use pullthrough::oci::Digest;
use pullthrough::store::Store;
use tokio::sync::mpsc;

use super::{QUAY, layer};
use crate::store::{bytes, config, digest, lying_in};
use crate::support::client::Client;
use crate::support::{Dice, Plan, Registry, Served, until, wait_until};

/// Pulls these blobs one by one, each until it comes from the cache, and tells of each that did.
struct Puller {
    proxy: SocketAddr,
    ca_file: PathBuf,
    blobs: Vec<Digest>,
}

impl Puller {
    async fn pull(self, promised: mpsc::Sender<Digest>) {
        let mut session = Client::through(self.proxy, &self.ca_file).session(QUAY).await;
        for blob in self.blobs {
            let path = format!("/v2/a/blobs/{blob}");
            until("it is a hit", async || session.get(&path).await.header("cache-status") == "pullthrough; hit").await;
            promised.send(blob).await.unwrap();
        }
    }
}

/// What was promised by a process that was killed after so many promises, whatever it was at.
async fn promises(folder: &Path, registry: &Registry, round: u64) -> Vec<Digest> {
    let server = Served::start(folder, "warn");
    let (proxy, ca_file) = (server.proxy(), folder.join("ca/ca.crt"));
    let (promised, mut told) = mpsc::channel(1);
    let dice = Dice::seeded(round);
    let pulls = (0..3_u64).map(|number| {
        let seeds = (0..10).map(|n| 1 + n + 10 * (number + 3 * round));
        let blobs = seeds.map(|seed| registry.push_blob("a", layer(1 + dice.below(300_000) as usize, seed)));
        let puller = Puller { proxy, ca_file: ca_file.clone(), blobs: blobs.collect() };
        puller.pull(promised.clone())
    });
    let killed = async {
        let mut promises = Vec::new();
        for _ in 0..=round * 7 % 23 {
            promises.push(told.recv().await.unwrap());
        }
        drop(server);
        promises
    };
    tokio::select! {
        promises = killed => promises,
        _ = join_all(pulls) => panic!("there is more to pull than is waited for"),
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_it_has_answered_from_its_cache() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start("quay.io");
    let plan = Plan::new().registry(&registry, "");
    std::fs::write(folder.path().join("pullthrough.yaml"), plan.yaml(folder.path())).unwrap();
    let mut promised = BTreeSet::new();
    for round in 0..200 {
        promised.extend(promises(folder.path(), &registry, round).await);
    }
    let expected = tokio::task::spawn_blocking(move || check(folder.path(), &promised));
    expected.await.unwrap();
}

/// Each promise is kept, and the count of bytes is that of the files.
fn check(folder: &Path, promised: &BTreeSet<Digest>) {
    let store = Store::open(&config(folder, 1 << 30)).unwrap();
    for name in promised {
        let blob = store.read(name).unwrap().unwrap_or_else(|| panic!("{name} was promised"));
        assert_eq!(digest(&bytes(&blob)), *name);
    }
    wait_until("the walk", || store.is_settled());
    store.close();
    assert_eq!(store.usage().bytes, lying_in(folder));
}

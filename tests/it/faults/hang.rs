//! A disk that does not return from what it was asked: a network file system without its server, a dying controller.
//!
//! The proxy runs on this test's one thread, so nothing here would answer if that thread waited for the disk.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use pullthrough::store::{Disk, DiskStep, Witness};

use super::net::{digests, pull};
use crate::pull::layer;
use crate::support::client::Client;
use crate::support::{Image, Log, Plan, Proxy, Registry, until};

const NAME: &str = "registry.test";
/// What takes longer than that is told.
const PATIENCE: Duration = Duration::from_secs(4);
/// Six labs share the processors.
const LONG: Duration = Duration::from_secs(120);
/// What hangs is let go after that in any case, so that a test that fails ends.
const END: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hung {
    Nothing,
    Open,
    Create,
    Write,
    Sync,
    Rename,
    Everything,
}

struct Hanging {
    hung: Mutex<Hung>,
    over: Condvar,
}

impl Hanging {
    fn set(&self, hung: Hung) {
        *self.hung.lock().unwrap() = hung;
        self.over.notify_all();
    }

    fn wait(&self, hits: impl Fn(Hung) -> bool) {
        let hung = self.hung.lock().unwrap();
        let (_hung, end) = self.over.wait_timeout_while(hung, END, |hung| hits(*hung)).unwrap();
        assert!(!end.timed_out(), "nobody let it go");
    }
}

impl Witness for Hanging {
    fn before(&self, step: &DiskStep<'_>) -> io::Result<()> {
        let kind = match step {
            DiskStep::Create(_) => Hung::Create,
            DiskStep::Write(..) => Hung::Write,
            DiskStep::SyncFile(_) => Hung::Sync,
            DiskStep::Rename(..) | DiskStep::SyncFolder(_) => Hung::Rename,
            DiskStep::MakeFolder(_) | DiskStep::Unlink(_) => Hung::Everything,
        };
        self.wait(|hung| hung == kind || hung == Hung::Everything);
        Ok(())
    }

    fn opening(&self, _: &Path) {
        self.wait(|hung| matches!(hung, Hung::Open | Hung::Everything));
    }

    fn is_cold(&self, _: &Path) -> bool {
        matches!(*self.hung.lock().unwrap(), Hung::Open | Hung::Everything)
    }
}

struct Lab {
    registry: Registry,
    proxy: Proxy,
    disk: Arc<Hanging>,
    warm: Image,
}

impl Lab {
    async fn start() -> Self {
        let disk = Arc::new(Hanging { hung: Mutex::new(Hung::Nothing), over: Condvar::new() });
        let registry = Registry::start(NAME);
        let plan = Plan::new().registry(&registry, "tags: {fresh_for: 0s}");
        let proxy = plan.disk(Disk::impatient(disk.clone(), PATIENCE)).start().await;
        let warm = registry.push_image("warm", "1", &[layer(200_000, 1)]);
        let lab = Self { registry, proxy, disk, warm };
        lab.pull("warm", &lab.warm).await;
        for digest in digests(&lab.warm) {
            lab.proxy.stored(digest).await;
        }
        until("its changes are written", async || lab.status("/readyz").await == 200).await;
        lab
    }

    async fn pull(&self, repository: &str, image: &Image) {
        let pulled = pull(&self.proxy, NAME, repository, image).await;
        assert!(pulled.is_ok(), "{repository}: {pulled:?}");
    }

    fn downloads(&self, image: &Image) -> usize {
        image.layers.iter().map(|digest| self.registry.count(&format!("GET */{digest}"))).sum()
    }

    async fn status(&self, path: &str) -> u16 {
        let at = self.proxy.address();
        Client::through(at, &self.proxy.ca_file()).plain_session(&at.to_string()).await.get(path).await.status.as_u16()
    }
}

async fn hangs(log: &Log, hung: Hung, seed: u64) {
    let lab = Lab::start().await;
    let cold = lab.registry.push_image("cold", "1", &[layer(200_000, seed), layer(3_000_000, seed + 100)]);
    let late = lab.registry.push_image("late", "1", &[layer(200_000, seed + 200)]);
    lab.disk.set(hung);
    lab.pull("warm", &lab.warm).await;
    lab.pull("cold", &cold).await;
    assert_eq!(lab.status("/healthz").await, 200, "{hung:?}");
    until("it is told", async || {
        lab.pull("late", &late).await;
        lab.proxy.metric("pullthrough_disk_trouble").await == 1.0
    })
    .await;
    assert_eq!(lab.status("/readyz").await, 503, "{hung:?}");
    let told = log.lines("ERROR", &["the cache's disk hangs", &lab.proxy.folder().display().to_string()]);
    assert!(!told.is_empty(), "{hung:?}");
    // Once it is known nobody waits any longer, and nothing is lost to the disk.
    let before = lab.downloads(&lab.warm);
    lab.pull("warm", &lab.warm).await;
    lab.pull("cold", &cold).await;
    assert_eq!(lab.downloads(&lab.warm), before + 1, "{hung:?}");
    lab.disk.set(Hung::Nothing);
    until("it is well", async || lab.status("/readyz").await == 200).await;
    let before = lab.downloads(&lab.warm);
    lab.pull("warm", &lab.warm).await;
    assert_eq!(lab.downloads(&lab.warm), before, "{hung:?}: what was stored is there");
    // What hung in the midst of a download may take its time to be given up.
    let stored = async {
        while !digests(&cold).all(|digest| lab.proxy.blob_file(digest).exists()) {
            lab.pull("cold", &cold).await;
        }
    };
    assert!(tokio::time::timeout(LONG, stored).await.is_ok(), "{hung:?}: it stores again");
}

#[tokio::test]
async fn with_a_disk_that_hangs_everything_pulls_everything_answers_and_it_heals_by_itself() {
    let log = Log::begin();
    let kinds = [Hung::Open, Hung::Create, Hung::Write, Hung::Sync, Hung::Rename, Hung::Everything];
    join_all(kinds.into_iter().zip(10..).map(|(hung, seed)| hangs(&log, hung, seed))).await;
}

#[tokio::test]
async fn a_client_in_mid_pull_gets_the_rest_when_the_disk_begins_to_hang() {
    let (_log, lab) = (Log::begin(), Lab::start().await);
    let bytes = layer(4_000_000, 50);
    let digest = lab.registry.push_blob("cold", bytes.clone());
    let gate = crate::support::Gate::new();
    lab.registry.script_times(1, &format!("GET */{digest}"), crate::support::Act::Hold(1_000_000, gate.clone()));
    let (client, path) = (lab.proxy.client(), format!("/v2/cold/blobs/{digest}"));
    let pulling = tokio::spawn(async move { client.get(&format!("{NAME}:443"), &path).await });
    until("some of it has landed", async || lab.registry.count(&format!("GET */{digest}")) > 0).await;
    lab.disk.set(Hung::Write);
    gate.open();
    let pulled = pulling.await.unwrap();
    assert_eq!(pulled.bytes(), &bytes);
    lab.disk.set(Hung::Nothing);
}

//! Pushes over a disk that is full, read-only or hangs: each goes through, without being cached.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use pullthrough::oci::{Algorithm, Digest};
use pullthrough::store::{Disk, DiskStep, Witness};

use crate::pull::layer;
use crate::support::client::whole;
use crate::support::{Plan, Registry, until};

const NAME: &str = "registry.test";
/// What takes longer than that hangs.
const PATIENCE: Duration = Duration::from_secs(1);
/// No push may take longer, on a busy machine: the bounds of the cache are 5 s each.
const LONG: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ill {
    Well,
    Full,
    ReadOnly,
    HangsAtWrite,
    HangsAtSync,
}

struct Disks {
    ill: Mutex<Ill>,
    over: Condvar,
}

impl Disks {
    fn set(&self, ill: Ill) {
        *self.ill.lock().unwrap() = ill;
        self.over.notify_all();
    }
}

impl Witness for Disks {
    fn before(&self, step: &DiskStep<'_>) -> io::Result<()> {
        let ill = self.ill.lock().unwrap();
        match (*ill, step) {
            (Ill::Full, DiskStep::Write(..)) => Err(io::ErrorKind::StorageFull.into()),
            (Ill::ReadOnly, DiskStep::Create(_) | DiskStep::Write(..)) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            (Ill::HangsAtWrite, DiskStep::Write(..)) | (Ill::HangsAtSync, DiskStep::SyncFile(_)) => {
                let hung = *ill;
                drop(self.over.wait_timeout_while(ill, LONG, |ill| *ill == hung).unwrap());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_goes_on_without_the_cache_where_its_disk_is_full_or_read_only_or_hangs() {
    let disk = Arc::new(Disks { ill: Mutex::new(Ill::Well), over: Condvar::new() });
    let registry = Registry::start(NAME);
    let plan = Plan::new().registry(&registry, "push: allow");
    let proxy = plan.disk(Disk::impatient(disk.clone(), PATIENCE)).start().await;
    for (seed, ill) in
        [Ill::Full, Ill::ReadOnly, Ill::HangsAtWrite, Ill::HangsAtSync, Ill::Well].into_iter().enumerate()
    {
        let bytes = layer(6_000_000, seed as u64);
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        until("the disk is well", async || {
            let at = proxy.address();
            let mut session = proxy.client().plain_session(&at.to_string()).await;
            session.get("/readyz").await.status == 200
        })
        .await;
        disk.set(ill);
        let begun = Instant::now();
        let mut session = proxy.client().session("registry.test:443").await;
        let location = session.ask("POST", "/v2/a/blobs/uploads/", &[]).await.header("location").to_owned();
        let path = format!("{location}?digest={digest}");
        let sent = session.send("PUT", &path, &[], pullthrough::wire::Body::full(bytes.clone())).await.unwrap();
        assert_eq!(whole(sent).await.status, 201, "{ill:?}");
        assert!(begun.elapsed() < LONG, "{ill:?}: {:?}", begun.elapsed());
        assert_eq!(registry.blob("a", &digest).unwrap(), bytes, "{ill:?}");
        assert_eq!(proxy.blob_file(&digest).exists(), ill == Ill::Well, "{ill:?}");
        disk.set(Ill::Well);
        let got = proxy.client().get("registry.test:443", &format!("/v2/a/blobs/{digest}")).await;
        assert_eq!(got.bytes(), &bytes, "{ill:?}: a pull brings it");
    }
}

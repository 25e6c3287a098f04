//! An ill disk: what is stored is served, nothing committed is lost, it is said so, and it ends without a restart.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use pullthrough::oci::Digest;
use pullthrough::store::{Disk, DiskFault, DiskStep, Error, Store, Witness};

use crate::store::{bytes, config, content, digest};
use crate::support::wait_until;

/// Answers every step of one kind with an error of the system, while there is one.
struct Ill {
    errno: AtomicI32,
    hits: fn(&DiskStep<'_>) -> bool,
}

impl Witness for Ill {
    fn before(&self, step: &DiskStep<'_>) -> io::Result<()> {
        match self.errno.load(Ordering::SeqCst) {
            errno if errno != 0 && (self.hits)(step) => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    }
}

const EIO: i32 = 5;
const EACCES: i32 = 13;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

#[test]
fn each_step_may_fail_in_each_way_and_is_well_again_without_a_restart() {
    type Hits = fn(&DiskStep<'_>) -> bool;
    let steps: [(&str, Hits); 5] = [
        ("create", |step| matches!(step, DiskStep::Create(_))),
        ("write", |step| matches!(step, DiskStep::Write(..))),
        ("sync", |step| matches!(step, DiskStep::SyncFile(_))),
        ("rename", |step| matches!(step, DiskStep::Rename(..) | DiskStep::SyncFile(_))),
        ("sync of the folder", |step| matches!(step, DiskStep::SyncFolder(_))),
    ];
    let errors = [(EIO, DiskFault::Failing), (ENOSPC, DiskFault::Full), (EROFS, DiskFault::ReadOnly)];
    std::thread::scope(|scope| {
        for (what, hits) in steps {
            scope.spawn(move || errors.iter().for_each(|(errno, trouble)| suffer(what, hits, *errno, *trouble)));
        }
    });
}

#[test]
fn a_directory_that_may_not_be_written_is_a_fault_and_a_single_file_is_none() {
    type Hits = fn(&DiskStep<'_>) -> bool;
    let steps: [(&str, Hits, bool); 3] = [
        ("create", |step| matches!(step, DiskStep::Create(_)), true),
        ("rename", |step| matches!(step, DiskStep::Rename(..)), true),
        ("remove", |step| matches!(step, DiskStep::Unlink(_)), false),
    ];
    for (what, hits, is_fault) in steps {
        let folder = tempfile::tempdir().unwrap();
        let ill = Arc::new(Ill { errno: 0.into(), hits });
        let store = Store::open_on(&config(folder.path(), 1 << 20), Disk::watched(ill.clone())).unwrap();
        let (old, new) = (content(1, 1000), content(2, 1000));
        store.put(&digest(&old), &old).unwrap();
        ill.errno.store(EACCES, Ordering::SeqCst);
        let done = if is_fault { store.put(&digest(&new), &new).map(drop) } else { store.remove(&digest(&old)) };
        assert!(done.is_err(), "{what}");
        assert_eq!(store.disk_fault(), is_fault.then_some(DiskFault::Denied), "{what}");
        ill.errno.store(0, Ordering::SeqCst);
        wait_until("the end of the trouble", || store.disk_fault().is_none());
        store.close();
    }
}

#[test]
fn a_directory_that_is_gone_is_a_fault_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&config(folder.path(), 1 << 20)).unwrap();
    for gone in ["fills", "blobs/sha256"] {
        let gone = store.root().join(gone);
        fs::remove_dir(&gone).unwrap();
        let new = content(3, 1000);
        assert!(store.put(&digest(&new), &new).is_err());
        assert_eq!(store.disk_fault(), Some(DiskFault::Missing), "{}", gone.display());
        fs::create_dir(&gone).unwrap();
        wait_until("the end of the trouble", || store.disk_fault().is_none());
    }
    store.close();
}

fn suffer(what: &str, hits: fn(&DiskStep<'_>) -> bool, errno: i32, trouble: DiskFault) {
    let folder = tempfile::tempdir().unwrap();
    let ill = Arc::new(Ill { errno: 0.into(), hits });
    let store = Store::open_on(&config(folder.path(), 1 << 20), Disk::watched(ill.clone())).unwrap();
    let (old, new) = (content(1, 1000), content(2, 1000));
    let held = store.put(&digest(&old), &old).unwrap();
    assert_eq!(store.disk_fault(), None);
    ill.errno.store(errno, Ordering::SeqCst);
    let error = store.put(&digest(&new), &new).unwrap_err();
    assert_eq!(error.disk_fault(), Some(trouble), "{what}: {error}");
    assert_eq!(matches!(error, Error::Full { .. }), trouble == DiskFault::Full, "{what}: {error}");
    assert_eq!(store.disk_fault(), Some(trouble), "{what}");
    assert_eq!(bytes(&store.read(&digest(&old)).unwrap().unwrap()), old, "{what}: what is stored is served");
    ill.errno.store(0, Ordering::SeqCst);
    wait_until("the end of the trouble", || store.disk_fault().is_none());
    assert_eq!(bytes(&store.put(&digest(&new), &new).unwrap()), new, "{what}");
    store.close();
    assert_eq!(bytes(&held), old);
    let store = Store::open(&config(folder.path(), 1 << 20)).unwrap();
    for whole in [&old, &new] {
        assert_eq!(bytes(&store.read(&digest(whole)).unwrap().unwrap()), *whole, "{what}");
    }
}

/// A small file system of its own, where the machine lets us have one.
struct Small(tempfile::TempDir);

impl Small {
    fn mounted(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=700");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).output();
        mount.is_ok_and(|mount| mount.status.success()).then(|| Self(folder))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// Writes until not one byte more goes in.
fn fill(path: &Path) {
    let mut ballast = File::options().create(true).append(true).open(path).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while ballast.write_all(&vec![1; size]).is_ok() {}
    }
}

/// Ends the writers, also when the test fails: their scope would wait for ever.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_file_system_filled_to_the_last_byte_under_load_serves_on_and_recovers() {
    let Some(small) = Small::mounted("16m") else {
        eprintln!("not run: no file system can be mounted here");
        return;
    };
    let ballast = small.0.path().join("ballast");
    let store = Store::open(&config(small.0.path(), 1 << 30)).unwrap();
    let kept = content(1000, 300_000);
    let held = store.put(&digest(&kept), &kept).unwrap();
    let over = AtomicBool::new(false);
    let put = |seed: u64| {
        let whole = content(seed, 20_000 + (seed as usize * 7919) % 200_000);
        (digest(&whole), store.put(&digest(&whole), &whole))
    };
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (over, put, store) = (&over, &put, &store);
            scope.spawn(move || {
                let mut seed = worker * 1_000_000;
                while !over.load(Ordering::SeqCst) {
                    seed += 1;
                    match put(seed) {
                        (name, Ok(blob)) => assert_eq!(digest(&bytes(&blob)), name),
                        (_, Err(error)) => assert!(error.disk_fault() == Some(DiskFault::Full), "{error}: {error:?}"),
                    }
                    if let Some(blob) = store.read(&digest(&content(worker * 1_000_000 + 1, 27_919))).unwrap() {
                        drop(bytes(&blob));
                    }
                }
            });
        }
        let end = AtTheEnd(&over);
        for _ in 0..3 {
            wait_until("a full file system", || {
                fill(&ballast);
                store.disk_fault() == Some(DiskFault::Full)
            });
            assert_eq!(bytes(&held), kept, "what is read stays, and right");
            fs::remove_file(&ballast).unwrap();
            wait_until("its end", || store.disk_fault().is_none());
        }
        drop(end);
    });
    let mut last: Vec<Digest> = Vec::new();
    for seed in 1..=5 {
        // The disk is nearly full: room for it is made meanwhile.
        wait_until("it is stored", || {
            let (name, put) = put(9_000_000 + seed);
            put.map(|_| last.push(name)).is_ok()
        });
    }
    drop(held);
    store.close();
    let store = Store::open(&config(small.0.path(), 1 << 30)).unwrap();
    wait_until("the walk, if there is one", || store.is_settled());
    for name in &last {
        assert_eq!(digest(&bytes(&store.read(name).unwrap().unwrap())), *name, "nothing is lost");
    }
    store.close();
}

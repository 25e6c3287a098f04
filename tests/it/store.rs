//! The store's promises: staging, committing, reading, removing, evicting, and one holder for one folder.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use pullthrough::host::{Percent, Size};
use pullthrough::oci::{Algorithm, Digest};
use pullthrough::store::{Blob, Config, Disk, DiskStep, Error, Store, Witness};

use crate::support::wait_until;

mod catalog;
mod damage;
mod files;
mod many;
mod partial;
mod power;
mod race;
mod trouble;

pub(crate) fn config(folder: &Path, max_size: u64) -> Config {
    Config { dir: folder.join("cache"), max_size: Some(Size(max_size)), min_free: Percent(0) }
}

pub(crate) fn digest(content: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, content)
}

/// `length` bytes that differ with the seed and are not all alike.
pub(crate) fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

pub(crate) fn bytes(blob: &Blob) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(blob.len()).unwrap()];
    let mut at = 0;
    while at < bytes.len() {
        match blob.read_at(at as u64, &mut bytes[at..]).unwrap() {
            0 => break,
            count => at += count,
        }
    }
    bytes.truncate(at);
    bytes
}

pub(crate) fn path_of(root: &Path, digest: &Digest) -> PathBuf {
    root.join("cache/blobs").join(digest.algorithm().name()).join(digest.hex())
}

/// The bytes of all blobs in the folder.
pub(crate) fn lying_in(root: &Path) -> u64 {
    let files = ["sha256", "sha512"].iter().flat_map(|name| fs::read_dir(root.join("cache/blobs").join(name)).unwrap());
    files.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

fn fills(root: &Path) -> usize {
    fs::read_dir(root.join("cache/fills")).unwrap().count()
}

fn open(max_size: u64) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&config(folder.path(), max_size)).unwrap();
    (folder, store)
}

#[test]
fn what_is_staged_is_readable_as_it_grows_and_a_plain_file_once_committed() {
    let (folder, store) = open(1 << 20);
    let whole = content(1, 100_000);
    let name = digest(&whole);
    let staged = Arc::new(store.stage(&name).unwrap());
    staged.write_at(50_000, &whole[50_000..]).unwrap();
    let mut tail = vec![0; 1000];
    assert_eq!(staged.read_at(99_000, &mut tail).unwrap(), 1000);
    assert_eq!(tail, whole[99_000..]);
    assert!(store.read(&name).unwrap().is_none(), "nothing is served before its commit");
    assert_eq!((store.usage().bytes, store.usage().entries), (50_000, 0));
    staged.write_at(0, &whole[..50_000]).unwrap();
    let blob = staged.commit(100_000).unwrap();
    assert_eq!((blob.len(), *blob.digest(), bytes(&blob)), (100_000, name, whole.clone()));
    assert_eq!(bytes(&store.read(&name).unwrap().unwrap()), whole);
    assert_eq!(fs::read(path_of(folder.path(), &name)).unwrap(), whole);
    assert_eq!((store.usage().bytes, store.usage().entries, fills(folder.path())), (100_000, 1, 0));
    assert_eq!(staged.read_at(0, &mut tail).unwrap(), 1000, "followers of the staged file read on");
    assert_eq!(blob.try_read_at(99_500, &mut tail).unwrap(), Some(500), "just written, so in memory");
}

#[test]
fn empty_content_and_sha512_are_blobs_like_any_other() {
    let (folder, store) = open(1 << 20);
    for name in [digest(b""), Digest::of(Algorithm::Sha512, b""), Digest::of(Algorithm::Sha512, b"long")] {
        let text: &[u8] = if name == Digest::of(Algorithm::Sha512, b"long") { b"long" } else { b"" };
        store.put(&name, text).unwrap();
        assert_eq!(bytes(&store.read(&name).unwrap().unwrap()), text);
        assert!(path_of(folder.path(), &name).is_file());
    }
    assert_eq!(store.usage().entries, 3);
}

#[test]
fn a_second_commit_keeps_the_blob_that_is_there() {
    let (folder, store) = open(1 << 20);
    let name = digest(b"twice");
    let (one, two) = (store.stage(&name).unwrap(), store.stage(&name).unwrap());
    one.write_at(0, b"twice").unwrap();
    two.write_at(0, b"twice").unwrap();
    one.commit(5).unwrap();
    let inode = fs::metadata(path_of(folder.path(), &name)).unwrap().ino();
    assert_eq!(bytes(&two.commit(5).unwrap()), b"twice");
    assert_eq!(fs::metadata(path_of(folder.path(), &name)).unwrap().ino(), inode);
    drop((one, two));
    assert_eq!((store.usage().bytes, store.usage().entries, fills(folder.path())), (5, 1, 0));
}

#[test]
fn what_is_abandoned_leaves_nothing() {
    let (folder, store) = open(1 << 20);
    let staged = store.stage(&digest(b"never")).unwrap();
    staged.write_at(0, b"nev").unwrap();
    assert_eq!((store.usage().bytes, fills(folder.path())), (3, 1));
    drop(staged);
    assert_eq!((store.usage().bytes, fills(folder.path())), (0, 0));
}

#[test]
fn a_commit_of_the_wrong_length_changes_nothing_and_a_committed_file_takes_no_more() {
    let (_folder, store) = open(1 << 20);
    let staged = store.stage(&digest(b"abc")).unwrap();
    staged.write_at(0, b"ab").unwrap();
    assert!(matches!(staged.commit(3), Err(Error::Length { expected: 3, found: 2, .. })));
    staged.write_at(2, b"c").unwrap();
    staged.commit(3).unwrap();
    assert!(matches!(staged.write_at(0, b"x"), Err(Error::Sealed { .. })));
    assert!(matches!(staged.commit(3), Err(Error::Sealed { .. })));
    assert_eq!(bytes(&store.read(&digest(b"abc")).unwrap().unwrap()), b"abc");
}

#[test]
fn a_removed_blob_is_gone_and_who_reads_it_reads_on() {
    let (folder, store) = open(1 << 20);
    let name = digest(b"removed");
    let blob = store.put(&name, b"removed").unwrap();
    store.remove(&name).unwrap();
    assert!(store.read(&name).unwrap().is_none());
    assert!(!path_of(folder.path(), &name).exists());
    assert_eq!(bytes(&blob), b"removed");
    assert_eq!((store.usage().bytes, store.usage().entries), (0, 0));
    store.remove(&name).unwrap();
    assert_eq!(store.usage().bytes, 0, "what is gone cannot go again");
    store.put(&name, b"removed").unwrap();
    assert!(store.read(&name).unwrap().is_some());
}

#[test]
fn the_blob_used_longest_ago_goes_first_and_what_is_read_stays() {
    let (_folder, store) = open(1030);
    let blobs: Vec<Vec<u8>> = (0..10).map(|seed| content(seed, 99)).collect();
    let names: Vec<Digest> = blobs.iter().map(|blob| digest(blob)).collect();
    for (name, blob) in names.iter().zip(&blobs) {
        store.put(name, blob).unwrap();
    }
    assert_eq!((store.evict(), store.usage().evictions), (0, 0), "990 bytes are not near the limit of 1030");
    store.catalog().used(&names[0]);
    let held = store.read(&names[1]).unwrap().unwrap();
    let more = content(99, 39);
    store.put(&digest(&more), &more).unwrap();
    wait_until("the eviction in the background", || store.usage().evictions == 1);
    assert_eq!(store.evict(), 0);
    let left: Vec<usize> = (0..10).filter(|n| store.read(&names[*n]).unwrap().is_some()).collect();
    assert_eq!(left, [0, 1, 3, 4, 5, 6, 7, 8, 9], "1029 bytes come down under 968 by the oldest that is free");
    assert_eq!((store.usage().bytes, store.usage().entries, store.usage().evictions), (930, 10, 1));
    assert_eq!(bytes(&held), blobs[1]);
}

#[test]
fn content_larger_than_the_cache_evicts_nothing() {
    let (_folder, store) = open(1000);
    store.put(&digest(b"small"), b"small").unwrap();
    let staged = store.stage(&digest(b"large")).unwrap();
    assert!(matches!(staged.expect(1001), Err(Error::TooLarge { .. })));
    assert!(staged.expect(1000).is_ok());
    assert!(matches!(staged.write_at(901, &[0; 100]), Err(Error::TooLarge { .. })));
    assert!(store.read(&digest(b"small")).unwrap().is_some());
    assert_eq!((store.usage().bytes, store.usage().evictions), (5, 0));
}

#[test]
fn when_all_that_could_go_is_being_read_more_is_refused() {
    let (_folder, store) = open(1000);
    let whole = content(1, 1000);
    let held = store.put(&digest(&whole), &whole).unwrap();
    let staged = store.stage(&digest(b"more")).unwrap();
    assert!(matches!(staged.write_at(0, &[1; 100]), Err(Error::Full { .. })), "the limit is a bound");
    assert_eq!(store.usage().bytes, 1000);
    drop(held);
    staged.write_at(0, &[1; 100]).unwrap();
    assert!(store.read(&digest(&whole)).unwrap().is_none());
    assert_eq!(store.usage().bytes, 100);
}

/// Says that there is no space, for the next so many writes.
#[derive(Default)]
struct Crammed(AtomicUsize);

impl Witness for Crammed {
    fn before(&self, step: &DiskStep<'_>) -> io::Result<()> {
        let is_write = matches!(step, DiskStep::Write(path, ..) if path.to_string_lossy().contains("/fills/"));
        let less = |left: usize| left.checked_sub(1);
        if is_write && self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

#[test]
fn a_full_disk_makes_room_at_once_and_where_there_is_none_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let crammed = Arc::new(Crammed::default());
    let store = Store::open_on(&config(folder.path(), 1 << 20), Disk::watched(crammed.clone())).unwrap();
    store.put(&digest(b"old"), b"old").unwrap();
    let staged = store.stage(&digest(b"new")).unwrap();
    crammed.0.store(1, Ordering::SeqCst);
    staged.write_at(0, b"new").unwrap();
    assert!(store.read(&digest(b"old")).unwrap().is_none(), "it made room");
    crammed.0.store(1, Ordering::SeqCst);
    assert!(matches!(staged.write_at(3, b"er"), Err(Error::Full { .. })), "nothing is left to go");
    let mut read = [0; 8];
    assert_eq!((staged.read_at(0, &mut read).unwrap(), &read[..3]), (3, &b"new"[..]));
    assert_eq!(bytes(&staged.commit(3).unwrap()), b"new", "and it recovers without a restart");
    assert_eq!(store.usage().bytes, 3);
}

/// Fails one kind of sync, once.
struct Failing(AtomicUsize, fn(&DiskStep<'_>) -> bool);

impl Witness for Failing {
    fn before(&self, step: &DiskStep<'_>) -> io::Result<()> {
        let fails = (self.1)(step) && self.0.fetch_add(1, Ordering::SeqCst) == 0;
        if fails { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
}

#[test]
fn after_a_failed_sync_a_commit_is_never_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let fails =
        |step: &DiskStep<'_>| matches!(step, DiskStep::SyncFile(path) if path.to_string_lossy().contains("/fills/"));
    let disk = Disk::watched(Arc::new(Failing(AtomicUsize::new(0), fails)));
    let store = Store::open_on(&config(folder.path(), 1 << 20), disk).unwrap();
    let staged = store.stage(&digest(b"abc")).unwrap();
    staged.write_at(0, b"abc").unwrap();
    assert!(matches!(staged.commit(3), Err(Error::Io { .. })));
    assert!(matches!(staged.commit(3), Err(Error::Sealed { .. })), "a second fsync would lie");
    assert!(store.read(&digest(b"abc")).unwrap().is_none());
    drop(staged);
    assert_eq!(store.usage().bytes, 0);
    // Behind, the store may just be trying with a file of its own there whether the disk is well again.
    wait_until("its file is gone", || fills(folder.path()) == 0);
    store.put(&digest(b"abc"), b"abc").unwrap();
}

/// Reads, in the instant in which a blob's name is about to go, that blob and another one.
#[derive(Default)]
struct Late {
    store: OnceLock<Store>,
    going: Mutex<Vec<Digest>>,
    other: Mutex<Option<(Digest, Blob)>>,
    served: AtomicUsize,
}

impl Witness for Late {
    fn before(&self, step: &DiskStep<'_>) -> io::Result<()> {
        let (DiskStep::Unlink(path), Some(store)) = (step, self.store.get()) else { return Ok(()) };
        let going = self.going.lock().unwrap();
        if let Some(at) = going.iter().position(|name| path.ends_with(name.hex())) {
            self.served.fetch_add(usize::from(store.read(&going[at]).unwrap().is_some()), Ordering::SeqCst);
            let name = going[(at + 1) % going.len()];
            self.other.lock().unwrap().get_or_insert_with(|| (name, store.read(&name).unwrap().unwrap()));
        }
        Ok(())
    }
}

#[test]
fn a_blob_that_gets_a_reader_at_the_last_moment_stays_and_one_that_is_going_gets_none() {
    let folder = tempfile::tempdir().unwrap();
    let late = Arc::new(Late::default());
    let store = Store::open_on(&config(folder.path(), 1000), Disk::watched(late.clone())).unwrap();
    for seed in 0..2 {
        let blob = content(seed, 450);
        late.going.lock().unwrap().push(digest(&blob));
        store.put(&digest(&blob), &blob).unwrap();
    }
    late.store.set(store.clone()).unwrap_or_else(|_| panic!("set twice"));
    let more = content(2, 550);
    store.put(&digest(&more), &more).unwrap();
    wait_until("the eviction", || store.evict() == 0 && store.usage().evictions > 0);
    let (kept, blob) = late.other.lock().unwrap().take().unwrap();
    assert_eq!(late.served.load(Ordering::SeqCst), 0, "what is going has no new readers");
    assert!(path_of(folder.path(), &kept).exists(), "what is read stays, though it was chosen");
    assert_eq!(bytes(&blob), content(1, 450));
    store.close();
}

/// Whether two have the lock's file open.
fn waits_for_lock(root: &Path) -> bool {
    let lock = root.join("cache/lock").canonicalize().unwrap();
    let files = fs::read_dir("/proc/self/fd").unwrap();
    files.filter_map(|file| fs::read_link(file.ok()?.path()).ok()).filter(|target| *target == lock).count() > 1
}

#[test]
fn one_folder_has_one_holder() {
    let (folder, store) = open(1000);
    let Err(error) = Store::open(&config(folder.path(), 1000)) else { panic!("two hold the folder") };
    assert!(matches!(error, Error::Held { .. }));
    assert!(error.to_string().contains("another pullthrough"), "{error}");
    let next = std::thread::scope(|scope| {
        let next = scope.spawn(|| Store::open(&config(folder.path(), 1000)));
        wait_until("somebody waits for the lock", || waits_for_lock(folder.path()));
        store.close();
        next.join().unwrap()
    });
    next.unwrap_or_else(|error| panic!("who waits a moment gets it: {error}")).close();
    assert!(matches!(store.stage(&digest(b"")), Err(Error::Closed)));
    assert!(Store::open(&config(folder.path(), 1000)).is_ok());
}

#[test]
fn a_restart_finds_what_was_there_and_its_count() {
    let (folder, store) = open(1 << 20);
    store.put(&digest(b"one"), b"one").unwrap();
    let open_blob = store.put(&digest(b"three"), b"three").unwrap();
    store.close();
    let wal = fs::metadata(folder.path().join("cache/catalog.sqlite-wal")).map_or(0, |metadata| metadata.len());
    assert_eq!(wal, 0, "what the catalog knows is in its file before the folder is marked clean");
    assert!(!folder.path().join("cache/running").exists());
    drop(store);
    let store = Store::open(&config(folder.path(), 1 << 20)).unwrap();
    assert!(store.is_settled(), "after a clean end nothing is walked over");
    assert_eq!((store.usage().bytes, store.usage().entries), (8, 2));
    assert_eq!(bytes(&store.read(&digest(b"one")).unwrap().unwrap()), b"one");
    assert_eq!(bytes(&open_blob), b"three", "an open blob outlives the store");
}

#[test]
fn a_lowered_limit_is_kept_after_a_restart() {
    let (folder, store) = open(1000);
    for seed in 0..10 {
        let blob = content(seed, 100);
        store.put(&digest(&blob), &blob).unwrap();
    }
    drop(store);
    let store = Store::open(&config(folder.path(), 500)).unwrap();
    wait_until("the eviction", || store.usage().bytes <= 470);
    store.close();
    assert_eq!(lying_in(folder.path()), store.usage().bytes);
}

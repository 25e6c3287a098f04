//! Unfinished fills: remembered, parked, continued by a later process, and gone when they should be.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pullthrough::store::{Error, Store};

use crate::store::{bytes, config, content, digest};
use crate::support::wait_until;

const ORIGIN: &str = "quay.io";

fn open(root: &Path) -> Store {
    Store::open(&config(root, 1 << 20)).unwrap()
}

fn fills(root: &Path) -> Vec<PathBuf> {
    fs::read_dir(root.join("cache/fills")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Copies what a killed process would leave.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Stages the first and the last thousand bytes of `whole`.
fn begin(store: &Store, whole: &[u8]) -> pullthrough::store::Staged {
    let staged = store.stage_from(&digest(whole), ORIGIN).unwrap();
    let tail = whole.len() - 1000;
    staged.write_at(0, &whole[..1000]).unwrap();
    staged.write_at(tail as u64, &whole[tail..]).unwrap();
    let extents = [(tail as u64, whole.len() as u64), (0, 500), (500, 1000)];
    staged.remember(&extents, Some(whole.len() as u64), Some("\"tag\"")).unwrap();
    staged
}

/// Finishes what `begin` began.
fn finish(store: &Store, whole: &[u8]) {
    let partial = store.resume(&digest(whole), ORIGIN).unwrap().expect("the fill was parked");
    let length = whole.len() as u64;
    assert_eq!(partial.extents, [(0, 1000), (length - 1000, length)]);
    assert_eq!((partial.total, partial.validator.as_deref()), (Some(length), Some("\"tag\"")));
    assert!(store.resume(&digest(whole), ORIGIN).unwrap().is_none(), "who takes it has it alone");
    partial.staged.write_at(1000, &whole[1000..whole.len() - 1000]).unwrap();
    assert_eq!(bytes(&partial.staged.commit(length).unwrap()), whole);
}

#[test]
fn a_remembered_fill_is_continued_in_this_process_and_only_for_its_registry() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let whole = content(1, 5000);
    drop(begin(&store, &whole));
    assert_eq!(store.usage().bytes, 2000, "what is parked is counted");
    assert!(store.resume(&digest(&whole), "docker.io").unwrap().is_none());
    assert!(store.resume(&digest(b"other"), ORIGIN).unwrap().is_none());
    finish(&store, &whole);
    assert_eq!((store.usage().bytes, fills(folder.path()).len()), (5000, 0));
}

#[test]
fn a_remembered_fill_is_continued_after_a_restart_and_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let whole = content(2, 5000);
    let staged = begin(&store, &whole);
    staged.write_at(1000, &[0; 100]).unwrap(); // landed, and not remembered
    let killed = tempfile::tempdir().unwrap();
    copy(&folder.path().join("cache"), &killed.path().join("cache"));
    finish(&open(killed.path()), &whole);
    store.close();
    drop((staged, store));
    let store = open(folder.path());
    assert!(store.usage().bytes >= 2000, "what an earlier process left is counted");
    assert!(store.stage(&digest(&whole)).is_ok(), "its name is not taken twice");
    finish(&store, &whole);
}

#[test]
fn what_was_abandoned_committed_or_never_remembered_is_not_continued() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let whole = content(3, 5000);
    let staged = begin(&store, &whole);
    staged.abandon();
    let mut read = [0; 10];
    assert_eq!(staged.read_at(0, &mut read).unwrap(), 10, "who reads it reads on");
    assert!(matches!(staged.commit(5000), Err(Error::Sealed { .. })));
    assert!(matches!(staged.remember(&[(0, 10)], None, None), Err(Error::Sealed { .. })));
    assert_eq!(fills(folder.path()).len(), 1, "its map is gone at once, so that no kill brings it back");
    drop(staged);
    let staged = store.stage_from(&digest(&whole), ORIGIN).unwrap();
    staged.write_at(0, &whole).unwrap();
    staged.remember(&[], None, None).unwrap();
    drop(staged);
    assert!(store.resume(&digest(&whole), ORIGIN).unwrap().is_none());
    let staged = begin(&store, &whole);
    staged.write_at(0, &whole).unwrap();
    staged.commit(5000).unwrap();
    drop(staged);
    assert!(store.resume(&digest(&whole), ORIGIN).unwrap().is_none());
    assert_eq!(fills(folder.path()).len(), 0);
}

#[test]
fn of_two_fills_of_one_content_the_one_with_more_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let whole = content(4, 5000);
    let more = begin(&store, &whole);
    let less = store.stage_from(&digest(&whole), ORIGIN).unwrap();
    less.write_at(0, &whole[..10]).unwrap();
    less.remember(&[(0, 10)], None, None).unwrap();
    drop(more);
    drop(less);
    assert_eq!((store.usage().bytes, fills(folder.path()).len()), (2000, 2));
    finish(&store, &whole);
}

#[test]
fn a_map_that_is_damaged_or_old_or_says_too_much_is_dropped_with_its_file() {
    type Harm = fn(&Path);
    let old = |map: &Path| {
        let file = fs::File::options().write(true).open(map).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(8 * 24 * 3600)).unwrap();
    };
    let damaged = |map: &Path| {
        let text = fs::read_to_string(map).unwrap();
        fs::write(map, text.replace("[[0,", "[[1,")).unwrap();
    };
    let short = |map: &Path| {
        fs::File::options().write(true).open(map.with_extension("")).unwrap().set_len(4999).unwrap();
    };
    let gone = |map: &Path| fs::remove_file(map.with_extension("")).unwrap();
    let harms: [(&str, Harm); 4] = [("old", old), ("damaged", damaged), ("short", short), ("gone", gone)];
    for (what, harm) in harms {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let whole = content(5, 5000);
        drop(begin(&store, &whole));
        drop(store);
        let files = fills(folder.path());
        harm(files.iter().find(|path| path.extension().is_some_and(|end| end == "map")).unwrap());
        let store = open(folder.path());
        assert!(store.resume(&digest(&whole), ORIGIN).unwrap().is_none(), "{what}");
        assert_eq!((fills(folder.path()).len(), store.usage().bytes), (0, 0), "{what}");
    }
}

#[test]
fn parked_fills_go_first_when_room_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&config(folder.path(), 5000)).unwrap();
    let (kept, whole) = (content(6, 1000), content(7, 4000));
    store.put(&digest(&kept), &kept).unwrap();
    drop(begin(&store, &whole));
    let more = content(8, 2100);
    store.put(&digest(&more), &more).unwrap();
    wait_until("the eviction", || store.usage().bytes == 3100);
    assert!(store.resume(&digest(&whole), ORIGIN).unwrap().is_none());
    assert!(store.read(&digest(&kept)).unwrap().is_some());
    assert_eq!(store.usage().evictions, 0, "no blob had to go");
}

//! How many files the store has open: one for each blob that is read, however many read it, and no more than it may.

use std::sync::Arc;

use pullthrough::store::{Error, Store};

use crate::store::{bytes, config, content, digest};

fn open() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&config(folder.path(), 1 << 30)).unwrap();
    (folder, store)
}

#[test]
fn all_readers_of_a_blob_share_one_file() {
    let (_folder, store) = open();
    let whole = content(1, 300_000);
    let name = digest(&whole);
    drop(store.put(&name, &whole).unwrap());
    assert_eq!(store.files().used(), 0);
    let readers: Vec<_> = (0..1000).map(|_| store.read(&name).unwrap().unwrap()).collect();
    assert_eq!(store.files().used(), 1);
    assert_eq!(bytes(&readers[999]), whole);
    drop(readers);
    assert_eq!(store.files().used(), 0, "the last one closes it");
}

#[test]
fn a_blob_that_was_removed_and_came_back_is_another_file_to_new_readers() {
    let (_folder, store) = open();
    let whole = content(1, 300_000);
    let name = digest(&whole);
    let before = store.put(&name, &whole).unwrap();
    store.remove(&name).unwrap();
    assert!(store.read(&name).unwrap().is_none(), "though it is open");
    drop(store.put(&name, &whole).unwrap());
    let after = store.read(&name).unwrap().unwrap();
    assert_eq!((bytes(&before), bytes(&after)), (whole.clone(), whole));
    assert_eq!(store.files().used(), 2);
}

#[test]
fn no_more_files_are_open_than_may_be_and_what_is_open_is_shared_all_the_same() {
    let (_folder, store) = open();
    let all: Vec<_> = (0..3).map(|seed| content(seed, 10_000)).collect();
    let names: Vec<_> = all.iter().map(|whole| digest(whole)).collect();
    all.iter().zip(&names).for_each(|(whole, name)| drop(store.put(name, whole).unwrap()));
    store.files().set(2);
    let (one, two) = (store.read(&names[0]).unwrap(), store.read(&names[1]).unwrap());
    let refused = store.read(&names[2]).unwrap_err();
    assert!(matches!(refused, Error::Files { limit: 2 }) && refused.is_exhausted());
    assert!(matches!(store.stage(&names[2]), Err(Error::Files { .. })));
    assert!(store.read(&names[0]).unwrap().is_some(), "it is open");
    assert!(store.probe(&names[2]).is_ok(), "readiness is still told");
    drop(one);
    drop(two);
    assert!(store.read(&names[2]).unwrap().is_some());
}

#[test]
fn a_download_that_comes_to_its_end_is_kept_also_where_no_more_files_may_be_open() {
    let (_folder, store) = open();
    let whole = content(1, 10_000);
    let name = digest(&whole);
    let staged = Arc::new(store.stage(&name).unwrap());
    store.files().set(1);
    staged.write_at(0, &whole).unwrap();
    assert_eq!(bytes(&staged.commit(10_000).unwrap()), whole);
}

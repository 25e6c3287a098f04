//! Damage at rest: no flipped byte is ever read, the blob is dropped, and the next copy is served.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use pullthrough::oci::Digest;
use pullthrough::store::{Blob, Checksums, Damaged, ScrubPace, Store, Verification};
use rusqlite::Connection;

use crate::store::{bytes, config, content, digest, path_of};
use crate::support::wait_until;

const GRANULE: usize = 64 << 10;

fn open(root: &Path) -> Store {
    Store::open(&config(root, 1 << 30)).unwrap()
}

fn flip(root: &Path, digest: &Digest, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path_of(root, digest)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// Reads until the end or the damage, in pieces of so many bytes.
fn read_up_to_damage(blob: &Blob, from: u64, piece: usize) -> (Vec<u8>, Option<Damaged>) {
    let (mut all, mut buffer) = (Vec::new(), vec![0; piece]);
    loop {
        let at = from + all.len() as u64;
        let read =
            blob.try_read_at(at, &mut buffer).and_then(|read| read.map_or_else(|| blob.read_at(at, &mut buffer), Ok));
        match read {
            Ok(0) => return (all, None),
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) => {
                let damaged = Damaged::of(&error).expect("another error").clone();
                assert_eq!(damaged.at, from + all.len() as u64);
                return (all, Some(damaged));
            }
        }
    }
}

#[test]
fn every_position_and_piece_reads_right() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for length in [1, GRANULE - 1, GRANULE, GRANULE + 1, 5 * GRANULE + 77] {
        let whole = content(length as u64, length);
        store.put(&digest(&whole), &whole).unwrap();
        let blob = store.read(&digest(&whole)).unwrap().unwrap();
        for from in [0, 1, length / 2, length - 1, GRANULE.min(length), length] {
            for piece in [1000, GRANULE - 1, GRANULE, 4 * GRANULE, 1 << 20] {
                let (read, damage) = read_up_to_damage(&blob, from as u64, piece);
                assert!(read == whole[from..] && damage.is_none(), "{length} from {from} by {piece}");
            }
        }
        assert_eq!(blob.read_at(length as u64 + 5, &mut [0; 10]).unwrap(), 0);
    }
}

#[test]
fn a_bit_flipped_in_each_of_100_blobs_is_never_read_and_the_blob_is_dropped_and_taken_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let blobs: Vec<Vec<u8>> = (0..100).map(|seed| content(seed, 2000 + seed as usize * 3001)).collect();
    for whole in &blobs {
        store.put(&digest(whole), whole).unwrap();
    }
    for (seed, whole) in blobs.iter().enumerate() {
        let name = digest(whole);
        let blob = store.read(&name).unwrap().unwrap();
        let at = whole.len() * (seed % 10) / 10;
        flip(folder.path(), &name, at as u64);
        let (read, damage) = read_up_to_damage(&blob, 0, 4 * GRANULE);
        assert_eq!(damage.unwrap().digest, name);
        assert_eq!(read.len(), at / GRANULE * GRANULE, "what lies before the damaged granule is good");
        assert!(read == whole[..read.len()]);
        assert!(store.read(&name).unwrap().is_none(), "from that moment on nobody finds it");
    }
    assert_eq!(store.usage().damaged, 100);
    wait_until("the blobs' end", || store.usage().entries == 0);
    for whole in &blobs {
        assert!(!path_of(folder.path(), &digest(whole)).exists());
        store.put(&digest(whole), whole).unwrap();
        assert!(bytes(&store.read(&digest(whole)).unwrap().unwrap()) == *whole);
    }
    assert_eq!((store.usage().entries, store.usage().damaged), (100, 100));
}

#[test]
fn a_copy_that_comes_before_the_damaged_one_is_dropped_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let whole = content(1, 3 * GRANULE);
    for _ in 0..20 {
        store.put(&digest(&whole), &whole).unwrap();
        let blob = store.read(&digest(&whole)).unwrap().unwrap();
        flip(folder.path(), &digest(&whole), 5);
        assert!(read_up_to_damage(&blob, 0, GRANULE).1.is_some());
        store.put(&digest(&whole), &whole).unwrap();
        assert!(read_up_to_damage(&blob, 0, GRANULE).1.is_some(), "the old file is as it was");
        assert!(bytes(&store.read(&digest(&whole)).unwrap().unwrap()) == whole);
    }
}

#[test]
fn a_truncated_blob_ends_in_damage_and_not_early() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let whole = content(1, 3 * GRANULE);
    store.put(&digest(&whole), &whole).unwrap();
    let blob = store.read(&digest(&whole)).unwrap().unwrap();
    fs::File::options().write(true).open(path_of(folder.path(), &digest(&whole))).unwrap().set_len(70_000).unwrap();
    let (read, damage) = read_up_to_damage(&blob, 0, 4 * GRANULE);
    assert_eq!((read.len(), damage.unwrap().at), (GRANULE, GRANULE as u64));
}

#[test]
fn verify_goes_by_the_digest_alone_and_drops_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (good, bad) = (content(1, 200_000), content(2, 200_000));
    store.put(&digest(&good), &good).unwrap();
    store.put(&digest(&bad), &bad).unwrap();
    flip(folder.path(), &digest(&bad), 199_999);
    assert_eq!(store.verify(&digest(&good)).unwrap(), Verification::Good);
    assert_eq!(store.verify(&digest(&bad)).unwrap(), Verification::Damaged);
    assert_eq!(store.verify(&digest(&bad)).unwrap(), Verification::Absent);
    assert_eq!((store.usage().damaged, store.usage().entries), (1, 1));
}

#[test]
fn checksums_that_are_lost_or_wrong_cost_a_reading_and_not_the_blob() {
    let folder = tempfile::tempdir().unwrap();
    let whole = content(1, 5 << 20);
    let store = open(folder.path());
    store.put(&digest(&whole), &whole).unwrap();
    for harm in ["DELETE FROM checksums", "UPDATE checksums SET crc32c = zeroblob(length(crc32c))"] {
        let store = {
            store.close();
            let catalog = Connection::open(folder.path().join("cache/catalog.sqlite")).unwrap();
            assert_eq!(catalog.execute(harm, []).unwrap(), 1);
            drop(catalog);
            open(folder.path())
        };
        let blob = store.read(&digest(&whole)).unwrap().unwrap();
        let (read, _) = read_up_to_damage(&blob, 0, 4 * GRANULE);
        assert!(read == whole[..read.len()]);
        wait_until("the checksums", || {
            let found = store.read(&digest(&whole)).unwrap();
            found.is_some_and(|blob| read_up_to_damage(&blob, 0, 4 * GRANULE) == (whole.clone(), None))
        });
        store.close();
    }
}

#[test]
fn checksums_of_the_digest_pass_are_those_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let whole = content(1, 300_000);
    let staged = store.stage(&digest(&whole)).unwrap();
    staged.write_at(0, &whole).unwrap();
    let mut checksums = Checksums::new();
    whole.chunks(777).for_each(|some| checksums.update(some));
    assert!(bytes(&staged.commit_with(checksums).unwrap()) == whole);
}

#[test]
fn the_scrub_finds_what_nobody_reads_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let blobs: Vec<Vec<u8>> = (0..20).map(|seed| content(seed, 100_000)).collect();
    for whole in &blobs {
        store.put(&digest(whole), whole).unwrap();
    }
    flip(folder.path(), &digest(&blobs[3]), 7);
    flip(folder.path(), &digest(&blobs[17]), 70_000);
    let rest = std::time::Duration::from_secs(3600);
    store.scrub(Some(ScrubPace { rate: 1 << 30, rest }));
    wait_until("the scrub", || store.usage().damaged == 2);
    wait_until("the end of the pass", || {
        let catalog = Connection::open(folder.path().join("cache/catalog.sqlite")).unwrap();
        catalog.query_row("SELECT scrub_ended > 0 FROM totals", [], |row| row.get(0)).unwrap()
    });
    assert_eq!(store.usage().entries, 18);
    store.close();
    flip(folder.path(), &digest(&blobs[2]), 7);
    flip(folder.path(), &digest(&blobs[9]), 7);
    let catalog = Connection::open(folder.path().join("cache/catalog.sqlite")).unwrap();
    catalog.execute("UPDATE totals SET scrubbed = 5, scrub_ended = 0", []).unwrap();
    drop(catalog);
    let store = open(folder.path());
    store.scrub(Some(ScrubPace { rate: 1 << 30, rest }));
    wait_until("the scrub", || store.usage().damaged == 1);
    assert!(store.read(&digest(&blobs[9])).unwrap().is_none(), "it went on behind the fifth");
}

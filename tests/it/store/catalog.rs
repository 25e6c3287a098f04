//! The catalog's promises: what is noted is found, what is gone is forgotten, what is lost is made anew.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use pullthrough::oci::{Accept, Digest, Repository, Tag};
use pullthrough::store::{Content, Error, Learned, Link, Ping, Store, TagEntry};

use crate::store::{bytes, config, content, digest, lying_in, path_of};
use crate::support::{eventually, wait_until};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn open() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&config(folder.path(), 1 << 30)).unwrap();
    (folder, store)
}

fn repository(name: &str) -> Repository {
    name.parse().unwrap()
}

/// The time as the catalog keeps it: microseconds.
fn ago(past: Duration) -> SystemTime {
    let since = (SystemTime::now() - past).duration_since(UNIX_EPOCH).unwrap();
    UNIX_EPOCH + Duration::from_micros(u64::try_from(since.as_micros()).unwrap())
}

fn link(digest: Digest) -> Link {
    Link {
        registry: "quay.io".into(),
        repository: repository("org/app"),
        digest,
        content: Content::Blob,
        media_type: None,
        learned: Learned::Anonymously,
        proven: ago(Duration::ZERO),
    }
}

#[tokio::test]
async fn a_link_holds_for_its_place_its_content_and_its_way_of_learning() {
    let (_folder, store) = open();
    let catalog = store.catalog();
    let name = digest(b"x");
    let one = Link { proven: ago(DAY), media_type: Some("a/b".into()), ..link(name) };
    let manifest = Link { content: Content::Manifest, ..link(name) };
    let private = Link { learned: Learned::WithCredentials, ..link(name) };
    for link in [&one, &manifest, &private] {
        catalog.record_link(link.clone());
    }
    let renewed = Link { proven: ago(Duration::ZERO), ..one.clone() };
    catalog.record_link(Link { media_type: None, ..renewed.clone() });
    catalog.record_link(one);
    let found = catalog.links("quay.io", &repository("org/app"), &name).await.unwrap();
    assert_eq!(found.len(), 3);
    for link in [renewed, manifest, private] {
        assert!(found.contains(&link), "{link:?} in {found:?}");
    }
    for (registry, place) in [("docker.io", "org/app"), ("quay.io", "org/other"), ("quay.io", "org")] {
        assert_eq!(catalog.links(registry, &repository(place), &name).await.unwrap(), [], "{registry} {place}");
    }
    assert_eq!(catalog.links("quay.io", &repository("org/app"), &digest(b"y")).await.unwrap(), []);
}

#[tokio::test]
async fn a_link_dies_after_a_week_without_proof() {
    let (_folder, store) = open();
    let place = repository("org/app");
    for (age, is_there) in [(DAY * 6, true), (DAY * 8, false)] {
        let name = digest(&age.as_secs().to_le_bytes());
        store.catalog().record_link(Link { proven: ago(age), ..link(name) });
        assert_eq!(store.catalog().links("quay.io", &place, &name).await.unwrap().len() == 1, is_there, "{age:?}");
    }
    let name = digest(b"future");
    store.catalog().record_link(Link { proven: SystemTime::now() + DAY * 1000, ..link(name) });
    let found = store.catalog().links("quay.io", &place, &name).await.unwrap();
    assert!(found[0].proven <= SystemTime::now(), "a clock that was ahead makes no link immortal");
}

#[tokio::test]
async fn links_die_with_their_content() {
    let (_folder, store) = open();
    let place = repository("org/app");
    let name = digest(b"content");
    store.put(&name, b"content").unwrap();
    store.catalog().record_link(link(name));
    assert_eq!(store.catalog().links("quay.io", &place, &name).await.unwrap().len(), 1);
    store.remove(&name).unwrap();
    assert_eq!(store.catalog().links("quay.io", &place, &name).await.unwrap(), []);
}

#[tokio::test]
async fn links_die_with_an_evicted_blob() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&config(folder.path(), 1000)).unwrap();
    let old = content(1, 600);
    store.put(&digest(&old), &old).unwrap();
    store.catalog().record_link(link(digest(&old)));
    let new = content(2, 600);
    store.put(&digest(&new), &new).unwrap();
    eventually("the eviction", || store.usage().evictions == 1).await;
    assert_eq!(store.catalog().links("quay.io", &repository("org/app"), &digest(&old)).await.unwrap(), []);
}

#[tokio::test]
async fn a_withdrawn_public_mark_is_recorded_however_busy_the_catalog_is() {
    let (folder, store) = open();
    let app = repository("org/app");
    store.catalog().record_public("quay.io", &app, Some(ago(Duration::ZERO)));
    store.catalog().flush().await;
    let other = rusqlite::Connection::open(folder.path().join("cache/catalog.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The first note makes the thread wait for the file, the others fill its queue.
    let is_full = || store.catalog().public("quay.io", &app).now_or_never().is_some();
    let ping = || Ping { registry: "docker.io".into(), status: 200, headers: Vec::new(), seen: ago(DAY) };
    while !is_full() {
        (0..100).for_each(|_| store.catalog().record_ping(ping()));
    }
    store.catalog().record_public("quay.io", &app, None);
    store.catalog().record_public("quay.io", &repository("org/other"), Some(ago(Duration::ZERO))); // this one may be lost
    other.execute_batch("ROLLBACK").unwrap();
    drop(store);
    let store = Store::open(&config(folder.path(), 1 << 30)).unwrap();
    assert_eq!(store.catalog().public("quay.io", &app).await.unwrap(), None);
}

#[tokio::test]
async fn a_tag_is_kept_by_class_and_way_of_learning_and_its_past_is_remembered() {
    let (folder, store) = open();
    let (place, tag) = (repository("org/app"), "1.0".parse::<Tag>().unwrap());
    let entry = |content: &[u8], age, accept, learned| TagEntry {
        registry: "quay.io".into(),
        repository: place.clone(),
        tag: tag.clone(),
        accept: Accept::parse([accept]),
        digest: digest(content),
        media_type: "application/vnd.oci.image.index.v1+json".into(),
        size: u64::MAX,
        checked: ago(age),
        learned,
    };
    let index = "application/vnd.oci.image.index.v1+json";
    let old = entry(b"old", DAY, "*/*", Learned::Anonymously);
    let new = entry(b"new", Duration::ZERO, "*/*", Learned::Anonymously);
    let other = entry(b"other", DAY * 2, index, Learned::Anonymously);
    let private = entry(b"private", DAY * 3, "*/*", Learned::WithCredentials);
    for entry in [&old, &new, &other, &private] {
        store.catalog().record_tag(entry.clone());
    }
    let find = async |store: &Store| store.catalog().tags("quay.io", &place, &tag).await.unwrap();
    let found = find(&store).await;
    assert_eq!(found.len(), 3);
    for entry in [&new, &other, &private] {
        assert!(found.contains(entry), "{entry:?}");
    }
    assert_eq!(store.catalog().tags("docker.io", &place, &tag).await.unwrap(), []);
    drop(store);
    let store = Store::open(&config(folder.path(), 1 << 30)).unwrap();
    assert_eq!(find(&store).await.len(), 3, "a restart keeps them");
    store.catalog().forget_tag("quay.io", &place, &tag, None);
    assert_eq!(find(&store).await, []);
    let past = store.catalog().tag_history("quay.io", &place, &tag).await.unwrap();
    let past: Vec<Digest> = past.into_iter().map(|(digest, ..)| digest).collect();
    assert_eq!(past, [new.digest, old.digest, other.digest, private.digest]);
}

#[tokio::test]
async fn the_last_answer_of_a_registry_is_kept() {
    let (folder, store) = open();
    let seen = ago(DAY);
    let ping = |status, name: &str| Ping {
        registry: Arc::from("quay.io"),
        status,
        headers: vec![(name.into(), "a \"b\", c".into()), (name.into(), String::new())],
        seen,
    };
    assert_eq!(store.catalog().ping("quay.io").await.unwrap(), None);
    store.catalog().record_ping(ping(200, "x"));
    store.catalog().record_ping(ping(401, "www-authenticate"));
    drop(store);
    let store = Store::open(&config(folder.path(), 1 << 30)).unwrap();
    assert_eq!(store.catalog().ping("quay.io").await.unwrap(), Some(ping(401, "www-authenticate")));
}

#[tokio::test]
async fn a_lost_catalog_is_made_anew_from_the_blobs_without_links() {
    let (folder, store) = open();
    let large = content(1, 3 << 20);
    store.put(&digest(b"small"), b"small").unwrap();
    store.put(&digest(&large), &large).unwrap();
    store.catalog().record_link(link(digest(b"small")));
    let before = store.usage();
    drop(store);
    fs::write(folder.path().join("cache/catalog.sqlite"), content(2, 100_000)).unwrap();
    let store = Store::open(&config(folder.path(), 1 << 30)).unwrap();
    assert_eq!(bytes(&store.find(&digest(&large)).await.unwrap().unwrap()), large);
    assert_eq!(bytes(&store.read(&digest(b"small")).unwrap().unwrap()), b"small");
    eventually("the walk", || store.is_settled()).await;
    store.catalog().flush().await;
    assert_eq!((store.usage().bytes, store.usage().entries), (before.bytes, before.entries));
    assert_eq!(store.catalog().links("quay.io", &repository("org/app"), &digest(b"small")).await.unwrap(), []);
    assert!(folder.path().join("cache/catalog.damaged.sqlite").exists());
}

#[tokio::test]
async fn a_blob_damaged_before_the_catalog_was_lost_is_never_served() {
    let (folder, store) = open();
    let (small, large) = (content(1, 1000), content(2, 3 << 20));
    for whole in [&small, &large] {
        store.put(&digest(whole), whole).unwrap();
        let mut damaged = whole.clone();
        damaged[500] ^= 1;
        fs::write(path_of(folder.path(), &digest(whole)), damaged).unwrap();
    }
    drop(store);
    fs::remove_file(folder.path().join("cache/catalog.sqlite")).unwrap();
    let store = Store::open(&config(folder.path(), 1 << 30)).unwrap();
    eventually("the walk", || store.is_settled()).await;
    for whole in [&small, &large] {
        assert!(store.find(&digest(whole)).await.unwrap().is_none());
        assert!(!path_of(folder.path(), &digest(whole)).exists());
    }
    store.catalog().flush().await;
    assert_eq!((store.usage().bytes, store.usage().entries), (0, 0));
}

#[tokio::test]
async fn a_catalog_damaged_while_running_is_made_anew_and_filled() {
    let (folder, store) = open();
    store.put(&digest(b"content"), b"content").unwrap();
    store.catalog().flush().await;
    let other = rusqlite::Connection::open(folder.path().join("cache/catalog.sqlite")).unwrap();
    other.execute_batch("PRAGMA foreign_keys = OFF; DROP TABLE links; DROP TABLE places;").unwrap();
    drop(other);
    let (place, name) = (repository("org/app"), digest(b"content"));
    assert!(store.catalog().links("quay.io", &place, &name).await.is_err());
    store.catalog().record_link(link(name));
    assert_eq!(store.catalog().links("quay.io", &place, &name).await.unwrap().len(), 1);
    eventually("the walk", || store.is_settled()).await;
    assert_eq!((store.usage().bytes, store.usage().entries), (7, 1));
    assert_eq!(bytes(&store.read(&name).unwrap().unwrap()), b"content");
}

#[tokio::test]
async fn a_row_that_only_eviction_reads_and_cannot_has_the_catalog_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&config(folder.path(), 10_000)).unwrap();
    let (old, new) = (content(1, 6000), content(2, 6000));
    store.put(&digest(&old), &old).unwrap();
    store.catalog().flush().await;
    let other = rusqlite::Connection::open(folder.path().join("cache/catalog.sqlite")).unwrap();
    other.execute("UPDATE blobs SET digest = CAST(x'09' || substr(digest, 2) AS BLOB)", []).unwrap();
    drop(other);
    let _ = store.put(&digest(&new), &new); // there is no room before the walk is over
    eventually("eviction", || store.is_settled() && store.put(&digest(&new), &new).is_ok()).await;
    store.catalog().flush().await;
    assert_eq!((store.usage().bytes, store.usage().entries), (6000, 1));
    assert_eq!(bytes(&store.read(&digest(&new)).unwrap().unwrap()), new);
}

#[tokio::test]
async fn what_the_catalog_does_not_know_is_hashed_before_its_first_use() {
    let (folder, store) = open();
    let (right, wrong) = (content(1, 2 << 20), content(2, 2 << 20));
    let (small, large) = (digest(b"planted"), digest(b"planted too"));
    for (name, bytes) in [(digest(&right), &right), (small, &b"lie".to_vec()), (large, &wrong)] {
        fs::write(path_of(folder.path(), &name), bytes).unwrap();
    }
    assert!(matches!(store.read(&digest(&right)), Err(Error::Unproven { .. })), "too large for a network task");
    assert_eq!(bytes(&store.find(&digest(&right)).await.unwrap().unwrap()), right);
    assert!(store.read(&digest(&right)).unwrap().is_some(), "and known from then on");
    assert!(store.read(&small).unwrap().is_none());
    assert!(store.find(&large).await.unwrap().is_none());
    for name in [small, large] {
        assert!(!path_of(folder.path(), &name).exists(), "what is not what it says is dropped");
    }
    store.catalog().flush().await;
    assert_eq!(store.usage().bytes, lying_in(folder.path()));
}

#[test]
fn a_commit_replaces_a_file_that_nobody_vouches_for() {
    let (folder, store) = open();
    let name = digest(b"right");
    fs::write(path_of(folder.path(), &name), b"wrong").unwrap();
    store.put(&name, b"right").unwrap();
    assert_eq!(bytes(&store.read(&name).unwrap().unwrap()), b"right");
}

#[test]
fn a_rebuild_repairs_the_catalog_after_an_unclean_end() {
    let (folder, store) = open();
    store.put(&digest(b"kept"), b"kept").unwrap();
    store.put(&digest(b"vanished"), b"vanished").unwrap();
    drop(store);
    fs::write(folder.path().join("cache/running"), b"").unwrap();
    fs::remove_file(path_of(folder.path(), &digest(b"vanished"))).unwrap();
    fs::write(path_of(folder.path(), &digest(b"unknown")), b"unknown").unwrap();
    fs::write(folder.path().join("cache/blobs/sha256/not-a-digest"), b"").unwrap();
    let store = Store::open(&config(folder.path(), 1 << 30)).unwrap();
    wait_until("the walk", || store.is_settled());
    assert_eq!((store.usage().bytes, store.usage().entries), (4 + 7, 2));
    assert_eq!(bytes(&store.read(&digest(b"unknown")).unwrap().unwrap()), b"unknown");
    assert!(store.read(&digest(b"vanished")).unwrap().is_none());
    drop(store);
    assert!(!folder.path().join("cache/running").exists());
}

#[test]
fn a_later_format_is_refused_and_left_as_it_is() {
    let (folder, store) = open();
    drop(store);
    let file = folder.path().join("cache/catalog.sqlite");
    rusqlite::Connection::open(&file).unwrap().pragma_update(None, "user_version", 9).unwrap();
    let before = fs::read(&file).unwrap();
    fs::write(folder.path().join("cache/fills/of-a-later-version"), b"half").unwrap();
    let Err(error) = Store::open(&config(folder.path(), 1 << 30)) else { panic!("opened a later format") };
    assert!(error.to_string().contains("format 9") && error.to_string().contains("up to 2"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), before);
    assert!(folder.path().join("cache/fills/of-a-later-version").exists());
}

#[test]
fn a_catalog_of_format_1_is_brought_up_and_its_blobs_are_hashed_before_their_use() {
    let (folder, store) = open();
    store.put(&digest(b"good"), b"good").unwrap();
    store.put(&digest(b"evil"), b"evil").unwrap();
    drop(store);
    let file = folder.path().join("cache/catalog.sqlite");
    let catalog = rusqlite::Connection::open(&file).unwrap();
    let to_1 = "ALTER TABLE blobs DROP COLUMN heat; ALTER TABLE totals DROP COLUMN scrubbed;
                ALTER TABLE totals DROP COLUMN scrub_ended; DROP TABLE checksums; DROP TABLE pins;
                UPDATE blobs SET pinned = 1; PRAGMA user_version = 1;";
    catalog.execute_batch(to_1).unwrap();
    drop(catalog);
    fs::write(path_of(folder.path(), &digest(b"evil")), b"EVIL").unwrap();
    let store = Store::open(&config(folder.path(), 1 << 30)).unwrap();
    assert_eq!(bytes(&store.read(&digest(b"good")).unwrap().unwrap()), b"good");
    assert!(store.read(&digest(b"evil")).unwrap().is_none());
    store.close();
    let catalog = rusqlite::Connection::open(&file).unwrap();
    let count = |what: &str| catalog.query_row(&format!("SELECT count(*) FROM {what}"), [], |row| row.get::<_, i64>(0));
    assert_eq!(count("checksums").unwrap(), 1);
    assert_eq!(count("pins").unwrap(), 2);
    assert_eq!(count("blobs WHERE pinned AND proven AND heat > 1000").unwrap(), 1);
}

#[tokio::test]
async fn what_is_pinned_is_never_evicted_also_when_it_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&config(folder.path(), 1000)).unwrap();
    let whole: Vec<Vec<u8>> = (0..12).map(|seed| content(seed, 100)).collect();
    store.put(&digest(&whole[0]), &whole[0]).unwrap();
    assert!(store.catalog().pin(&digest(&whole[0])).await.unwrap());
    assert!(!store.catalog().pin(&digest(&whole[1])).await.unwrap(), "it is not there yet");
    store.remove(&digest(&whole[0])).unwrap();
    for content in &whole {
        store.put(&digest(content), content).unwrap();
    }
    eventually("the eviction", || store.evict() == 0 && store.usage().bytes <= 1000).await;
    let is_there = |at: usize| store.read(&digest(&whole[at])).unwrap().is_some();
    assert!(is_there(0) && is_there(1) && !is_there(2));
    assert!(store.catalog().unpin(&digest(&whole[0])).await.unwrap());
    store.put(&digest(b"more"), &[0; 200]).unwrap();
    eventually("the eviction", || store.evict() == 0 && store.usage().bytes <= 1000).await;
    assert!(!is_there(0) && is_there(1));
}

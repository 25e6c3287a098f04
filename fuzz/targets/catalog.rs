//! The catalog's file, damaged: the store opens, or makes it anew, and never serves a byte that is not the blob's.

use std::cell::LazyCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::folder::Folder;
use crate::oci::{Accept, Algorithm, Digest};
use crate::store::{Config, Content, Error, Learned, Link, Ping, Store, TagEntry};

const CONTENT: &[u8] = b"a layer";
const FILES: [&str; 2] = ["catalog.sqlite", "catalog.sqlite-wal"];

thread_local! {
    static TEMPLATE: LazyCell<Template> = const { LazyCell::new(Template::make) };
}

/// A folder with one blob, and its catalog's bytes.
struct Template {
    folder: Folder,
    catalog: Vec<u8>,
}

/// The first byte says what the rest is: the file's whole content, its write-ahead log's beside a sound file, or changes
/// to a sound file, each of two bytes of place, one of length, and so many bytes.
///
/// The store opens, unless the file says that a later version wrote it; nothing that it is asked panics; what it reads of
/// the blob is the blob's; and the folder opens a second time.
pub fn catalog(data: &[u8]) {
    TEMPLATE.with(|template| template.check(data));
}

impl Template {
    fn make() -> Self {
        let folder = Folder::new();
        let store = Store::open(&config(folder.path())).expect("a new folder opens");
        let digest = fill(&store);
        assert!(store.read(&digest).unwrap().is_some());
        store.close();
        let catalog = fs::read(folder.path().join(FILES[0])).unwrap();
        Self { folder, catalog }
    }

    fn check(&self, data: &[u8]) {
        let Some((kind, rest)) = data.split_first() else { return };
        self.restore();
        let [file, log] = FILES.map(|name| self.folder.path().join(name));
        match kind % 3 {
            0 => write(&file, rest),
            1 => {
                write(&file, &self.catalog);
                write(&log, rest);
            }
            _ => write(&file, &changed(&self.catalog, rest)),
        }
        for _ in 0..2 {
            match Store::open(&config(self.folder.path())) {
                Ok(store) => ask(&store),
                Err(Error::Newer { .. }) => {}
                Err(error) => panic!("the store does not open: {error:?}"),
            }
        }
    }

    /// A size that is not true has the blob evicted, and an end that was none leaves a mark.
    fn restore(&self) {
        let digest = Digest::of(Algorithm::Sha256, CONTENT);
        let blob = self.folder.path().join("blobs/sha256").join(digest.hex());
        if fs::read(&blob).ok().as_deref() != Some(CONTENT) {
            write(&blob, CONTENT);
        }
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("catalog.")) {
                fs::remove_file(path).unwrap();
            }
        }
        let _ = fs::remove_file(self.folder.path().join("running"));
    }
}

fn config(folder: &Path) -> Config {
    Config { dir: folder.to_owned(), max_size: None, min_free: crate::host::Percent(0) }
}

fn write(path: &PathBuf, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

fn changed(sound: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    let mut rest = changes;
    while let [high, low, length, after @ ..] = rest {
        let at = usize::from(u16::from_be_bytes([*high, *low])) % bytes.len();
        let length = usize::from(*length).min(after.len()).min(bytes.len() - at);
        bytes[at..at + length].copy_from_slice(&after[..length]);
        rest = &after[length..];
    }
    bytes
}

/// One row in every table.
fn fill(store: &Store) -> Digest {
    let digest = Digest::of(Algorithm::Sha256, CONTENT);
    let (registry, repository) = (Arc::<str>::from("quay.io"), "team/app".parse().unwrap());
    let (learned, now) = (Learned::Anonymously, SystemTime::now());
    store.put(&digest, CONTENT).unwrap();
    let catalog = store.catalog();
    catalog.record_public(&registry, &repository, Some(now));
    catalog.record_link(Link {
        registry: Arc::clone(&registry),
        repository: repository.clone(),
        digest,
        content: Content::Blob,
        learned,
        media_type: Some("text/plain".into()),
        proven: now,
    });
    catalog.record_tag(TagEntry {
        registry: Arc::clone(&registry),
        repository,
        tag: "latest".parse().unwrap(),
        accept: Accept::EVERYTHING,
        learned,
        digest,
        media_type: "text/plain".into(),
        size: CONTENT.len() as u64,
        checked: now,
    });
    catalog.record_ping(Ping { registry, status: 200, headers: vec![("a".into(), "b".into())], seen: now });
    digest
}

/// Everything that a catalog is asked.
fn ask(store: &Store) {
    let digest = Digest::of(Algorithm::Sha256, CONTENT);
    let (repository, tag) = ("team/app".parse().unwrap(), "latest".parse().unwrap());
    let catalog = store.catalog();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let _ = catalog.links("quay.io", &repository, &digest).await;
        let _ = catalog.is_shared("quay.io", &digest).await;
        let _ = catalog.public("quay.io", &repository).await;
        let _ = catalog.tags("quay.io", &repository, &tag).await;
        let _ = catalog.tag_history("quay.io", &repository, &tag).await;
        let _ = catalog.ping("quay.io").await;
        let _ = catalog.pin(&digest).await;
        let _ = catalog.is_pinned(&digest).await;
        catalog.flush().await;
    });
    if let Ok(survey) = catalog.survey() {
        let _ = (survey.sums(), survey.registries(), survey.page(0, 10), survey.stored(&digest));
        let _ = (survey.tags("quay.io", &repository, 10), survey.places(&digest, 10), survey.rights(&digest, None, 10));
    }
    if let Ok(Some(blob)) = store.prove(&digest)
        && let Ok(Some(bytes)) = blob.read_all(1 << 20)
    {
        assert_eq!(bytes, CONTENT);
    }
    let _ = store.usage();
    store.close();
}

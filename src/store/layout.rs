//! Makes, locks, recognises and marks the cache directory, and names the files in it.
//!
//! A power cut at any step leaves either a finished folder or one that the next start recognises as its own and
//! finishes. A folder that another program made is refused, since eviction would delete its files.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::lock::lock;
use super::{Disk, Error};
use crate::oci::{Algorithm, Digest};

const LAYOUT: &str = "oci-layout";
const LAYOUT_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX: &str = "index.json";
const INDEX_CONTENT: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
const BLOBS: &str = "blobs";
const FILLS: &str = "fills";
const LOCK: &str = "lock";
/// How often the lock is tried while another process has it.
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// Exists while a process uses the folder. Found at start, it shows that the last process did not end cleanly.
const RUNNING: &str = "running";

/// The algorithms that have a folder under `blobs/`.
pub(crate) const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

/// The names allowed in a folder that has no `oci-layout` yet: those that an interrupted first start made, and those of
/// a new file system.
const UNFINISHED: [&str; 6] = [LOCK, FILLS, BLOBS, "index.json.new", INDEX, "oci-layout.new"];
const FOREIGN_BUT_FINE: &str = "lost+found";

/// The folder, made and locked.
pub(crate) struct Layout {
    root: PathBuf,
    held: Mutex<Option<File>>,
    /// Whether the folder was made just now, so that there are no blobs.
    pub(crate) is_new: bool,
    /// Whether the last process ended cleanly, with a complete catalog.
    pub(crate) was_clean: bool,
}

impl Layout {
    /// Makes the folder complete and takes its lock, for which it waits up to `timeout`. The files that another process
    /// left in it stay as they are.
    pub(crate) fn open(disk: &Disk, root: &Path, timeout: Duration) -> Result<Self, Error> {
        make_all(disk, root)?;
        let root = root.canonicalize().map_err(|source| Error::io("find", root, source))?;
        let is_finished = recognise(&root)?;
        let held = take_lock(&root, timeout)?;
        let is_new = !is_finished && !has_blobs(&root);
        for folder in [FILLS, BLOBS] {
            disk.make_folder(&root.join(folder))?;
        }
        for algorithm in ALGORITHMS {
            disk.make_folder(&root.join(BLOBS).join(algorithm.name()))?;
        }
        if !is_finished {
            disk.place(&root.join(INDEX), INDEX_CONTENT)?;
            disk.place(&root.join(LAYOUT), LAYOUT_CONTENT)?; // last: it shows that the rest is there
        }
        Ok(Self { held: Mutex::new(Some(held)), is_new, was_clean: !exists(&root.join(RUNNING)), root })
    }

    /// Begins to use the folder: marks it as in use, durably.
    pub(crate) fn begin(&self, disk: &Disk) -> Result<(), Error> {
        if self.was_clean {
            disk.create(&self.root.join(RUNNING))?;
        }
        disk.sync_folder(&self.root)
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the blobs of an algorithm.
    pub(crate) fn folder(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join(BLOBS).join(algorithm.name())
    }

    /// The path of a blob.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.folder(digest.algorithm()).join(digest.hex())
    }

    /// Lists the blobs of an algorithm, lazily and up to the first error.
    pub(crate) fn list(&self, algorithm: Algorithm) -> impl Iterator<Item = Digest> {
        let entries = fs::read_dir(self.folder(algorithm)).into_iter().flatten();
        entries.map_while(Result::ok).filter_map(move |entry| digest_of(algorithm, &entry.file_name()))
    }

    /// The folder of the staged files.
    pub(crate) fn fills(&self) -> PathBuf {
        self.root.join(FILLS)
    }

    /// The path of a staged file.
    pub(crate) fn staged(&self, digest: &Digest, number: u64) -> PathBuf {
        self.fills().join(format!("{}-{}.{number}", digest.algorithm().name(), digest.hex()))
    }

    /// All folders in which names are made.
    pub(crate) fn folders(&self) -> [PathBuf; 4] {
        let [sha256, sha512] = ALGORITHMS.map(|algorithm| self.folder(algorithm));
        [self.root.clone(), self.fills(), sha256, sha512]
    }

    /// Records that this process ends cleanly, with a complete catalog.
    pub(crate) fn mark_clean(&self, disk: &Disk) -> Result<(), Error> {
        disk.unlink(&self.root.join(RUNNING))?;
        disk.sync_folder(&self.root)
    }

    /// Releases the folder for another process.
    pub(crate) fn release(&self) {
        drop(lock(&self.held).take());
    }
}

/// The digest that a file name among the blobs stands for.
pub(crate) fn digest_of(algorithm: Algorithm, name: &OsStr) -> Option<Digest> {
    format!("{}:{}", algorithm.name(), name.to_str()?).parse().ok()
}

/// Makes a folder and its parents.
fn make_all(disk: &Disk, path: &Path) -> Result<(), Error> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => make_all(disk, parent)?,
        _ => {}
    }
    disk.make_folder(path)
}

/// Whether the folder is a finished cache. An error if it is something else.
fn recognise(root: &Path) -> Result<bool, Error> {
    let foreign = |found: String| Error::Foreign { folder: root.into(), found };
    match fs::read(root.join(LAYOUT)) {
        Ok(_) if !root.join(FILLS).is_dir() => Err(foreign("an image layout of another program".into())),
        Ok(content) if is_version_one(&content) => Ok(true),
        Ok(_) => Err(foreign(format!("its {LAYOUT} does not say imageLayoutVersion 1.0.0"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let names = names(root)?;
            let foreign_name = names.iter().find(|name| !UNFINISHED.contains(&&***name) && *name != FOREIGN_BUT_FINE);
            match foreign_name {
                Some(name) => Err(foreign(format!("it holds {name} and no {LAYOUT}"))),
                None if names.iter().any(|name| name == BLOBS) && !names.iter().any(|name| name == FILLS) => {
                    Err(foreign(format!("it holds {BLOBS} and no {FILLS}")))
                }
                None => Ok(false),
            }
        }
        Err(source) => Err(Error::io("read", &root.join(LAYOUT), source)),
    }
}

fn is_version_one(content: &[u8]) -> bool {
    let value: Option<serde_json::Value> = serde_json::from_slice(content).ok();
    value.is_some_and(|value| value["imageLayoutVersion"] == "1.0.0")
}

fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::io("list", folder, source);
    fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()).map_err(failed))
        .collect()
}

fn has_blobs(root: &Path) -> bool {
    let mut folders = ALGORITHMS.into_iter().map(|algorithm| root.join(BLOBS).join(algorithm.name()));
    folders.any(|folder| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()))
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn take_lock(root: &Path, timeout: Duration) -> Result<File, Error> {
    let path = root.join(LOCK);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(|source| Error::io("open", &path, source))?;
    let began = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if began.elapsed() < timeout => thread::sleep(LOCK_RETRY),
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::Held { folder: root.into() }),
            Err(source) => return Err(Error::io("lock", &path, source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(root: &Path) -> Result<Layout, Error> {
        Layout::open(&Disk::default(), root, Duration::ZERO)
    }

    #[test]
    fn an_empty_folder_becomes_an_image_layout_with_its_parents() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("a/b");
        let layout = open(&root).unwrap();
        assert!(layout.is_new && layout.was_clean);
        layout.begin(&Disk::default()).unwrap();
        for path in ["oci-layout", "index.json", "blobs/sha256", "blobs/sha512", "fills", "lock", "running"] {
            assert!(root.join(path).exists(), "{path}");
        }
    }

    #[test]
    fn the_lock_is_exclusive_until_released() {
        let folder = tempfile::tempdir().unwrap();
        let layout = open(folder.path()).unwrap();
        let Err(error) = open(folder.path()) else { panic!("two processes have the folder") };
        assert!(matches!(error, Error::Held { .. }));
        assert!(error.to_string().contains(&*folder.path().to_string_lossy()), "{error}");
        layout.release();
        assert!(!open(folder.path()).unwrap().is_new);
    }

    #[test]
    fn what_another_program_made_is_refused_and_left_alone() {
        let cases: [&[&str]; 5] = [
            &["notes.txt"],
            &["oci-layout", "blobs/sha256/x"],
            &["blobs/sha256/x"],
            &["fills/x", "a"],
            &["fills/x", "oci-layout"],
        ];
        for files in cases {
            let folder = tempfile::tempdir().unwrap();
            for file in files {
                let path = folder.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, b"{}").unwrap();
            }
            assert!(matches!(open(folder.path()), Err(Error::Foreign { .. })), "{files:?}");
            assert!(!folder.path().join("lock").exists(), "{files:?}");
        }
    }

    #[test]
    fn what_a_cut_first_start_left_is_finished() {
        let cases: [&[&str]; 4] =
            [&["lock"], &["lost+found/x"], &["lock", "fills/", "blobs/sha256/"], &["lock", "fills/", "index.json.new"]];
        for paths in cases {
            let folder = tempfile::tempdir().unwrap();
            for path in paths {
                let (above, file) = path.rsplit_once('/').unwrap_or(("", path));
                fs::create_dir_all(folder.path().join(above)).unwrap();
                if !file.is_empty() {
                    fs::write(folder.path().join(path), b"").unwrap();
                }
            }
            assert!(open(folder.path()).is_ok(), "{paths:?}");
            assert_eq!(fs::read(folder.path().join("oci-layout")).unwrap(), LAYOUT_CONTENT);
        }
    }

    #[test]
    fn an_unclean_end_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).unwrap().begin(&Disk::default()).unwrap();
        let layout = open(folder.path()).unwrap();
        assert!(!layout.was_clean && !layout.is_new);
        layout.begin(&Disk::default()).unwrap();
        layout.mark_clean(&Disk::default()).unwrap();
        drop(layout);
        assert!(open(folder.path()).unwrap().was_clean);
    }
}

//! Performs all durable file operations in one place, so that a test can record them and cut the power at any step.
//!
//! A new name lasts only after its folder was synced, and bytes only after their file was. Each function here is one
//! such step and nothing else; the caller decides the order. The files of SQLite do not come through here.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, ResolveFlags, accessat, openat2};
use rustix::io::Errno;

use super::Error;
use super::health::{StoreHealth, unwritable};

/// One step towards durability. A path is the name that the file had when the step was taken.
#[derive(Clone, Copy, Debug)]
pub enum DiskStep<'a> {
    /// A folder appears.
    MakeFolder(&'a Path),
    /// An empty file appears, exclusively.
    Create(&'a Path),
    /// Bytes are written to a file at an offset.
    Write(&'a Path, u64, &'a [u8]),
    /// A file's bytes are made durable.
    SyncFile(&'a Path),
    /// A name moves and replaces the file that had the new one.
    Rename(&'a Path, &'a Path),
    /// A name is removed.
    Unlink(&'a Path),
    /// A folder's names are made durable.
    SyncFolder(&'a Path),
}

impl<'a> DiskStep<'a> {
    /// The folder in which the step makes a name.
    fn makes_name_in(&self) -> Option<&'a Path> {
        match self {
            Self::MakeFolder(path) | Self::Create(path) | Self::Rename(_, path) => path.parent(),
            _ => None,
        }
    }
}

/// Observes every [`DiskStep`] before it is taken, and may make it fail. For tests of power cuts and failing disks.
pub trait Witness: Send + Sync {
    /// Called before the step. On an error the step is not tried, and the operation returns this error.
    ///
    /// # Errors
    /// Any error that the test wants the disk to report.
    fn before(&self, step: &DiskStep<'_>) -> io::Result<()>;

    /// Called before an existing file is opened where that may wait for the disk, and not at all where it is in memory:
    /// for tests of a disk that hangs.
    fn opening(&self, _path: &Path) {}

    /// Whether a file counts as not in memory.
    fn is_cold(&self, _path: &Path) -> bool {
        false
    }
}

/// The disk: the real one, or one with a [`Witness`].
#[derive(Clone, Default)]
pub struct Disk {
    witness: Option<Arc<dyn Witness>>,
    health: Arc<StoreHealth>,
}

impl Disk {
    /// A disk that shows every durable step to `witness` first.
    #[must_use]
    pub fn watched(witness: Arc<dyn Witness>) -> Self {
        Self { witness: Some(witness), health: Arc::default() }
    }

    /// The same, which counts as hanging when anything takes longer than `patience`.
    #[must_use]
    pub fn impatient(witness: Arc<dyn Witness>, patience: Duration) -> Self {
        Self { witness: Some(witness), health: Arc::new(StoreHealth::with_patience(patience)) }
    }

    /// The health of the store on this disk.
    pub(crate) fn health(&self) -> &Arc<StoreHealth> {
        &self.health
    }

    /// Takes one step.
    fn take<T>(&self, step: &DiskStep<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let seen = self.witness.as_ref().map_or(Ok(()), |witness| witness.before(step));
        seen.and_then(|()| act()).inspect_err(|error| {
            let about = step.makes_name_in().and_then(|folder| unwritable(folder, error));
            self.health.failed(about.as_ref().unwrap_or(error));
        })
    }

    /// Tests whether names can be made in each of `folders`, without making one.
    pub(crate) fn look_at<'a>(&self, folders: impl IntoIterator<Item = &'a Path>) -> Result<(), Error> {
        for folder in folders {
            let looked = accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
            // An old kernel or C library cannot tell for the effective user: the next write will.
            if let Err(error @ (Errno::ACCESS | Errno::PERM | Errno::NOENT | Errno::ROFS)) = looked {
                let error = io::Error::from(error);
                self.health.failed(unwritable(folder, &error).as_ref().unwrap_or(&error));
                return Err(Error::io("write to", folder, error));
            }
        }
        Ok(())
    }

    /// Makes one folder and its name durable. An existing folder is fine.
    pub(crate) fn make_folder(&self, path: &Path) -> Result<(), Error> {
        if path.is_dir() {
            return Ok(());
        }
        let made = self.take(&DiskStep::MakeFolder(path), || fs::DirBuilder::new().mode(0o700).create(path));
        made.map_err(|source| Error::io("make the directory", path, source))?;
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.sync_folder(parent),
            _ => self.sync_folder(Path::new(".")),
        }
    }

    /// Creates an empty file, readable and writable by its owner only.
    pub(crate) fn create(&self, path: &Path) -> Result<File, Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let made = self.take(&DiskStep::Create(path), || options.open(path));
        made.map_err(|source| Error::io("create", path, source))
    }

    /// As [`Disk::open`], if the kernel has the name in memory (`RESOLVE_CACHED`, Linux 5.12). `None` where it would wait,
    /// or cannot tell.
    pub(crate) fn try_open(&self, path: &Path) -> Option<Result<File, Error>> {
        if self.witness.as_ref().is_some_and(|witness| witness.is_cold(path)) {
            return None;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED) {
            Ok(file) => Some(Ok(file.into())),
            Err(Errno::AGAIN | Errno::NOSYS | Errno::INVAL | Errno::PERM) => None,
            Err(error) => Some(Err(Error::io("open", path, error))),
        }
    }

    /// Opens a file for reading. A symbolic link is not followed: a name in the folder is the file itself.
    pub(crate) fn open(&self, path: &Path) -> Result<File, Error> {
        if let Some(witness) = &self.witness {
            witness.opening(path);
        }
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        let opened = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path);
        opened.map_err(|source| Error::io("open", path, source))
    }

    /// Opens a file of our own again, to continue writing it.
    pub(crate) fn reopen(&self, path: &Path) -> Result<File, Error> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        let opened = OpenOptions::new().read(true).write(true).custom_flags(flags.cast_signed()).open(path);
        opened.map_err(|source| Error::io("open", path, source))
    }

    /// Writes all of `bytes` at `at`.
    pub(crate) fn write_at(&self, file: &File, path: &Path, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let written = self.take(&DiskStep::Write(path, at, bytes), || file.write_all_at(bytes, at));
        written.map_err(|source| Error::io("write", path, source))
    }

    /// Makes a file's bytes and length durable.
    pub(crate) fn sync_file(&self, file: &File, path: &Path) -> Result<(), Error> {
        let synced = self.take(&DiskStep::SyncFile(path), || file.sync_all());
        synced.map_err(|source| Error::io("sync", path, source))
    }

    /// Moves a name and replaces the file that had the new one.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let renamed = self.take(&DiskStep::Rename(from, to), || fs::rename(from, to));
        renamed.map_err(|source| Error::io("rename", from, source))
    }

    /// Removes a name. Returns whether it existed.
    pub(crate) fn unlink(&self, path: &Path) -> Result<bool, Error> {
        match self.take(&DiskStep::Unlink(path), || fs::remove_file(path)) {
            Ok(()) => {
                self.health.freed();
                Ok(true)
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::io("remove", path, source)),
        }
    }

    /// Makes a folder's names durable. A file system that cannot sync a folder answers EINVAL, which is accepted.
    pub(crate) fn sync_folder(&self, path: &Path) -> Result<(), Error> {
        let synced = self.take(&DiskStep::SyncFolder(path), || File::open(path)?.sync_all());
        match synced {
            Err(source) if source.kind() != io::ErrorKind::InvalidInput => {
                Err(Error::io("sync the directory", path, source))
            }
            _ => Ok(()),
        }
    }

    /// Puts a small file in place durably, whole or not at all.
    pub(crate) fn place(&self, path: &Path, content: &[u8]) -> Result<(), Error> {
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        self.unlink(&fresh)?;
        let file = self.create(&fresh)?;
        self.write_at(&file, &fresh, 0, content)?;
        self.sync_file(&file, &fresh)?;
        self.rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |folder| self.sync_folder(folder))
    }
}

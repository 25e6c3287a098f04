//! Keeps the CA's folder: two pairs of certificate and key, replaced as pairs, under a lock.
//!
//! A pair is staged as `NAME.key.new` and `NAME.crt.new`, both synced, then renamed, the key first. So a staged
//! certificate without its staged key means one thing: the key was renamed, and the certificate is next. The next
//! process to open the folder finishes that rename, or drops a pair that was staged only.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rcgen::KeyPair;

use super::certificate::Certificate;
use super::{Error, passphrase};

/// Which pair of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pair {
    /// `ca.crt` and `ca.key`.
    Root,
    /// `issuing.crt` and `issuing.key`.
    Issuing,
}

/// The folder, locked against other processes until dropped.
pub(super) struct Folder {
    dir: PathBuf,
    _lock: Option<File>,
}

impl Folder {
    /// Opens the folder, waits for its lock and completes it. Creates a folder that does not exist.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Leftover`], and those of reading a key or a certificate.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        if !dir.is_dir() {
            DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(Error::io("create", dir))?;
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            sync(parent.unwrap_or(Path::new(".")))?;
        }
        let folder = Self { dir: dir.to_owned(), _lock: lock(&dir.join(".lock"))? };
        for pair in [Pair::Root, Pair::Issuing] {
            folder.complete(pair)?;
        }
        Ok(folder)
    }

    /// The pair's certificate; `None` where there is no file.
    pub(super) fn certificate(&self, pair: Pair) -> Result<Option<Certificate>, Error> {
        read_certificate(&certificate_path(&self.dir, pair))
    }

    /// The pair's private key; `None` where there is no file. One that docker-registry-proxy encrypted is opened.
    pub(super) fn key(&self, pair: Pair) -> Result<Option<KeyPair>, Error> {
        let path = key_path(&self.dir, pair);
        let Some(pem) = read_key(&path)? else { return Ok(None) };
        let bad = |_| Error::BadKey(path.clone());
        match passphrase::open(&pem) {
            Some(der) => KeyPair::try_from(der.as_slice()).map(Some).map_err(bad),
            None => KeyPair::from_pem(&pem).map(Some).map_err(bad),
        }
    }

    /// The certificate's path.
    pub(super) fn certificate_path(&self, pair: Pair) -> PathBuf {
        certificate_path(&self.dir, pair)
    }

    /// The key's path.
    pub(super) fn key_path(&self, pair: Pair) -> PathBuf {
        key_path(&self.dir, pair)
    }

    /// Puts the pair into place, durably. After a crash at any moment either the old pair or the new one is there.
    pub(super) fn put(&self, pair: Pair, certificate_pem: &str, key_pem: &str) -> Result<(), Error> {
        let (key, certificate) = (self.key_path(pair), self.certificate_path(pair));
        create(&staged(&key), key_pem, 0o600)?;
        create(&staged(&certificate), certificate_pem, 0o644)?;
        sync(&self.dir)?;
        rename(&staged(&key), &key)?;
        sync(&self.dir)?;
        rename(&staged(&certificate), &certificate)?;
        sync(&self.dir)
    }

    /// Removes the root's key if it is still `pem`, durably.
    pub(super) fn remove_root_key(&self, pem: &str) -> Result<(), Error> {
        let path = self.key_path(Pair::Root);
        match read_key(&path)? {
            Some(text) if text == pem => {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                sync(&self.dir)
            }
            Some(_) => Err(Error::Changed(path)),
            None => Ok(()),
        }
    }

    fn complete(&self, pair: Pair) -> Result<(), Error> {
        let (key, certificate) = (staged(&self.key_path(pair)), staged(&self.certificate_path(pair)));
        if !certificate.exists() && !key.exists() {
            return Ok(());
        }
        if key.exists() {
            for path in [&certificate, &key] {
                remove_if_there(path)?;
            }
            return sync(&self.dir);
        }
        // Parse and match first: the rename replaces a file.
        let fits = match (read_certificate(&certificate), self.key(pair)?) {
            (Ok(Some(certificate)), Some(key)) => certificate.fits(&key),
            _ => false,
        };
        if !fits {
            return Err(Error::Leftover(certificate));
        }
        rename(&certificate, &self.certificate_path(pair))?;
        sync(&self.dir)
    }
}

/// Where `pair`'s certificate is in `dir`.
pub(super) fn certificate_path(dir: &Path, pair: Pair) -> PathBuf {
    dir.join(match pair {
        Pair::Root => "ca.crt",
        Pair::Issuing => "issuing.crt",
    })
}

/// Where `pair`'s key is in `dir`.
pub(super) fn key_path(dir: &Path, pair: Pair) -> PathBuf {
    certificate_path(dir, pair).with_extension("key")
}

/// The certificate in `path`; `None` where there is no file.
pub(super) fn read_certificate(path: &Path) -> Result<Option<Certificate>, Error> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
        Ok(bytes) => Certificate::parse(path, &String::from_utf8_lossy(&bytes)).map(Some),
    }
}

/// The text of a key's file, which only its owner may read; `None` if there is no file. Threat: a key that others can
/// read is compromised already. One exception: a file of root that a group can read, which is how Kubernetes mounts
/// secrets for a user other than root.
pub(super) fn read_key(path: &Path) -> Result<Option<String>, Error> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(Error::io("read", path))?,
    };
    let metadata = file.metadata().map_err(Error::io("read", path))?;
    let mode = metadata.mode() & 0o777;
    let roots_own = metadata.uid() == 0 && !rustix::process::geteuid().is_root();
    let forbidden = if roots_own { 0o037 } else { 0o077 };
    if mode & forbidden != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Err(error) if error.kind() == ErrorKind::InvalidData => Err(Error::BadKey(path.to_owned())),
        read => read.map_err(Error::io("read", path)).map(|_| Some(text)),
    }
}

/// Creates a file, synced, with exactly `mode`. It must not exist.
pub(super) fn create(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.set_permissions(Permissions::from_mode(mode))?; // whatever the umask
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(Error::io("create", path))
}

/// Syncs a folder, which makes its created, renamed and removed names durable.
pub(super) fn sync(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", dir))
}

fn staged(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(Error::io("replace", to))
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(Error::io("remove", path)),
    }
}

/// `None` if the folder is not writable: a mounted secret needs no lock, since we never change it.
fn lock(path: &Path) -> Result<Option<File>, Error> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    match opened {
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => Ok(None),
        opened => {
            let locked = opened.and_then(|file: File| -> io::Result<File> {
                file.lock()?;
                Ok(file)
            });
            locked.map(Some).map_err(Error::io("lock", path))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::ca::mint;

    /// A folder in which the renaming of `obstacle` failed, as if the power had gone there; then opened again.
    fn interrupted_at(obstacle: &str) -> (tempfile::TempDir, Folder) {
        let temporary = tempfile::tempdir().unwrap();
        let minted = mint::root(SystemTime::now()).unwrap();
        let in_the_way = temporary.path().join(obstacle);
        fs::create_dir(&in_the_way).unwrap();
        let put = Folder::open(temporary.path()).unwrap().put(Pair::Root, &minted.pem, &minted.key.serialize_pem());
        assert!(matches!(put, Err(Error::Io { doing: "replace", .. })), "{put:?}");
        fs::remove_dir(&in_the_way).unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        (temporary, folder)
    }

    #[test]
    fn a_pair_whose_key_was_renamed_is_finished() {
        let (temporary, folder) = interrupted_at("ca.crt");
        let certificate = folder.certificate(Pair::Root).unwrap().unwrap();
        assert!(certificate.fits(&folder.key(Pair::Root).unwrap().unwrap()));
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 3, "the pair and the lock");
    }

    #[test]
    fn a_pair_whose_key_was_not_renamed_is_undone() {
        let (temporary, folder) = interrupted_at("ca.key");
        assert!(folder.certificate(Pair::Root).unwrap().is_none());
        assert!(folder.key(Pair::Root).unwrap().is_none());
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 1, "the lock");
    }
}

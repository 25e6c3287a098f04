//! What all peers share: a scratch folder, certificates, the origin, and ports.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::certificates::{Certificates, HOST};
use super::options::Options;
use super::origin::Origin;

/// The lab; its folder goes with it.
pub(crate) struct Lab {
    folder: tempfile::TempDir,
    pub(crate) certificates: Certificates,
    pub(crate) origin: Origin,
    pub(crate) options: Options,
    folders: AtomicUsize,
}

impl Lab {
    /// Makes the folder and starts the origin.
    pub(crate) async fn open(options: &Options) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("pullthrough-compare-").tempdir()?;
        open_to_all(folder.path())?;
        let certificates = Certificates::make(folder.path())?;
        let origin = Origin::start(&certificates).await?;
        Ok(Self { folder, certificates, origin, options: options.clone(), folders: AtomicUsize::new(0) })
    }

    /// What clients call the registry: name and the origin's port.
    pub(crate) fn authority(&self) -> String {
        format!("{HOST}:{}", self.origin.address.port())
    }

    /// A new folder, that a peer which drops its rights can write to.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let number = self.folders.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("{number}-{name}"));
        std::fs::create_dir(&path)?;
        open_to_all(&path)?;
        Ok(path)
    }
}

/// Squid and nginx change to a user of their own where they are started as root.
pub(crate) fn open_to_all(path: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))
}

/// A loopback address that is free now.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

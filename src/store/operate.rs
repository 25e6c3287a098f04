//! Applies the operator's decisions to the store: which images are pinned, and what is purged.
//!
//! Pins have their own file, `pins.json`: they are intent, which nothing could rebuild after the catalog was lost. The
//! marks on blobs, which eviction reads, are derived from them.

use std::fs;
use std::io;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::catalog::Change;
use super::{Error, Store, Survey, Verification};
use crate::oci::Digest;

const FILE: &str = "pins.json";
const VERSION: u32 = 1;

/// A pinned image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The name that was pinned.
    pub name: String,
    /// The digest of that name at that time.
    pub digest: Digest,
    /// The time of the pin.
    pub since: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    pins: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    name: String,
    digest: String,
    since: String,
}

impl Store {
    /// Whether the log is to be told now that something could not be stored; if so, how many such failures it was not
    /// told of since the last one. While a disk is full, each blob of each pull has one.
    #[must_use]
    pub fn tells_of_failure(&self) -> Option<u64> {
        self.blobs().disk.health().unstored.due()
    }

    /// Returns the pinned images in the order in which they were pinned. Reads a small file.
    ///
    /// # Errors
    /// The error of the system, or that the file is not well formed.
    pub fn pins(&self) -> Result<Vec<Pinned>, Error> {
        let path = self.root().join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::io("read", &path, source)),
        };
        let malformed = |words: String| Error::io("understand", &path, io::Error::other(words));
        let document: Document = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        if document.version != VERSION {
            return Err(malformed(format!(
                "it has version {}, and this program knows version {VERSION}",
                document.version
            )));
        }
        document
            .pins
            .into_iter()
            .map(|entry| entry.read().ok_or_else(|| malformed("a pin is not well formed".into())))
            .collect()
    }

    /// Writes all pinned images, durably.
    ///
    /// # Errors
    /// [`Error::Closed`], or the error of the system.
    pub fn write_pins(&self, pins: &[Pinned]) -> Result<(), Error> {
        let _open = self.blobs().while_open()?;
        let document = Document { version: VERSION, pins: pins.iter().map(Entry::of).collect() };
        let path = self.root().join(FILE);
        let bytes = serde_json::to_vec_pretty(&document).map_err(|error| Error::io("write", &path, error))?;
        self.blobs().disk.place(&path, &bytes)
    }

    /// Pins or unpins these digests in one batch, as [`Catalog::pin`](super::Catalog::pin) does for one. Waits for the
    /// disk.
    pub fn mark<'a>(&self, digests: impl Iterator<Item = &'a Digest>, pinned: bool) {
        for digest in digests {
            self.catalog().submit(Change::Pin { digest: *digest, pinned });
        }
        self.catalog().flush_now();
    }

    /// As [`Store::verify`], and calls `each` with the number of bytes read, which returns whether to continue. An
    /// interrupted verification reports a good blob.
    ///
    /// # Errors
    /// The error of the system.
    pub fn verify_with(&self, digest: &Digest, each: &mut dyn FnMut(u64) -> bool) -> Result<Verification, Error> {
        self.blobs().verify(digest, each)
    }

    /// The number of fills in progress and parked.
    ///
    /// # Errors
    /// The error of the system.
    pub fn fills(&self) -> Result<u64, Error> {
        let path = self.root().join("fills");
        let failed = |source| Error::io("list", &path, source);
        let names = fs::read_dir(&path).map_err(failed)?.map(|entry| entry.map(|entry| entry.file_name()));
        let names = names.collect::<io::Result<Vec<_>>>().map_err(failed)?;
        Ok(names.iter().filter(|name| !name.to_string_lossy().ends_with(".map")).count() as u64)
    }

    /// Carries out the plan of `survey`. Readers of removed blobs keep their bytes. Waits for the disk.
    ///
    /// # Errors
    /// [`Error::Closed`], or the error of the system. Everything done before stays done.
    pub fn purge(&self, survey: &Survey) -> Result<(), Error> {
        let catalog = self.catalog();
        survey.each_tag(|registry, repository, tag| {
            catalog.submit(Change::ForgetTag { registry, repository, tag, only: None })
        })?;
        survey.each_link(|place, digest| catalog.submit(Change::Unlink { place, digest }))?;
        for digest in survey.doomed()? {
            self.remove(&digest)?;
        }
        catalog.flush_now();
        Ok(())
    }
}

impl Entry {
    fn of(pin: &Pinned) -> Self {
        let since = humantime::format_rfc3339_seconds(pin.since).to_string();
        Self { name: pin.name.clone(), digest: pin.digest.to_string(), since }
    }

    fn read(self) -> Option<Pinned> {
        let since = humantime::parse_rfc3339(&self.since).ok()?;
        Some(Pinned { name: self.name, digest: self.digest.parse().ok()?, since })
    }
}

//! Makes the catalog agree with the folder after an unclean end or a lost catalog.
//!
//! It runs in the background, on a thread that mostly sleeps: it adds unknown files to the catalog as unproven, removes
//! rows whose files are gone, and then hashes the unproven blobs at half speed. It never makes up a link, type or tag.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Instant;

use crate::oci::Algorithm;
use crate::store::Error;
use crate::store::catalog::CatalogReader;
use crate::store::content::blobs::Blobs;
use crate::store::layout::{ALGORITHMS, digest_of};

const PAGE: u32 = 1000;
/// The number of found blobs sent to the catalog in one batch.
const FLUSHED: usize = 250;

/// The background comparison of catalog and folder.
pub(crate) struct Rebuild {
    blobs: Arc<Blobs>,
    reader: CatalogReader,
    stop: Arc<AtomicBool>,
}

impl Rebuild {
    pub(crate) fn new(blobs: Arc<Blobs>, stop: Arc<AtomicBool>) -> Self {
        Self { reader: blobs.catalog.reader(), blobs, stop }
    }

    /// Hashes what an earlier process left unproven, then compares whenever it is requested.
    pub(crate) fn run(&self, asked: &Receiver<()>) {
        if !self.blobs.catalog.may_differ() {
            self.report(self.prove());
        }
        while asked.recv().is_ok() && !self.is_stopped() {
            while asked.try_recv().is_ok() {} // one comparison answers all earlier requests
            let divergences = self.blobs.catalog.divergences();
            let compared = self.compare();
            if compared.is_ok() && !self.is_stopped() {
                self.blobs.catalog.flush_now();
                self.blobs.catalog.reconciled(divergences);
                self.report(self.prove());
            }
            self.report(compared);
        }
    }

    fn report(&self, result: Result<(), Error>) {
        if let Err(error) = result
            && !self.is_stopped()
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the comparison of the catalog with the cache directory was interrupted"
            );
        }
    }

    fn compare(&self) -> Result<(), Error> {
        tracing::info!("comparing the catalog with the cache directory");
        for algorithm in ALGORITHMS {
            self.adopt(algorithm)?;
        }
        self.blobs.catalog.flush_now();
        self.remove_gone()
    }

    /// Adds the unknown files of the folder to the catalog.
    fn adopt(&self, algorithm: Algorithm) -> Result<(), Error> {
        let folder = self.blobs.layout.folder(algorithm);
        let failed = |source| Error::io("list", &folder, source);
        let mut adopted = 0_usize;
        for entry in fs::read_dir(&folder).map_err(failed)? {
            if self.is_stopped() {
                return Ok(());
            }
            let name = entry.map_err(failed)?.file_name();
            let Some(digest) = digest_of(algorithm, &name) else {
                tracing::warn!(folder = %folder.display(), name = %name.to_string_lossy(), "a file among the blobs is not named like a blob");
                continue;
            };
            if self.reader.row(&digest)?.is_none() {
                self.blobs.adopt(&digest)?;
                adopted += 1;
                if adopted.is_multiple_of(FLUSHED) {
                    self.blobs.catalog.flush_now(); // lookups must not wait behind a million changes
                }
            }
        }
        Ok(())
    }

    /// Removes the rows whose files are gone.
    fn remove_gone(&self) -> Result<(), Error> {
        let mut after = 0;
        while !self.is_stopped() {
            let rows = self.reader.page(after, PAGE)?;
            let Some(last) = rows.last() else { break };
            after = last.id;
            let gone = rows.iter().filter(|row| self.blobs.remove_if_gone(&row.digest)).count();
            if gone > 0 {
                self.blobs.catalog.flush_now();
            }
        }
        Ok(())
    }

    /// Hashes the blobs that are not proven yet.
    fn prove(&self) -> Result<(), Error> {
        let mut after = 0;
        loop {
            let rows = self.reader.unproven(after, PAGE)?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.id;
            for row in &rows {
                if self.is_stopped() {
                    return Ok(());
                }
                let began = Instant::now();
                match self.blobs.prove(&row.digest) {
                    Ok(Some(_)) => {}
                    Ok(None) => _ = self.blobs.remove_if_gone(&row.digest), // dropped just now, or gone before
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, digest = %row.digest, "cannot hash a blob");
                    }
                }
                // Half of the time the disk belongs to the pulls. `stop` wakes the thread.
                thread::park_timeout(began.elapsed());
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

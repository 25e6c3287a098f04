//! The walk over the folder that makes catalog and blobs agree after an unclean end or a lost catalog.
//!
//! It runs behind the serving, on a thread of its own that mostly sleeps: what lies in the folder unknown is
//! taken into the catalog, unproven; what the catalog has and the folder has not is taken out; then the unproven
//! ones are hashed, gently. No link, type or tag is ever made up.

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
/// So many found blobs are told to the catalog at once.
const FLUSHED: usize = 250;

/// The walker.
pub(crate) struct Rebuild {
    blobs: Arc<Blobs>,
    reader: CatalogReader,
    stop: Arc<AtomicBool>,
}

impl Rebuild {
    pub(crate) fn new(blobs: Arc<Blobs>, stop: Arc<AtomicBool>) -> Self {
        Self { reader: blobs.catalog.reader(), blobs, stop }
    }

    /// Finishes what an earlier process left to be hashed, then walks whenever it is asked to.
    pub(crate) fn run(&self, asked: &Receiver<()>) {
        if !self.blobs.catalog.may_differ() {
            self.report(self.prove());
        }
        while asked.recv().is_ok() && !self.is_stopped() {
            while asked.try_recv().is_ok() {} // one walk answers all that was asked before it
            let divergences = self.blobs.catalog.divergences();
            let walked = self.walk();
            if walked.is_ok() && !self.is_stopped() {
                self.blobs.catalog.flush_now();
                self.blobs.catalog.reconciled(divergences);
                self.report(self.prove());
            }
            self.report(walked);
        }
    }

    fn report(&self, result: Result<(), Error>) {
        if let Err(error) = result
            && !self.is_stopped()
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "the walk over the cache folder was broken off");
        }
    }

    fn walk(&self) -> Result<(), Error> {
        tracing::info!("the catalog is compared with the cache folder");
        for algorithm in ALGORITHMS {
            self.adopt(algorithm)?;
        }
        self.blobs.catalog.flush_now();
        self.remove_gone()
    }

    /// Takes what lies in the folder unknown into the catalog.
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
                tracing::warn!(folder = %folder.display(), name = %name.to_string_lossy(), "no blob has such a name");
                continue;
            };
            if self.reader.row(&digest)?.is_none() {
                self.blobs.adopt(&digest)?;
                adopted += 1;
                if adopted.is_multiple_of(FLUSHED) {
                    self.blobs.catalog.flush_now(); // lookups must not wait behind a million notes
                }
            }
        }
        Ok(())
    }

    /// Takes what the folder has not out of the catalog.
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

    /// Hashes what nobody has hashed yet.
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
                        tracing::warn!(error, digest = %row.digest, "a blob cannot be hashed");
                    }
                }
                // Half of the time the disk belongs to the pulls. A stop wakes the thread.
                thread::park_timeout(began.elapsed());
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

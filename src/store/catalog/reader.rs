//! Reads the catalog over a connection of its own, for callers that must not wait for the thread that writes.
//!
//! It sees what is committed, and not the changes of the last moment. WAL lets it read while the other writes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::command::WriterCommand;
use super::entry::{BlobRow, ScrubProgress};
use super::key::{digest, key};
use super::query;
use super::queue::Queue;
use super::schema::{FILE, is_damage, is_unreadable};
use crate::oci::Digest;
use crate::store::Error;
use crate::store::checksums::Sums;
use crate::store::lock::lock;

const COLUMNS: &str = "id, digest, size, last_used, proven, pinned, heat";

/// The connection, opened when first needed and again after the catalog was replaced.
pub(crate) struct CatalogReader {
    folder: PathBuf,
    generation: Arc<AtomicU64>,
    queue: Arc<Queue>,
    open: Mutex<Option<(u64, Connection)>>,
}

impl CatalogReader {
    pub(crate) fn new(folder: PathBuf, generation: Arc<AtomicU64>, queue: Arc<Queue>) -> Self {
        Self { folder, generation, queue, open: Mutex::new(None) }
    }

    /// The blob's row.
    pub(crate) fn row(&self, digest: &Digest) -> Result<Option<BlobRow>, Error> {
        self.with("look up a blob", |on| {
            on.prepare_cached(&format!("SELECT {COLUMNS} FROM blobs WHERE digest = ?1"))?
                .query_row([key(digest)], read)
                .optional()
        })
    }

    /// Whether the digest is pinned, stored or not.
    pub(crate) fn is_pinned(&self, digest: &Digest) -> Result<bool, Error> {
        self.with("look up a pin", |on| query::is_pinned(on, digest))
    }

    /// The blob's checksums.
    pub(crate) fn sums(&self, digest: &Digest) -> Result<Option<Sums>, Error> {
        self.with("look up checksums", |on| {
            on.prepare_cached("SELECT crc32c FROM checksums JOIN blobs ON id = blob WHERE digest = ?1")?
                .query_row([key(digest)], |row| Ok(Sums::decode(row.get_ref(0)?.as_blob()?)))
                .optional()
        })
    }

    /// A registry and a repository that the digest was last proven in.
    pub(crate) fn place(&self, digest: &Digest) -> Result<Option<(String, String)>, Error> {
        self.with("look up a place", |on| query::home(on, digest))
    }

    /// The position of the scrub.
    pub(crate) fn progress(&self) -> Result<ScrubProgress, Error> {
        self.with("be read", |on| {
            let read = |row: &rusqlite::Row<'_>| Ok(ScrubProgress { after: row.get(0)?, ended: row.get(1)? });
            on.query_row("SELECT scrubbed, scrub_ended FROM totals", [], read)
        })
    }

    /// Visits all rows, in no order.
    pub(crate) fn scan(&self, mut each: impl FnMut(BlobRow)) -> Result<(), Error> {
        self.with("be scanned", |on| {
            let mut statement = on.prepare_cached(&format!("SELECT {COLUMNS} FROM blobs"))?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                each(read(row)?);
            }
            Ok(())
        })
    }

    /// Up to `count` rows after the row number `after`, in order.
    pub(crate) fn page(&self, after: i64, count: u32) -> Result<Vec<BlobRow>, Error> {
        self.some(&format!("SELECT {COLUMNS} FROM blobs WHERE id > ?1 ORDER BY id LIMIT ?2"), after, count)
    }

    /// Up to `count` unproven rows after the row number `after`, in order.
    pub(crate) fn unproven(&self, after: i64, count: u32) -> Result<Vec<BlobRow>, Error> {
        self.some(
            &format!("SELECT {COLUMNS} FROM blobs WHERE proven = 0 AND id > ?1 ORDER BY id LIMIT ?2"),
            after,
            count,
        )
    }

    fn some(&self, sql: &str, after: i64, count: u32) -> Result<Vec<BlobRow>, Error> {
        self.with("be read", |on| on.prepare_cached(sql)?.query_map((after, count), read)?.collect())
    }

    fn with<T>(&self, doing: &'static str, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        let generation = self.generation.load(Ordering::Acquire);
        let result = self.opened().and_then(|mut open| {
            let result = open.as_ref().map(|(_, connection)| work(connection));
            if !matches!(result, Some(Ok(_))) {
                *open = None; // a new connection cures everything that can be cured
            }
            result.transpose()
        });
        if let Err(error) = &result
            && (is_damage(error) || is_unreadable(error))
        {
            self.tell_damage(generation);
        }
        result.map_err(|source| Error::Catalog { doing, source })?.ok_or(Error::Closed)
    }

    /// Makes the writing thread replace the catalog, unless it did so since.
    fn tell_damage(&self, seen: u64) {
        let generation = Arc::clone(&self.generation);
        let command = WriterCommand::Query(Box::new(move |_| generation.load(Ordering::Acquire) == seen));
        let _ = self.queue.send(command); // the next reader reports it again
    }

    fn opened(&self) -> rusqlite::Result<MutexGuard<'_, Option<(u64, Connection)>>> {
        let mut open = lock(&self.open);
        let generation = self.generation.load(Ordering::Acquire);
        if open.as_ref().is_none_or(|(of, _)| *of != generation) {
            // Not SQLITE_OPEN_READ_ONLY: the last connection of a WAL database must be able to clean up.
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(self.folder.join(FILE), flags)?;
            connection.busy_timeout(Duration::from_secs(1))?;
            connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -2048;")?;
            *open = Some((generation, connection));
        }
        Ok(open)
    }
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<BlobRow> {
    Ok(BlobRow {
        id: row.get(0)?,
        digest: digest(row.get_ref(1)?.as_blob()?)?,
        size: row.get::<_, i64>(2)?.cast_unsigned(),
        last_used: row.get(3)?,
        proven: row.get(4)?,
        pinned: row.get(5)?,
        heat: row.get(6)?,
    })
}

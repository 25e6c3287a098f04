//! Opens a connection for questions, and reads once what manifests list.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, params};

use super::scope::Scope;
use super::tables::{CONTENT, ROOTS, TABLES};
use crate::host;
use crate::oci::{Digest, DigestPrefix, Listing, MediaType, Repository, Tag};
use crate::store::Error;
use crate::store::catalog::key::{digest, key, time};
use crate::store::catalog::query;
use crate::store::catalog::schema::FILE;

/// The number of manifests read in one step.
const STEP: u32 = 500;

/// Answers questions about everything in the catalog. Blocks: for a thread that may wait.
pub struct Survey {
    pub(crate) on: Connection,
}

/// A committed blob in the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBlob {
    /// The digest.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
    /// The time when it was last served.
    pub last_used: SystemTime,
    /// Whether it is never evicted.
    pub pinned: bool,
}

impl Survey {
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let opened = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let on = Connection::open_with_flags(folder.join(FILE), flags)?;
            on.busy_timeout(Duration::from_secs(5))?;
            on.execute_batch(TABLES)?;
            Ok(Self { on })
        };
        opened().map_err(failed)
    }

    /// Reads the parts of every image: `read` is called once for each stored manifest.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn read_all(&mut self, read: impl FnMut(&Digest) -> Option<Listing>) -> Result<(), Error> {
        let all = "INSERT INTO nodes (digest, manifest)
             SELECT digest, max(manifest) FROM (SELECT digest, 1 AS manifest FROM tags
                UNION SELECT digest, content = 0 FROM links) GROUP BY digest
             ON CONFLICT (digest) DO UPDATE SET manifest = max(manifest, excluded.manifest)";
        self.on.execute(all, []).map_err(failed)?;
        self.follow(read)?;
        self.on.execute_batch(ROOTS).map_err(failed)
    }

    /// Reads the parts of these manifests.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn read_some(&mut self, of: &[Digest], read: impl FnMut(&Digest) -> Option<Listing>) -> Result<(), Error> {
        for one in of {
            node(&self.on, one, true).map_err(failed)?;
        }
        self.follow(read)
    }

    fn follow(&mut self, mut read: impl FnMut(&Digest) -> Option<Listing>) -> Result<(), Error> {
        loop {
            let unread = self.unread().map_err(failed)?;
            if unread.is_empty() {
                return Ok(());
            }
            let listings: Vec<_> = unread.into_iter().map(|(id, digest)| (id, read(&digest))).collect();
            self.learn(listings).map_err(failed)?;
        }
    }

    fn unread(&self) -> rusqlite::Result<Vec<(i64, Digest)>> {
        self.on
            .prepare_cached(
                "SELECT nodes.id, nodes.digest FROM nodes JOIN blobs ON blobs.digest = nodes.digest
                 WHERE nodes.manifest = 1 AND nodes.is_read = 0 LIMIT ?1",
            )?
            .query_map([STEP], |row| Ok((row.get(0)?, digest(row.get_ref(1)?.as_blob()?)?)))?
            .collect()
    }

    fn learn(&mut self, listings: Vec<(i64, Option<Listing>)>) -> rusqlite::Result<()> {
        let transaction = self.on.transaction()?;
        for (parent, listing) in listings {
            let listing = listing.unwrap_or_default();
            let is_index = listing.media_type.is_some_and(MediaType::is_index);
            transaction
                .prepare_cached("UPDATE nodes SET is_read = 1, is_index = ?2 WHERE id = ?1")?
                .execute((parent, is_index))?;
            let manifests = listing.manifests.iter().map(|child| (child, true));
            for (child, is_manifest) in manifests.chain(listing.blobs.iter().map(|child| (child, false))) {
                let child = node(&transaction, child, is_manifest)?;
                transaction.prepare_cached("INSERT OR IGNORE INTO edges VALUES (?1, ?2)")?.execute((parent, child))?;
            }
        }
        transaction.commit()
    }

    /// A blob's row.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn stored(&self, of: &Digest) -> Result<Option<StoredBlob>, Error> {
        self.on
            .prepare_cached("SELECT digest, size, last_used, pinned FROM blobs WHERE digest = ?1")
            .and_then(|mut statement| statement.query_row([key(of)], stored).optional())
            .map_err(failed)
    }

    /// The digest and everything that it needs, stored or not; after reading it.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn needs(&self, of: &Digest) -> Result<Vec<Digest>, Error> {
        self.digests(
            "WITH RECURSIVE need(node) AS (SELECT id FROM nodes WHERE digest = ?1
                UNION SELECT child FROM need JOIN edges ON parent = node)
             SELECT digest FROM need JOIN nodes ON nodes.id = need.node",
            of,
        )
    }

    /// Up to two digests with this prefix, among the stored and the linked ones.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn beginning(&self, prefix: &DigestPrefix) -> Result<Vec<Digest>, Error> {
        let Some((first, last)) = prefix.range() else { return Ok(Vec::new()) };
        self.on
            .prepare_cached(
                "SELECT digest FROM blobs WHERE digest BETWEEN ?1 AND ?2
                 UNION SELECT digest FROM links WHERE digest BETWEEN ?1 AND ?2 LIMIT 2",
            )
            .and_then(|mut statement| {
                statement
                    .query_map(params![key(&first), key(&last)], |row| digest(row.get_ref(0)?.as_blob()?))?
                    .collect()
            })
            .map_err(failed)
    }

    /// Every digest that a tag has had, with its first and its last time, the latest first.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn history(
        &self,
        registry: &str,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Vec<(Digest, SystemTime, SystemTime)>, Error> {
        let rows = query::history(&self.on, registry, repository, tag).map_err(failed)?;
        Ok(rows.into_iter().map(|(digest, first, last)| (digest, time(first), time(last))).collect())
    }

    /// Visits the stored blobs of `scope`, each once; after [`Survey::read_all`]. `each` may stop it.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn content(&self, scope: &Scope, mut each: impl FnMut(StoredBlob) -> ControlFlow<()>) -> Result<(), Error> {
        let mut asked = || {
            let (registry, repository, tag, one) = scope.columns();
            self.on.execute_batch("DROP TABLE IF EXISTS temp.content; CREATE TEMP TABLE content (node INTEGER)")?;
            self.on.execute(CONTENT, params![registry, repository, tag, one])?;
            let mut statement = self.on.prepare(
                "SELECT blobs.digest, size, last_used, pinned FROM content JOIN nodes ON nodes.id = node
                 JOIN blobs ON blobs.digest = nodes.digest",
            )?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                if each(stored(row)?).is_break() {
                    break;
                }
            }
            Ok(())
        };
        asked().map_err(failed)
    }

    /// Up to `count` blobs after the row number `after`, in order, each with its row number.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn page(&self, after: i64, count: u32) -> Result<Vec<(i64, StoredBlob)>, Error> {
        self.on
            .prepare_cached("SELECT digest, size, last_used, pinned, id FROM blobs WHERE id > ?1 ORDER BY id LIMIT ?2")
            .and_then(|mut statement| {
                statement.query_map((after, count), |row| Ok((row.get(4)?, stored(row)?)))?.collect()
            })
            .map_err(failed)
    }

    fn digests(&self, sql: &str, of: &Digest) -> Result<Vec<Digest>, Error> {
        self.on
            .prepare_cached(sql)
            .and_then(|mut statement| {
                statement.query_map([key(of)], |row| digest(row.get_ref(0)?.as_blob()?))?.collect()
            })
            .map_err(failed)
    }
}

/// The digest's number, assigned now if it has none.
pub(crate) fn node(on: &Connection, of: &Digest, is_manifest: bool) -> rusqlite::Result<i64> {
    on.prepare_cached(
        "INSERT INTO nodes (digest, manifest) VALUES (?1, ?2)
         ON CONFLICT (digest) DO UPDATE SET manifest = max(manifest, ?2) RETURNING id",
    )?
    .query_row(params![key(of), is_manifest], |row| row.get(0))
}

/// A count, never below 0.
pub(crate) fn number(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(at).map(|number| number.max(0).cast_unsigned())
}

pub(crate) fn failed(source: rusqlite::Error) -> Error {
    let doing = "be read";
    // SQLite does not say why it could not open its files.
    let is_unopened = source.sqlite_error_code() == Some(ErrorCode::CannotOpen);
    if is_unopened && !host::has_free_file() { Error::NoFile { doing } } else { Error::Catalog { doing, source } }
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredBlob> {
    Ok(StoredBlob {
        digest: digest(row.get_ref(0)?.as_blob()?)?,
        size: number(row, 1)?,
        last_used: time(row.get(2)?),
        pinned: row.get(3)?,
    })
}

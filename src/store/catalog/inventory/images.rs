//! Lists the images by the names that people know, and what each of them needs.

use std::ops::ControlFlow;
use std::time::SystemTime;

use rusqlite::{Row, params};

use super::scope::Scope;
use super::survey::{Survey, failed, number};
use super::tables::SHARED;
use crate::oci::{Digest, Repository, Tag};
use crate::store::catalog::key::{bad, digest, key, time};
use crate::store::{Error, Learned};

/// An image in the catalog: a tag, or a manifest that was pulled by its digest alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedImage {
    /// The registry.
    pub registry: String,
    /// The repository there.
    pub repository: Repository,
    /// The tag; `None` for a pull by digest only.
    pub tag: Option<Tag>,
    /// The manifest or index.
    pub digest: Digest,
    /// Whether it is known to be an index.
    pub is_index: bool,
}

/// How much of an image is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The bytes stored: manifests, configurations, layers.
    pub bytes: u64,
    /// Those of them that another image, or another name of this one, needs too.
    pub shared: u64,
    /// The listed content that is not stored: mostly other platforms.
    pub missing: u64,
    /// Whether a pull of what it is here for would need the registry: a manifest or a blob of a platform that is here is
    /// missing, or every platform is.
    pub is_incomplete: bool,
}

impl Survey {
    /// Visits the images in `scope`, by name; after [`Survey::read_all`]. `each` may stop it.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn images(
        &self,
        scope: &Scope,
        mut each: impl FnMut(CachedImage) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        // Sorted into a temporary table, so that a slow reader locks nothing of the catalog.
        let sorted = "DROP TABLE IF EXISTS temp.listed;
             CREATE TEMP TABLE listed AS SELECT registry, repository, tag, nodes.digest, is_index
                FROM roots JOIN places ON places.id = roots.place JOIN nodes ON nodes.id = roots.node
                ORDER BY registry, repository, tag IS NULL, tag, nodes.digest";
        self.on.execute_batch(sorted).map_err(failed)?;
        let (registry, repository, tag, one) = scope.columns();
        let mut statement = self
            .on
            .prepare_cached(
                "SELECT * FROM listed WHERE (?1 IS NULL OR registry = ?1) AND (?2 IS NULL OR repository = ?2)
                 AND (?3 IS NULL OR tag = ?3) AND (?4 IS NULL OR digest = ?4) ORDER BY rowid",
            )
            .map_err(failed)?;
        let mut rows = statement.query(params![registry, repository, tag, one]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            if each(held(row).map_err(failed)?)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Finds the content that more than one name needs. Before, [`Extent::shared`] is 0.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn find_shared(&self) -> Result<(), Error> {
        self.on.execute_batch(SHARED).map_err(failed)
    }

    /// How much of an image is stored.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn extent(&self, of: &Digest) -> Result<Extent, Error> {
        self.on
            .prepare_cached(
                "WITH RECURSIVE need(node) AS (SELECT id FROM nodes WHERE digest = ?1
                    UNION SELECT child FROM need JOIN edges ON parent = node)
                 SELECT coalesce(sum(size), 0), coalesce(sum(iif(shared.node IS NULL, 0, size)), 0),
                    count(*) - count(blobs.id),
                    EXISTS (SELECT 1 FROM nodes AS top WHERE top.digest = ?1
                        AND NOT EXISTS (SELECT 1 FROM blobs WHERE blobs.digest = top.digest))
                    OR EXISTS (SELECT 1 FROM need JOIN nodes AS above ON above.id = need.node AND NOT above.is_index
                        JOIN edges ON parent = above.id JOIN nodes AS below ON below.id = child
                        WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE blobs.digest = below.digest))
                    OR EXISTS (SELECT 1 FROM nodes AS top WHERE top.digest = ?1 AND top.is_index
                        AND NOT EXISTS (SELECT 1 FROM edges JOIN nodes AS below ON below.id = child
                            JOIN blobs ON blobs.digest = below.digest WHERE parent = top.id))
                 FROM need JOIN nodes ON nodes.id = need.node LEFT JOIN blobs ON blobs.digest = nodes.digest
                 LEFT JOIN shared ON shared.node = need.node",
            )
            .and_then(|mut statement| {
                statement.query_row([key(of)], |row| {
                    Ok(Extent {
                        bytes: number(row, 0)?,
                        shared: number(row, 1)?,
                        missing: number(row, 2)?,
                        is_incomplete: row.get(3)?,
                    })
                })
            })
            .map_err(failed)
    }

    /// The names of up to `count` images that need this digest; after [`Survey::read_all`].
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn needed_by(&self, of: &Digest, count: u32) -> Result<Vec<CachedImage>, Error> {
        self.on
            .prepare_cached(
                "WITH RECURSIVE up(node) AS (SELECT id FROM nodes WHERE digest = ?1
                    UNION SELECT parent FROM up JOIN edges ON child = node)
                 SELECT registry, repository, tag, nodes.digest, is_index FROM up JOIN roots ON roots.node = up.node
                 JOIN places ON places.id = roots.place JOIN nodes ON nodes.id = up.node
                 ORDER BY registry, repository, tag LIMIT ?2",
            )
            .and_then(|mut statement| statement.query_map(params![key(of), count], held)?.collect())
            .map_err(failed)
    }

    /// Up to `count` repositories that have a link to the digest.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn places(&self, of: &Digest, count: u32) -> Result<Vec<String>, Error> {
        self.on
            .prepare_cached(
                "SELECT DISTINCT registry || '/' || repository FROM links JOIN places ON places.id = links.place
                 WHERE digest = ?1 ORDER BY 1 LIMIT ?2",
            )
            .and_then(|mut statement| statement.query_map(params![key(of), count], |row| row.get(0))?.collect())
            .map_err(failed)
    }

    /// The repositories of the digest, each with the right by which it was learned and when the registry last confirmed
    /// it; up to `count`, the latest first. Of one repository only, where `place` names it.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn rights(
        &self,
        of: &Digest,
        place: Option<(&str, &Repository)>,
        count: u32,
    ) -> Result<Vec<(String, Learned, SystemTime)>, Error> {
        self.on
            .prepare_cached(
                "SELECT registry || '/' || repository, learned, max(proven) FROM links JOIN places ON places.id = links.place
                 WHERE digest = ?1 AND (?3 IS NULL OR registry = ?3) AND (?4 IS NULL OR repository = ?4)
                 GROUP BY 1, 2 ORDER BY 3 DESC LIMIT ?2",
            )
            .and_then(|mut statement| {
                let right = |row: &Row<'_>| {
                    let anonymously = row.get::<_, u8>(1)? == Learned::Anonymously as u8;
                    let learned = if anonymously { Learned::Anonymously } else { Learned::WithCredentials };
                    Ok((row.get(0)?, learned, time(row.get(2)?)))
                };
                let (registry, repository) = place.map(|(registry, repository)| (registry, repository.as_str())).unzip();
                statement.query_map(params![key(of), count, registry, repository], right)?.collect()
            })
            .map_err(failed)
    }

    /// When a tag was last checked at the registry; `None` for an unknown tag.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn checked(&self, registry: &str, repository: &Repository, tag: &Tag) -> Result<Option<SystemTime>, Error> {
        self.on
            .prepare_cached(
                "SELECT max(checked) FROM tags JOIN places ON places.id = tags.place
                 WHERE registry = ?1 AND repository = ?2 AND tag = ?3",
            )
            .and_then(|mut statement| {
                statement
                    .query_row(params![registry, repository.as_str(), tag.as_str()], |row| row.get::<_, Option<i64>>(0))
            })
            .map(|checked| checked.map(time))
            .map_err(failed)
    }

    /// The digests of a tag, for any class of `Accept`.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn tagged(&self, registry: &str, repository: &Repository, tag: &Tag) -> Result<Vec<Digest>, Error> {
        self.on
            .prepare_cached(
                "SELECT DISTINCT digest FROM tags JOIN places ON places.id = tags.place
                 WHERE registry = ?1 AND repository = ?2 AND tag = ?3 ORDER BY checked DESC",
            )
            .and_then(|mut statement| {
                statement
                    .query_map(params![registry, repository.as_str(), tag.as_str()], |row| {
                        digest(row.get_ref(0)?.as_blob()?)
                    })?
                    .collect()
            })
            .map_err(failed)
    }

    /// Up to `count` tags of a repository, the latest checked first.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn tags(&self, registry: &str, repository: &Repository, count: u32) -> Result<Vec<String>, Error> {
        self.on
            .prepare_cached(
                "SELECT tag FROM tags JOIN places ON places.id = tags.place
                 WHERE registry = ?1 AND repository = ?2 GROUP BY tag ORDER BY max(checked) DESC LIMIT ?3",
            )
            .and_then(|mut statement| {
                statement.query_map(params![registry, repository.as_str(), count], |row| row.get(0))?.collect()
            })
            .map_err(failed)
    }
}

fn held(row: &Row<'_>) -> rusqlite::Result<CachedImage> {
    let tag: Option<String> = row.get(2)?;
    Ok(CachedImage {
        registry: row.get(0)?,
        repository: row.get::<_, String>(1)?.parse().map_err(|_| bad("a repository"))?,
        tag: tag.map(|tag| tag.parse().map_err(|_| bad("a tag"))).transpose()?,
        digest: digest(row.get_ref(3)?.as_blob()?)?,
        is_index: row.get(4)?,
    })
}

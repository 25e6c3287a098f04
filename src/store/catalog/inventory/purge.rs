//! Plans what is removed with a name: content that something else needs stays.
//!
//! A tag, a link or a blob that appears between the plan and its execution may be removed too: the next pull fetches it
//! again. Readers of a blob keep its bytes.

use rusqlite::{Connection, params};

use super::scope::Scope;
use super::survey::{Survey, failed, node, number};
use super::tables::{DOOM, DOOMED};
use crate::oci::{Digest, Repository, Tag};
use crate::store::Error;
use crate::store::catalog::key::{bad, digest, key};

/// What is removed, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purge {
    /// Tags removed.
    pub tags: u64,
    /// Links removed.
    pub links: u64,
    /// Blobs removed, manifests included.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes of named content that stays, because something else needs it.
    pub kept: u64,
    /// Names that stay because they are pinned.
    pub spared: u64,
}

/// The pinned content, and whether it may be removed nevertheless.
#[derive(Clone, Copy, Debug)]
pub struct Spared<'a> {
    /// The pinned images' digests.
    pub pinned: &'a [Digest],
    /// Whether to ignore the pins.
    pub force: bool,
}

impl Survey {
    /// Plans the removal of `scope`; after [`Survey::read_all`], once for each survey.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn plan(&mut self, scope: &Scope, spared: Spared<'_>) -> Result<Purge, Error> {
        self.choose(scope, spared).and_then(|spared| self.total(spared)).map_err(failed)
    }

    fn choose(&mut self, scope: &Scope, spared: Spared<'_>) -> rusqlite::Result<u64> {
        let on = self.on.transaction()?;
        mark_pinned(&on, spared)?;
        let names = hit_tags(&on, scope, spared.force)?;
        let others = hit(&on, scope, spared.force)?;
        on.execute_batch(DOOM)?;
        if let Scope::Digest(one) | Scope::Here(_, _, one) = scope {
            // A layer that is named itself is removed even if images need it: they fetch it again.
            let layer = "DELETE FROM kept WHERE node = (SELECT id FROM nodes WHERE digest = ?1 AND manifest = 0)
                 AND node IN (SELECT node FROM gone)";
            on.execute(layer, [key(one)])?;
        }
        on.execute_batch(DOOMED)?;
        on.commit()?;
        let is_place = matches!(scope, Scope::Registry(_) | Scope::Repository(..) | Scope::Everything);
        Ok(if is_place { names } else { names.max(others.min(1)) })
    }

    fn total(&self, spared: u64) -> rusqlite::Result<Purge> {
        let one = |sql: &str| self.on.query_row(sql, [], |row| number(row, 0));
        let size = "FROM nodes JOIN blobs ON blobs.digest = nodes.digest WHERE nodes.id IN";
        Ok(Purge {
            tags: one("SELECT count(*) FROM hit_tags")?,
            links: one(&format!("SELECT count(*) {UNLINKED}"))?,
            blobs: one("SELECT count(*) FROM doomed")?,
            bytes: one(&format!("SELECT coalesce(sum(size), 0) {size} (SELECT node FROM doomed)"))?,
            kept: one(&format!(
                "SELECT coalesce(sum(size), 0) {size} (SELECT node FROM gone EXCEPT SELECT node FROM doomed)"
            ))?,
            spared,
        })
    }

    /// The tags to be removed.
    pub(crate) fn each_tag(&self, mut each: impl FnMut(String, Repository, Tag)) -> Result<(), Error> {
        self.each("SELECT registry, repository, tag FROM hit_tags JOIN places ON places.id = place", |row| {
            let repository = row.get::<_, String>(1)?.parse().map_err(|_| bad("a repository"))?;
            each(row.get(0)?, repository, row.get::<_, String>(2)?.parse().map_err(|_| bad("a tag"))?);
            Ok(())
        })
    }

    /// The links to be removed, as place numbers and digests.
    pub(crate) fn each_link(&self, mut each: impl FnMut(i64, Digest)) -> Result<(), Error> {
        self.each(&format!("SELECT DISTINCT gone.place, nodes.digest {UNLINKED}"), |row| {
            each(row.get(0)?, digest(row.get_ref(1)?.as_blob()?)?);
            Ok(())
        })
    }

    /// The blobs to be removed.
    pub(crate) fn doomed(&self) -> Result<Vec<Digest>, Error> {
        let mut all = Vec::new();
        self.each("SELECT digest FROM doomed JOIN nodes ON nodes.id = node", |row| {
            all.push(digest(row.get_ref(0)?.as_blob()?)?);
            Ok(())
        })?;
        Ok(all)
    }

    fn each(&self, sql: &str, mut each: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<()>) -> Result<(), Error> {
        let mut asked = || {
            let mut statement = self.on.prepare(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                each(row)?;
            }
            Ok(())
        };
        asked().map_err(failed)
    }
}

/// Marks the pinned content, stored or not.
fn mark_pinned(on: &Connection, spared: Spared<'_>) -> rusqlite::Result<()> {
    for one in spared.pinned {
        let id = node(on, one, true)?;
        on.execute(
            "WITH RECURSIVE need(node) AS (SELECT ?1 UNION SELECT child FROM need JOIN edges ON parent = node)
             INSERT OR IGNORE INTO pinned SELECT node, ?2 FROM need",
            (id, spared.force),
        )?;
    }
    on.execute(
        "INSERT OR IGNORE INTO pinned SELECT nodes.id, ?1 FROM blobs JOIN nodes ON nodes.digest = blobs.digest
         WHERE pinned",
        [spared.force],
    )
    .map(drop)
}

/// Finds the tags to be removed. Returns how many stay because they are pinned.
fn hit_tags(on: &Connection, scope: &Scope, force: bool) -> rusqlite::Result<u64> {
    let (registry, repository, tag, one) = scope.columns();
    on.execute(
        "INSERT INTO hit_tags SELECT DISTINCT place, tag FROM tags JOIN places ON places.id = place
         WHERE (?1 IS NULL OR registry = ?1) AND (?2 IS NULL OR repository = ?2)
         AND (?3 IS NULL OR tag = ?3) AND (?4 IS NULL OR digest = ?4)",
        params![registry, repository, tag, one],
    )?;
    if force {
        return Ok(0);
    }
    let spare = "DELETE FROM hit_tags WHERE EXISTS (SELECT 1 FROM tags JOIN nodes ON nodes.digest = tags.digest
            JOIN pinned ON pinned.node = nodes.id WHERE tags.place = hit_tags.place AND tags.tag = hit_tags.tag)";
    on.execute(spare, []).map(|count| count as u64)
}

/// Finds the named manifests and blobs. Returns how many stay because they are pinned.
fn hit(on: &Connection, scope: &Scope, force: bool) -> rusqlite::Result<u64> {
    // A manifest with another tag here stays.
    on.execute(
        "INSERT OR IGNORE INTO hit SELECT place, node FROM (SELECT DISTINCT roots.place, roots.node FROM hit_tags
            JOIN roots ON roots.place = hit_tags.place AND roots.tag = hit_tags.tag) AS named
         WHERE NOT EXISTS (SELECT 1 FROM roots AS other WHERE other.node = named.node
            AND other.place = named.place AND other.tag IS NOT NULL AND NOT EXISTS (SELECT 1 FROM hit_tags AS hits
                WHERE hits.place = other.place AND hits.tag = other.tag))",
        [],
    )?;
    let (registry, repository, tag, one) = scope.columns();
    if tag.is_none() {
        on.execute(
            "INSERT OR IGNORE INTO hit SELECT place, nodes.id FROM links JOIN places ON places.id = place
             JOIN nodes ON nodes.digest = links.digest
             WHERE (?1 IS NULL OR registry = ?1) AND (?2 IS NULL OR repository = ?2)
             AND (?3 IS NULL OR links.digest = ?3)",
            params![registry, repository, one],
        )?;
    }
    if let Scope::Digest(one) = scope {
        let id = node(on, one, false)?;
        on.execute("INSERT OR IGNORE INTO hit VALUES (0, ?1)", [id])?;
    }
    if force {
        return Ok(0);
    }
    on.execute("DELETE FROM hit WHERE node IN (SELECT node FROM pinned)", []).map(|count| count as u64)
}

const UNLINKED: &str = "FROM gone JOIN nodes ON nodes.id = gone.node
    JOIN links ON links.digest = nodes.digest AND links.place = gone.place
    WHERE NOT EXISTS (SELECT 1 FROM kept WHERE kept.place = gone.place AND kept.node = gone.node)";

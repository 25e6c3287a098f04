//! Sums the content of each registry, and counts content of several registries once.

use super::survey::{Survey, failed, number};
use super::tables::HELD;
use crate::store::Error;

/// The space of the content of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The registry.
    pub registry: String,
    /// The number of images by name.
    pub images: u64,
    /// The number of its blobs that are stored.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes that no other registry has.
    pub only_here: u64,
}

impl Survey {
    /// The space of the content of each registry, the largest first; after [`Survey::read_all`].
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn registries(&self) -> Result<Vec<Share>, Error> {
        let asked = || {
            self.on.execute_batch(HELD)?;
            let mut statement = self.on.prepare(
                "SELECT names.registry, images, count(blobs.id), coalesce(sum(size), 0),
                    coalesce(sum(iif(alone.node IS NULL, 0, size)), 0) AS alone
                 FROM (SELECT registry, count(roots.node) AS images FROM places LEFT JOIN roots ON roots.place = places.id
                    GROUP BY registry) AS names
                 LEFT JOIN held ON held.registry = names.registry LEFT JOIN nodes ON nodes.id = held.node
                 LEFT JOIN blobs ON blobs.digest = nodes.digest
                 LEFT JOIN (SELECT node FROM held GROUP BY node HAVING count(*) = 1) AS alone ON alone.node = held.node
                 GROUP BY names.registry ORDER BY 4 DESC, 1",
            )?;
            let shares = statement.query_map([], |row| {
                Ok(Share {
                    registry: row.get(0)?,
                    images: number(row, 1)?,
                    entries: number(row, 2)?,
                    bytes: number(row, 3)?,
                    only_here: number(row, 4)?,
                })
            })?;
            shares.collect::<rusqlite::Result<Vec<_>>>()
        };
        asked().map_err(failed)
    }

    /// The bytes of blobs that belong to several registries, to no known one, and that are pinned; after
    /// [`Survey::registries`].
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn sums(&self) -> Result<(u64, u64, u64), Error> {
        self.on
            .query_row(
                "SELECT coalesce(sum(iif(count > 1, size, 0)), 0), coalesce(sum(iif(count IS NULL, size, 0)), 0),
                    coalesce(sum(iif(pinned, size, 0)), 0)
                 FROM blobs LEFT JOIN nodes ON nodes.digest = blobs.digest
                 LEFT JOIN (SELECT node, count(*) AS count FROM held GROUP BY node) ON node = nodes.id",
                [],
                |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)),
            )
            .map(|(several, none, pinned)| {
                (several.max(0).cast_unsigned(), none.max(0).cast_unsigned(), pinned.max(0).cast_unsigned())
            })
            .map_err(failed)
    }
}

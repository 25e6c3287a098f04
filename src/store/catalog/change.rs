//! Defines the changes to the catalog, and applies each to the database in the order in which they were sent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::OwnedSemaphorePermit;

use super::entry::{Content, LINK_LIFE, Learned, Link, ListEntry, Ping, ScrubProgress, TagEntry};
use super::heat::{heat, heated};
use super::key::{key, micros};
use super::place::{
    forget_content, forget_list, forget_tag, prune, record_detour, record_link, record_list, record_ping,
    record_public, record_tag,
};
use crate::oci::{Accept, Digest, Repository, Tag};
use crate::store::checksums::Sums;
use crate::store::ledger::{Charge, Totals};

/// One change.
pub(crate) enum Change {
    /// A blob was committed, which counts as a use. Times are microseconds since 1970.
    Stored { digest: Digest, size: u64, at: i64, sums: Sums, charge: Charge },
    /// A blob was hashed and matches its digest.
    Proven { digest: Digest, size: u64, at: i64, sums: Sums },
    /// A blob of unknown origin was found in the folder.
    Found { digest: Digest, size: u64, at: i64 },
    /// A blob is gone, and its links with it.
    Gone { digest: Digest, charge: Option<Charge> },
    /// A digest is known in a place.
    Link(Link),
    /// The digest of a tag.
    Tag(TagEntry),
    /// A tag is gone, or no longer trusted.
    ForgetTag { registry: String, repository: Repository, tag: Tag, only: Option<(Accept, Learned)> },
    /// A list that a registry answered, and the place that it takes in the queue.
    List { entry: Box<ListEntry>, _room: OwnedSemaphorePermit },
    /// A list is gone, or no longer true.
    ForgetList { registry: String, repository: Repository, target: Arc<str> },
    /// A place no longer has a content: its link goes, and every tag there that means it.
    ForgetContent { registry: String, repository: Repository, digest: Digest, content: Content },
    /// What a registry answered.
    Ping(Ping),
    /// The time when a registry said that anyone may read a repository, in microseconds since 1970; `None` that nobody
    /// may.
    Public { registry: String, repository: Repository, proven: Option<i64> },
    /// Answers for a repository were redirected to a repository (empty: any) at another host.
    Detour { registry: String, repository: Repository, host: String, to: String, seen: i64 },
    /// The times when blobs were last used, in microseconds since 1970.
    Used(HashMap<Digest, i64>),
    /// A place no longer has a digest.
    Unlink { place: i64, digest: Digest },
    /// A blob is pinned or unpinned, even if it is gone now and comes back later.
    Pin { digest: Digest, pinned: bool },
    /// The position of the scrub.
    Scrubbed(ScrubProgress),
    /// Links proven before this time expire, and so do public repositories. A time after `now`, from a clock that was
    /// ahead, becomes one with half of its life left, which is old enough to be checked again.
    Expire { before: i64, now: i64 },
    /// Tags last checked before `tags` are removed, tag history before `history`, and places of which nothing is known
    /// any more.
    Prune { tags: i64, history: i64 },
}

impl Change {
    /// Takes the charge, to release it.
    pub(crate) fn charge(self) -> Option<Charge> {
        match self {
            Self::Stored { charge, .. } => Some(charge),
            Self::Gone { charge, .. } => charge,
            _ => None,
        }
    }

    /// Whether folder and catalog differ if this change is lost.
    pub(crate) fn is_about_blobs(&self) -> bool {
        matches!(self, Self::Stored { .. } | Self::Proven { .. } | Self::Found { .. } | Self::Gone { .. })
    }

    /// Whether it withdraws a right: a lost withdrawal would grant the right again.
    pub(crate) fn is_withdrawal(&self) -> bool {
        matches!(self, Self::Public { proven: None, .. })
    }

    /// Writes the change, and adds it to the totals. Applying it twice has the effect of applying it once.
    pub(crate) fn apply(&self, on: &Connection, totals: &mut Totals) -> rusqlite::Result<()> {
        match self {
            Self::Stored { digest, size, at, sums, .. } => {
                stored(on, totals, digest, *size, *at, sums)?;
                record_use(on, &key(digest), *at)
            }
            Self::Proven { digest, size, at, sums } => stored(on, totals, digest, *size, *at, sums),
            Self::Found { digest, size, at } => found(on, totals, digest, *size, *at),
            Self::Gone { digest, .. } => gone(on, totals, digest),
            Self::Link(link) => record_link(on, link),
            Self::Tag(entry) => record_tag(on, entry),
            Self::ForgetTag { registry, repository, tag, only } => forget_tag(on, registry, repository, tag, *only),
            Self::List { entry, .. } => record_list(on, entry),
            Self::ForgetList { registry, repository, target } => forget_list(on, registry, repository, target),
            Self::ForgetContent { registry, repository, digest, content } => {
                forget_content(on, (registry, repository), digest, *content)
            }
            Self::Ping(ping) => record_ping(on, ping),
            Self::Public { registry, repository, proven } => record_public(on, registry, repository, *proven),
            Self::Detour { registry, repository, host, to, seen } => {
                record_detour(on, (registry, repository), (host, to), *seen)
            }
            Self::Unlink { place, digest } => on
                .prepare_cached("DELETE FROM links WHERE digest = ?1 AND place = ?2")?
                .execute((key(digest), place))
                .map(drop),
            Self::Used(uses) => uses.iter().try_for_each(|(digest, at)| record_use(on, &key(digest), *at)),
            Self::Pin { digest, pinned } => pin(on, digest, *pinned),
            Self::Scrubbed(ScrubProgress { after, ended }) => on
                .prepare_cached("UPDATE totals SET scrubbed = ?1, scrub_ended = max(scrub_ended, ?2)")?
                .execute([after, ended])
                .map(drop),
            Self::Expire { before, now } => {
                let between = before.midpoint(*now);
                on.prepare_cached("UPDATE links SET proven = ?1 WHERE proven > ?2")?.execute([&between, now])?;
                on.prepare_cached("UPDATE public SET proven = ?1 WHERE proven > ?2")?.execute([&between, now])?;
                on.prepare_cached("UPDATE tags SET checked = ?1 WHERE checked > ?2")?.execute([&between, now])?;
                on.prepare_cached("UPDATE lists SET asked = ?1 WHERE asked > ?2")?.execute([&between, now])?;
                on.prepare_cached("DELETE FROM lists WHERE asked < ?1")?.execute([before])?;
                on.prepare_cached("UPDATE detours SET seen = ?1 WHERE seen > ?2")?.execute([now, now])?;
                on.prepare_cached("DELETE FROM links WHERE proven < ?1")?.execute([before])?;
                // A link that was brought by a redirect may be proven again and again without another one.
                let unused = "DELETE FROM detours WHERE seen < ?1 AND place NOT IN (SELECT place FROM links)";
                on.prepare_cached(unused)?.execute([before])?;
                on.prepare_cached("DELETE FROM public WHERE proven < ?1")?.execute([before]).map(drop)
            }
            Self::Prune { tags, history } => prune(on, *tags, *history),
        }
    }
}

impl Change {
    /// Expires links and public marks by the clock.
    pub(crate) fn expire() -> Self {
        let now = SystemTime::now();
        Self::Expire { before: micros(now - LINK_LIFE), now: micros(now) }
    }
}

/// The row's number and size.
fn row_of(on: &Connection, key: &[u8]) -> rusqlite::Result<Option<(i64, i64)>> {
    on.prepare_cached("SELECT id, size FROM blobs WHERE digest = ?1")?
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// A new row has the heat of one use at `at`.
fn insert(on: &Connection, key: &[u8], size: i64, at: i64, proven: bool) -> rusqlite::Result<i64> {
    on.prepare_cached(
        "INSERT INTO blobs (digest, size, stored, last_used, proven, pinned, heat)
         VALUES (?1, ?2, ?3, ?3, ?4, EXISTS (SELECT 1 FROM pins WHERE digest = ?1), ?5)",
    )?
    .execute(params![key, size, at, proven, heat(at)])?;
    Ok(on.last_insert_rowid())
}

fn stored(
    on: &Connection,
    totals: &mut Totals,
    digest: &Digest,
    size: u64,
    at: i64,
    sums: &Sums,
) -> rusqlite::Result<()> {
    let (key, size) = (key(digest), size.cast_signed());
    let id = match row_of(on, &key)? {
        Some((id, before)) => {
            on.prepare_cached("UPDATE blobs SET size = ?2, proven = 1 WHERE id = ?1")?.execute((id, size))?;
            totals.bytes += size - before;
            id
        }
        None => {
            let id = insert(on, &key, size, at, true)?;
            totals.bytes += size;
            totals.entries += 1;
            id
        }
    };
    on.prepare_cached("INSERT OR REPLACE INTO checksums (blob, crc32c) VALUES (?1, ?2)")?
        .execute((id, sums.encode()))
        .map(drop)
}

fn found(on: &Connection, totals: &mut Totals, digest: &Digest, size: u64, at: i64) -> rusqlite::Result<()> {
    let (key, size) = (key(digest), size.cast_signed());
    if row_of(on, &key)?.is_none() {
        insert(on, &key, size, at, false)?;
        totals.bytes += size;
        totals.entries += 1;
    }
    Ok(())
}

fn gone(on: &Connection, totals: &mut Totals, digest: &Digest) -> rusqlite::Result<()> {
    let key = key(digest);
    if let Some((id, size)) = row_of(on, &key)? {
        on.prepare_cached("DELETE FROM checksums WHERE blob = ?1")?.execute([id])?;
        on.prepare_cached("DELETE FROM blobs WHERE id = ?1")?.execute([id])?;
        totals.bytes -= size;
        totals.entries -= 1;
    }
    on.prepare_cached("DELETE FROM links WHERE digest = ?1")?.execute([&key]).map(drop)
}

fn record_use(on: &Connection, key: &[u8], at: i64) -> rusqlite::Result<()> {
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let row: Option<(i64, i64, f64)> = on
        .prepare_cached("SELECT id, last_used, heat FROM blobs WHERE digest = ?1")?
        .query_row([key], read)
        .optional()?;
    let Some((id, last_used, before)) = row.filter(|(_, last_used, _)| *last_used < at) else { return Ok(()) };
    on.prepare_cached("UPDATE blobs SET last_used = ?2, heat = ?3 WHERE id = ?1")?
        .execute((id, at, heated(before, last_used, at)))
        .map(drop)
}

fn pin(on: &Connection, digest: &Digest, pinned: bool) -> rusqlite::Result<()> {
    let key = key(digest);
    let pins = if pinned { "INSERT OR IGNORE INTO pins VALUES (?1)" } else { "DELETE FROM pins WHERE digest = ?1" };
    on.prepare_cached(pins)?.execute([&key])?;
    on.prepare_cached("UPDATE blobs SET pinned = ?2 WHERE digest = ?1")?.execute((&key, pinned)).map(drop)
}

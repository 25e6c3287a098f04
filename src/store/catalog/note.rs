//! The changes to the catalog: each is one note, applied in the order they were sent.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::entry::{Link, Ping, TagEntry};
use super::key::{key, micros};
use crate::oci::{Digest, Repository, Tag};
use crate::store::ledger::{Charge, Totals};

/// One change.
pub(in crate::store) enum Note {
    /// A blob was committed, or hashed and found good. Times in microseconds since 1970.
    Stored { digest: Digest, size: u64, at: i64, charge: Option<Charge> },
    /// A blob lies in the folder, and nobody knows how it got there.
    Found { digest: Digest, size: u64, at: i64 },
    /// A blob is gone, and with it its links.
    Gone { digest: Digest, charge: Option<Charge> },
    /// A digest is known in a place.
    Link(Link),
    /// What a tag is.
    Tag(TagEntry),
    /// A tag is no more, or not to be trusted.
    ForgetTag { registry: String, repository: Repository, tag: Tag },
    /// What a registry answered.
    Ping(Ping),
    /// When blobs were last used, in microseconds since 1970.
    Used(HashMap<Digest, i64>),
    /// A place has a digest no more.
    Unlink { place: i64, digest: Digest },
    /// Eviction passes a blob by, or does so no more.
    Pin { digest: Digest, pinned: bool },
    /// Links proven before this time die.
    Expire { before: i64 },
}

impl Note {
    /// Takes the charge out, to be settled.
    pub(super) fn charge(self) -> Option<Charge> {
        match self {
            Self::Stored { charge, .. } | Self::Gone { charge, .. } => charge,
            _ => None,
        }
    }

    /// The blob that it says is here.
    pub(super) fn arrived(&self) -> Option<Digest> {
        match self {
            Self::Stored { digest, .. } | Self::Found { digest, .. } => Some(*digest),
            _ => None,
        }
    }

    /// Whether the folder and the catalog differ if this is lost.
    pub(super) fn is_about_blobs(&self) -> bool {
        matches!(self, Self::Stored { .. } | Self::Found { .. } | Self::Gone { .. })
    }

    /// Writes it, and what it does to the totals. Applying a note twice is applying it once.
    pub(super) fn apply(&self, on: &Connection, totals: &mut Totals) -> rusqlite::Result<()> {
        match self {
            Self::Stored { digest, size, at, .. } => stored(on, totals, digest, *size, *at),
            Self::Found { digest, size, at } => found(on, totals, digest, *size, *at),
            Self::Gone { digest, .. } => gone(on, totals, digest),
            Self::Link(link) => note_link(on, link),
            Self::Tag(entry) => note_tag(on, entry),
            Self::ForgetTag { registry, repository, tag } => forget_tag(on, registry, repository, tag),
            Self::Ping(ping) => note_ping(on, ping),
            Self::Used(uses) => note_uses(on, uses),
            Self::Unlink { place, digest } => on
                .prepare_cached("DELETE FROM links WHERE digest = ?1 AND place = ?2")?
                .execute((key(digest), place))
                .map(drop),
            Self::Pin { digest, pinned } => on
                .prepare_cached("UPDATE blobs SET pinned = ?2 WHERE digest = ?1")?
                .execute((key(digest), pinned))
                .map(drop),
            Self::Expire { before } => {
                on.prepare_cached("DELETE FROM links WHERE proven < ?1")?.execute([before]).map(drop)
            }
        }
    }
}

fn size_of(on: &Connection, key: &[u8]) -> rusqlite::Result<Option<i64>> {
    on.prepare_cached("SELECT size FROM blobs WHERE digest = ?1")?.query_row([key], |row| row.get(0)).optional()
}

fn stored(on: &Connection, totals: &mut Totals, digest: &Digest, size: u64, at: i64) -> rusqlite::Result<()> {
    let (key, size) = (key(digest), size.cast_signed());
    let before = size_of(on, &key)?;
    on.prepare_cached(
        "INSERT INTO blobs (digest, size, stored, last_used, proven) VALUES (?1, ?2, ?3, ?3, 1)
         ON CONFLICT (digest) DO UPDATE SET size = ?2, proven = 1, last_used = max(last_used, ?3)",
    )?
    .execute(params![key, size, at])?;
    totals.bytes += size - before.unwrap_or(0);
    totals.entries += i64::from(before.is_none());
    Ok(())
}

fn found(on: &Connection, totals: &mut Totals, digest: &Digest, size: u64, at: i64) -> rusqlite::Result<()> {
    let size = size.cast_signed();
    let rows = on
        .prepare_cached(
            "INSERT INTO blobs (digest, size, stored, last_used, proven) VALUES (?1, ?2, ?3, ?3, 0)
             ON CONFLICT (digest) DO NOTHING",
        )?
        .execute(params![key(digest), size, at])?;
    if rows > 0 {
        totals.bytes += size;
        totals.entries += 1;
    }
    Ok(())
}

fn gone(on: &Connection, totals: &mut Totals, digest: &Digest) -> rusqlite::Result<()> {
    let key = key(digest);
    let before = size_of(on, &key)?;
    on.prepare_cached("DELETE FROM blobs WHERE digest = ?1")?.execute([&key])?;
    on.prepare_cached("DELETE FROM links WHERE digest = ?1")?.execute([&key])?;
    if let Some(size) = before {
        totals.bytes -= size;
        totals.entries -= 1;
    }
    Ok(())
}

/// The place's number, given now if it has none.
fn place(on: &Connection, registry: &str, repository: &Repository) -> rusqlite::Result<i64> {
    let known = super::look::place(on, registry, repository)?;
    if let Some(id) = known {
        return Ok(id);
    }
    on.prepare_cached("INSERT INTO places (registry, repository) VALUES (?1, ?2)")?
        .execute(params![registry, repository.as_str()])?;
    Ok(on.last_insert_rowid())
}

fn note_link(on: &Connection, link: &Link) -> rusqlite::Result<()> {
    let place = place(on, &link.registry, &link.repository)?;
    on.prepare_cached(
        "INSERT INTO links (digest, place, content, learned, media_type, proven) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET media_type = coalesce(?5, media_type), proven = max(proven, ?6)",
    )?
    .execute(params![
        key(&link.digest),
        place,
        link.content as u8,
        link.learned as u8,
        link.media_type,
        micros(link.proven)
    ])?;
    Ok(())
}

fn note_tag(on: &Connection, entry: &TagEntry) -> rusqlite::Result<()> {
    let place = place(on, &entry.registry, &entry.repository)?;
    let (tag, digest, checked) = (entry.tag.as_str(), key(&entry.digest), micros(entry.checked));
    on.prepare_cached(
        "INSERT INTO tags (place, tag, accept, learned, digest, media_type, size, checked)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT DO UPDATE SET digest = ?5, media_type = ?6, size = ?7, checked = ?8",
    )?
    .execute(params![
        place,
        tag,
        entry.accept.code(),
        entry.learned as u8,
        digest,
        entry.media_type,
        entry.size.cast_signed(),
        checked
    ])?;
    on.prepare_cached(
        "INSERT INTO history (place, tag, digest, first, last) VALUES (?1, ?2, ?3, ?4, ?4)
         ON CONFLICT DO UPDATE SET first = min(first, ?4), last = max(last, ?4)",
    )?
    .execute(params![place, tag, digest, checked])?;
    Ok(())
}

fn forget_tag(on: &Connection, registry: &str, repository: &Repository, tag: &Tag) -> rusqlite::Result<()> {
    let Some(place) = super::look::place(on, registry, repository)? else { return Ok(()) };
    on.prepare_cached("DELETE FROM tags WHERE place = ?1 AND tag = ?2")?.execute(params![place, tag.as_str()])?;
    Ok(())
}

fn note_ping(on: &Connection, ping: &Ping) -> rusqlite::Result<()> {
    let headers = serde_json::to_string(&ping.headers).unwrap_or_else(|_| "[]".into());
    on.prepare_cached("INSERT OR REPLACE INTO pings (registry, status, headers, seen) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![&*ping.registry, ping.status, headers, micros(ping.seen)])?;
    Ok(())
}

fn note_uses(on: &Connection, uses: &HashMap<Digest, i64>) -> rusqlite::Result<()> {
    let mut update = on.prepare_cached("UPDATE blobs SET last_used = max(last_used, ?2) WHERE digest = ?1")?;
    for (digest, at) in uses {
        update.execute(params![key(digest), at])?;
    }
    Ok(())
}

//! Looks up places, tags, links, lists and pings in the catalog.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::entry::{Content, Learned, Link, ListEntry, Ping, TagEntry};
use super::key::{bad, digest, key, time};
use crate::oci::{Accept, Digest, Repository, Tag};

/// The place's number, if anything was ever recorded there.
pub(crate) fn place(on: &Connection, registry: &str, repository: &Repository) -> rusqlite::Result<Option<i64>> {
    on.prepare_cached("SELECT id FROM places WHERE registry = ?1 AND repository = ?2")?
        .query_row(params![registry, repository.as_str()], |row| row.get(0))
        .optional()
}

/// The digest's links in a place that were proven at `since` or later (microseconds since 1970).
pub(crate) fn links(
    on: &Connection,
    registry: &Arc<str>,
    repository: &Repository,
    digest: &Digest,
    since: i64,
) -> rusqlite::Result<Vec<Link>> {
    let Some(place) = place(on, registry, repository)? else { return Ok(Vec::new()) };
    let read = |row: &Row<'_>| {
        Ok(Link {
            registry: Arc::clone(registry),
            repository: repository.clone(),
            digest: *digest,
            content: content(row.get(0)?)?,
            learned: learned(row.get(1)?)?,
            media_type: row.get(2)?,
            proven: time(row.get(3)?),
        })
    };
    on.prepare_cached(
        "SELECT content, learned, media_type, proven FROM links WHERE digest = ?1 AND place = ?2 AND proven >= ?3",
    )?
    .query_map(params![key(digest), place, since], read)?
    .collect()
}

/// Whether the word of `registry` is enough proof for the digest: it is or was readable without credentials somewhere,
/// or this registry itself proved it.
pub(crate) fn is_shared(on: &Connection, registry: &str, digest: &Digest, since: i64) -> rusqlite::Result<bool> {
    on.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM links JOIN places ON places.id = links.place
         WHERE digest = ?1 AND links.proven >= ?2 AND (learned = ?3 OR registry = ?4
             OR EXISTS (SELECT 1 FROM public WHERE public.place = links.place AND public.proven >= ?2)))",
    )?
    .query_row(params![key(digest), since, Learned::Anonymously as u8, registry], |row| row.get(0))
}

/// When a registry last said that anyone may read a repository (microseconds since 1970).
pub(crate) fn public(on: &Connection, registry: &str, repository: &Repository) -> rusqlite::Result<Option<i64>> {
    let Some(place) = place(on, registry, repository)? else { return Ok(None) };
    on.prepare_cached("SELECT proven FROM public WHERE place = ?1")?.query_row([place], |row| row.get(0)).optional()
}

/// Where answers for a repository were redirected to: host, and repository or nothing.
pub(crate) fn detours(
    on: &Connection,
    registry: &str,
    repository: &Repository,
) -> rusqlite::Result<Vec<(String, String)>> {
    let Some(place) = place(on, registry, repository)? else { return Ok(Vec::new()) };
    on.prepare_cached("SELECT host, repository FROM detours WHERE place = ?1")?
        .query_map([place], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// The registry and the repository that the digest was last proven in.
pub(crate) fn home(on: &Connection, digest: &Digest) -> rusqlite::Result<Option<(String, String)>> {
    on.prepare_cached(
        "SELECT registry, repository FROM links JOIN places ON places.id = links.place
         WHERE digest = ?1 ORDER BY links.proven DESC LIMIT 1",
    )?
    .query_row([key(digest)], |row| Ok((row.get(0)?, row.get(1)?)))
    .optional()
}

/// Whether the blob is stored.
pub(crate) fn is_there(on: &Connection, digest: &Digest) -> rusqlite::Result<bool> {
    on.prepare_cached("SELECT EXISTS (SELECT 1 FROM blobs WHERE digest = ?1)")?
        .query_row([key(digest)], |row| row.get(0))
}

/// All records of a tag.
pub(crate) fn tags(
    on: &Connection,
    registry: &Arc<str>,
    repository: &Repository,
    tag: &Tag,
) -> rusqlite::Result<Vec<TagEntry>> {
    let Some(place) = place(on, registry, repository)? else { return Ok(Vec::new()) };
    let read = |row: &Row<'_>| {
        Ok(TagEntry {
            registry: Arc::clone(registry),
            repository: repository.clone(),
            tag: tag.clone(),
            accept: Accept::from_code(row.get(0)?),
            learned: learned(row.get(1)?)?,
            digest: digest(row.get_ref(2)?.as_blob()?)?,
            media_type: row.get(3)?,
            size: row.get::<_, i64>(4)?.cast_unsigned(),
            checked: time(row.get(5)?),
        })
    };
    on.prepare_cached(
        "SELECT accept, learned, digest, media_type, size, checked FROM tags WHERE place = ?1 AND tag = ?2",
    )?
    .query_map(params![place, tag.as_str()], read)?
    .collect()
}

/// The tags of a place that were checked last, at most so many, each with a class of `Accept`.
pub(crate) fn latest_tags(
    on: &Connection,
    registry: &str,
    repository: &Repository,
    most: u32,
) -> rusqlite::Result<Vec<(Tag, Accept)>> {
    let Some(place) = place(on, registry, repository)? else { return Ok(Vec::new()) };
    // MAX makes SQLite take `accept` from the row that has it.
    on.prepare_cached(
        "SELECT tag, accept, MAX(checked) FROM tags WHERE place = ?1 GROUP BY tag ORDER BY 3 DESC LIMIT ?2",
    )?
    .query_map(params![place, most], |row| {
        let tag = row.get_ref(0)?.as_str()?.parse().map_err(|_| bad("a tag"))?;
        Ok((tag, Accept::from_code(row.get(1)?)))
    })?
    .collect()
}

/// Every digest that a tag has had, with its first and its last time (microseconds since 1970),
/// the latest first.
pub(crate) fn history(
    on: &Connection,
    registry: &str,
    repository: &Repository,
    tag: &Tag,
) -> rusqlite::Result<Vec<(Digest, i64, i64)>> {
    let Some(place) = place(on, registry, repository)? else { return Ok(Vec::new()) };
    on.prepare_cached("SELECT digest, first, last FROM history WHERE place = ?1 AND tag = ?2 ORDER BY last DESC")?
        .query_map(params![place, tag.as_str()], |row| {
            Ok((digest(row.get_ref(0)?.as_blob()?)?, row.get(1)?, row.get(2)?))
        })?
        .collect()
}

/// Whether the digest is pinned, stored or not.
pub(crate) fn is_pinned(on: &Connection, digest: &Digest) -> rusqlite::Result<bool> {
    on.prepare_cached("SELECT EXISTS (SELECT 1 FROM pins WHERE digest = ?1)")?
        .query_row([key(digest)], |row| row.get(0))
}

/// The last list for a query, if it was asked for at `since` or later (microseconds since 1970).
pub(crate) fn list(
    on: &Connection,
    registry: &Arc<str>,
    repository: &Repository,
    target: &Arc<str>,
    since: i64,
) -> rusqlite::Result<Option<ListEntry>> {
    let Some(place) = place(on, registry, repository)? else { return Ok(None) };
    let read = |row: &Row<'_>| {
        Ok(ListEntry {
            registry: Arc::clone(registry),
            repository: repository.clone(),
            target: Arc::clone(target),
            headers: serde_json::from_str(row.get_ref(0)?.as_str()?).map_err(|_| bad("headers"))?,
            body: row.get::<_, Vec<u8>>(1)?.into(),
            asked: time(row.get(2)?),
        })
    };
    on.prepare_cached("SELECT headers, body, asked FROM lists WHERE place = ?1 AND target = ?2 AND asked >= ?3")?
        .query_row(params![place, &**target, since], read)
        .optional()
}

/// The repositories of a registry that have a link or a tag, in order, after a name: at most so many.
pub(crate) fn repositories(
    on: &Connection,
    registry: &str,
    after: &str,
    most: u32,
) -> rusqlite::Result<Vec<Repository>> {
    on.prepare_cached(
        "SELECT repository FROM places WHERE registry = ?1 AND repository > ?2
         AND (id IN (SELECT place FROM tags) OR id IN (SELECT place FROM links))
         ORDER BY repository LIMIT ?3",
    )?
    .query_map(params![registry, after, most], |row| {
        row.get_ref(0)?.as_str()?.parse().map_err(|_| bad("a repository"))
    })?
    .collect()
}

/// A registry's last answer to `GET /v2/`.
pub(crate) fn ping(on: &Connection, registry: &Arc<str>) -> rusqlite::Result<Option<Ping>> {
    let read = |row: &Row<'_>| {
        let headers = serde_json::from_str(row.get_ref(1)?.as_str()?).map_err(|_| bad("headers"))?;
        Ok(Ping { registry: Arc::clone(registry), status: row.get(0)?, headers, seen: time(row.get(2)?) })
    };
    on.prepare_cached("SELECT status, headers, seen FROM pings WHERE registry = ?1")?
        .query_row([&**registry], read)
        .optional()
}

fn content(code: u8) -> rusqlite::Result<Content> {
    [Content::Manifest, Content::Blob].into_iter().find(|known| *known as u8 == code).ok_or_else(|| bad("a content"))
}

fn learned(code: u8) -> rusqlite::Result<Learned> {
    let known = [Learned::Anonymously, Learned::WithCredentials];
    known.into_iter().find(|known| *known as u8 == code).ok_or_else(|| bad("a way of learning"))
}

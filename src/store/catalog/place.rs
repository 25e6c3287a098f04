//! Writes and removes what is known of places: links, tags with their history, lists, pings, public repositories.

use rusqlite::{Connection, params};

use super::entry::{Content, Learned, Link, ListEntry, Ping, TagEntry};
use super::key::{key, micros};
use crate::oci::{Accept, Digest, Repository, Tag};

/// The number of digests kept of a tag's history: the latest ones.
const PAST: i64 = 64;
/// The most lists that are kept, the latest ones, and the bytes of all.
const LISTS: i64 = 1024;
const LIST_BYTES: i64 = 16 << 20;

/// The place's number, assigned now if it has none.
fn place(on: &Connection, registry: &str, repository: &Repository) -> rusqlite::Result<i64> {
    let known = super::query::place(on, registry, repository)?;
    if let Some(id) = known {
        return Ok(id);
    }
    on.prepare_cached("INSERT INTO places (registry, repository) VALUES (?1, ?2)")?
        .execute(params![registry, repository.as_str()])?;
    Ok(on.last_insert_rowid())
}

pub(crate) fn record_link(on: &Connection, link: &Link) -> rusqlite::Result<()> {
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

pub(crate) fn record_tag(on: &Connection, entry: &TagEntry) -> rusqlite::Result<()> {
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
    on.prepare_cached(
        "DELETE FROM history WHERE place = ?1 AND tag = ?2 AND last < (
         SELECT last FROM history WHERE place = ?1 AND tag = ?2 ORDER BY last DESC LIMIT 1 OFFSET ?3)",
    )?
    .execute(params![place, tag, PAST - 1])
    .map(drop)
}

pub(crate) fn prune(on: &Connection, tags: i64, history: i64) -> rusqlite::Result<()> {
    on.prepare_cached("DELETE FROM tags WHERE checked < ?1")?.execute([tags])?;
    on.prepare_cached("DELETE FROM history WHERE last < ?1")?.execute([history])?;
    on.prepare_cached(
        "DELETE FROM places WHERE id NOT IN (
         SELECT place FROM links UNION SELECT place FROM tags UNION SELECT place FROM history
         UNION SELECT place FROM public UNION SELECT place FROM detours UNION SELECT place FROM lists)",
    )?
    .execute([])
    .map(drop)
}

pub(crate) fn forget_tag(
    on: &Connection,
    registry: &str,
    repository: &Repository,
    tag: &Tag,
    only: Option<(Accept, Learned)>,
) -> rusqlite::Result<()> {
    let Some(place) = super::query::place(on, registry, repository)? else { return Ok(()) };
    let (accept, learned) = only.map(|(accept, learned)| (accept.code(), learned as u8)).unzip();
    on.prepare_cached(
        "DELETE FROM tags WHERE place = ?1 AND tag = ?2 AND ifnull(accept = ?3, 1) AND ifnull(learned = ?4, 1)",
    )?
    .execute(params![place, tag.as_str(), accept, learned])?;
    Ok(())
}

pub(crate) fn record_list(on: &Connection, entry: &ListEntry) -> rusqlite::Result<()> {
    let place = place(on, &entry.registry, &entry.repository)?;
    let headers = serde_json::to_string(&entry.headers).unwrap_or_else(|_| "[]".into());
    let bytes = i64::try_from(entry.target.len() + headers.len() + entry.body.len()).unwrap_or(i64::MAX);
    on.prepare_cached(
        "INSERT OR REPLACE INTO lists (place, target, headers, body, bytes, asked) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![place, &*entry.target, headers, &*entry.body, bytes, micros(entry.asked)])?;
    // By the index alone: the bodies are not read.
    on.prepare_cached(
        "DELETE FROM lists WHERE rowid IN (SELECT rowid FROM (SELECT rowid,
            sum(bytes) OVER latest AS total, row_number() OVER latest AS number FROM lists
            WINDOW latest AS (ORDER BY asked DESC, rowid DESC))
         WHERE total > ?1 OR number > ?2)",
    )?
    .execute([LIST_BYTES, LISTS])
    .map(drop)
}

pub(crate) fn forget_list(
    on: &Connection,
    registry: &str,
    repository: &Repository,
    target: &str,
) -> rusqlite::Result<()> {
    let Some(place) = super::query::place(on, registry, repository)? else { return Ok(()) };
    on.prepare_cached("DELETE FROM lists WHERE place = ?1 AND target = ?2")?.execute(params![place, target]).map(drop)
}

/// Removes the link of a content that a place no longer has; of a manifest the tags too.
pub(crate) fn forget_content(
    on: &Connection,
    (registry, repository): (&str, &Repository),
    digest: &Digest,
    content: Content,
) -> rusqlite::Result<()> {
    let Some(place) = super::query::place(on, registry, repository)? else { return Ok(()) };
    on.prepare_cached("DELETE FROM links WHERE digest = ?1 AND place = ?2 AND content = ?3")?.execute(params![
        key(digest),
        place,
        content as u8
    ])?;
    if content == Content::Manifest {
        on.prepare_cached("DELETE FROM tags WHERE place = ?1 AND digest = ?2")?.execute(params![place, key(digest)])?;
    }
    Ok(())
}

pub(crate) fn record_ping(on: &Connection, ping: &Ping) -> rusqlite::Result<()> {
    let headers = serde_json::to_string(&ping.headers).unwrap_or_else(|_| "[]".into());
    on.prepare_cached("INSERT OR REPLACE INTO pings (registry, status, headers, seen) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![&*ping.registry, ping.status, headers, micros(ping.seen)])?;
    Ok(())
}

/// Records that answers for the repository were redirected to `repository` (empty: any) at `host`.
pub(crate) fn record_detour(
    on: &Connection,
    (registry, repository): (&str, &Repository),
    (host, to): (&str, &str),
    seen: i64,
) -> rusqlite::Result<()> {
    let place = place(on, registry, repository)?;
    on.prepare_cached("INSERT OR REPLACE INTO detours (place, host, repository, seen) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![place, host, to, seen])
        .map(drop)
}

pub(crate) fn record_public(
    on: &Connection,
    registry: &str,
    repository: &Repository,
    proven: Option<i64>,
) -> rusqlite::Result<()> {
    let place = place(on, registry, repository)?;
    let Some(proven) = proven else {
        return on.prepare_cached("DELETE FROM public WHERE place = ?1")?.execute([place]).map(drop);
    };
    on.prepare_cached("INSERT OR REPLACE INTO public (place, proven) VALUES (?1, ?2)")?
        .execute((place, proven))
        .map(drop)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::oci::Algorithm;
    use crate::store::catalog::change::Change;
    use crate::store::ledger::Totals;

    fn at(second: u64) -> std::time::SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    fn entry(repository: &str, digest: u64, checked: u64) -> TagEntry {
        TagEntry {
            registry: "quay.io".into(),
            repository: repository.parse().unwrap(),
            tag: "1".parse().unwrap(),
            accept: Accept::EVERYTHING,
            digest: Digest::of(Algorithm::Sha256, &digest.to_le_bytes()),
            media_type: "application/json".into(),
            size: 2,
            checked: at(checked),
            learned: Learned::Anonymously,
        }
    }

    fn link(repository: &str) -> Link {
        Link {
            registry: "quay.io".into(),
            repository: repository.parse().unwrap(),
            digest: Digest::of(Algorithm::Sha256, b"x"),
            content: Content::Blob,
            media_type: None,
            learned: Learned::Anonymously,
            proven: at(1000),
        }
    }

    fn made() -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        crate::store::catalog::schema::make(&mut connection).unwrap();
        connection
    }

    fn apply(on: &Connection, change: Change) {
        change.apply(on, &mut Totals::default()).unwrap();
    }

    fn names(on: &Connection, sql: &str) -> Vec<String> {
        let sql = format!("SELECT repository FROM places WHERE id IN ({sql}) ORDER BY repository");
        on.prepare(&sql).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn what_was_not_checked_for_long_goes_and_a_place_goes_with_the_last_that_is_known_of_it() {
        let on = made();
        for (repository, checked) in [("dead", 10), ("past", 20), ("live", 30), ("linked", 10)] {
            apply(&on, Change::Tag(entry(repository, 1, checked)));
        }
        apply(&on, Change::Link(link("linked")));
        apply(&on, Change::Prune { tags: 25_000_000, history: 15_000_000 });
        assert_eq!(names(&on, "SELECT place FROM tags"), ["live"]);
        assert_eq!(names(&on, "SELECT place FROM history"), ["live", "past"]);
        assert_eq!(names(&on, "SELECT id FROM places"), ["linked", "live", "past"]);
    }

    fn list(repository: &str, target: &str, bytes: usize, asked: u64) -> ListEntry {
        ListEntry {
            registry: "quay.io".into(),
            repository: repository.parse().unwrap(),
            target: target.into(),
            headers: vec![("content-type".into(), "application/json".into())],
            body: vec![b'x'; bytes].into(),
            asked: at(asked),
        }
    }

    fn targets(on: &Connection) -> Vec<String> {
        let mut all = on.prepare("SELECT target FROM lists ORDER BY asked").unwrap();
        all.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn the_latest_lists_are_kept_within_a_number_and_a_sum_of_bytes() {
        let on = made();
        for (target, asked) in [("first", 1), ("second", 2), ("first", 3), ("third", 4)] {
            record_list(&on, &list("a", target, 1 << 20, asked)).unwrap();
        }
        assert_eq!(targets(&on), ["second", "first", "third"], "one for each query");
        (0..15).for_each(|n| record_list(&on, &list("a", &n.to_string(), (1 << 20) - 100, 10 + n)).unwrap());
        assert_eq!((targets(&on).len(), targets(&on)[0].as_str()), (15, "0"));
        on.execute_batch("DELETE FROM lists").unwrap();
        (0..LISTS.cast_unsigned() + 5).for_each(|n| record_list(&on, &list("b", &n.to_string(), 1, n)).unwrap());
        assert_eq!((targets(&on).len() as i64, targets(&on)[0].as_str()), (LISTS, "5"));
    }

    #[test]
    fn a_place_stays_while_a_list_of_it_is_kept_so_that_its_number_is_no_other_places() {
        let on = made();
        record_list(&on, &list("listed", "t", 1, 30)).unwrap();
        apply(&on, Change::Prune { tags: 0, history: 0 });
        assert_eq!(names(&on, "SELECT place FROM lists"), ["listed"]);
        forget_list(&on, "quay.io", &"listed".parse().unwrap(), "t").unwrap();
        apply(&on, Change::Prune { tags: 0, history: 0 });
        assert_eq!(names(&on, "SELECT id FROM places"), [""; 0]);
    }

    #[test]
    fn of_a_tag_that_moves_for_ever_the_latest_past_is_kept() {
        let on = made();
        (0..200).for_each(|n| apply(&on, Change::Tag(entry("a", n, 100 + n))));
        let kept: (i64, i64) =
            on.query_row("SELECT count(*), min(last) FROM history", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(kept, (PAST, (300 - PAST) * 1_000_000));
    }
}

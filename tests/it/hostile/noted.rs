//! What the proxy has noted of each registry, read from its catalog.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use pullthrough::oci::Digest;
use rusqlite::{Connection, OpenFlags};

use super::site::Site;

/// Words for what is noted, by registry.
pub(super) struct Noted(HashMap<String, Vec<Note>>);

enum Note {
    Tag(String, Vec<u8>),
    Link(Vec<u8>),
    Public,
    /// The last ping's status.
    Ping(u16),
}

impl Noted {
    /// All of a catalog as it is now.
    pub(super) fn read(folder: &Path) -> Self {
        let file = folder.join("cache/catalog.sqlite");
        let catalog = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        catalog.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
        let mut notes: HashMap<String, Vec<Note>> = HashMap::new();
        let mut read = |query: &str, note: &dyn Fn(&rusqlite::Row) -> rusqlite::Result<Note>| {
            let mut statement = catalog.prepare(query).unwrap();
            let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, note(row)?))).unwrap();
            for (registry, note) in rows.map(Result::unwrap) {
                notes.entry(registry).or_default().push(note);
            }
        };
        let place = "JOIN places ON places.id = place";
        read(&format!("SELECT registry, tag, digest FROM tags {place}"), &|row| {
            Ok(Note::Tag(row.get(1)?, row.get(2)?))
        });
        read(&format!("SELECT registry, digest FROM links {place}"), &|row| Ok(Note::Link(row.get(1)?)));
        read(&format!("SELECT registry FROM public {place}"), &|_| Ok(Note::Public));
        read("SELECT registry, status FROM pings", &|row| Ok(Note::Ping(row.get(1)?)));
        Self(notes)
    }

    /// Whether a tag is noted there.
    pub(super) fn has_tag(&self, registry: &str, tag: &str) -> bool {
        let notes = self.0.get(registry).map(Vec::as_slice).unwrap_or_default();
        notes.iter().any(|note| matches!(note, Note::Tag(noted, _) if noted == tag))
    }

    /// What is noted of a registry besides what its owner has pulled. A tag or a link of what the registry does not
    /// hold is marked.
    pub(super) fn words(&self, site: &Site) -> String {
        let is = |digest: &Digest, key: &[u8]| key.ends_with(&bytes_of(digest));
        let things = &site.things;
        let is_kept = |key: &[u8]| is(&things.kept.digest, key) || is(&things.kept_layer.digest, key);
        let mark = |key: &[u8]| if site.has(|digest| is(digest, key)) { "" } else { "(wrong)" };
        let mut words = BTreeSet::new();
        for note in self.0.get(&site.host).map(Vec::as_slice).unwrap_or_default() {
            match note {
                Note::Tag(tag, key) if tag == "kept" && is(&things.kept.digest, key) => {}
                Note::Tag(tag, key) if tag == "kept" => drop(words.insert(format!("kept{}", mark(key)))),
                Note::Tag(_, key) => drop(words.insert(format!("tag{}", mark(key)))),
                Note::Link(key) if is_kept(key) => {}
                Note::Link(key) => drop(words.insert(format!("link{}", mark(key)))),
                Note::Public => drop(words.insert("public".to_owned())),
                Note::Ping(status) => drop(words.insert(format!("ping-{status}"))),
            }
        }
        if words.is_empty() { "-".to_owned() } else { words.into_iter().collect::<Vec<_>>().join(" ") }
    }
}

fn bytes_of(digest: &Digest) -> Vec<u8> {
    let hex = digest.hex();
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

//! Defines the catalog's file: its tables and format number, and how it is opened, created, refused or moved aside.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::heat::HALF_LIFE;
use crate::store::Error;

/// The file's name in the cache directory.
pub(crate) const FILE: &str = "catalog.sqlite";

/// The name of a damaged one. One is kept.
const DAMAGED: &str = "catalog.damaged.sqlite";

/// The format that this version writes (`PRAGMA user_version`). It reads no later one.
pub(crate) const FORMAT: i64 = 2;

// No index on the last use: victims are found by a scan, so that a hit writes no index page.
const TABLES: &str = "
CREATE TABLE blobs (
    id        INTEGER PRIMARY KEY,
    digest    BLOB    NOT NULL UNIQUE,
    size      INTEGER NOT NULL,
    stored    INTEGER NOT NULL,
    last_used INTEGER NOT NULL,
    proven    INTEGER NOT NULL,
    pinned    INTEGER NOT NULL DEFAULT 0,
    heat      REAL    NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX unproven ON blobs (id) WHERE proven = 0;
CREATE TABLE totals (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    bytes   INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    clock   INTEGER NOT NULL,
    scrubbed    INTEGER NOT NULL DEFAULT 0,
    scrub_ended INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO totals (one, bytes, entries, clock) VALUES (1, 0, 0, 0);
CREATE TABLE places (
    id         INTEGER PRIMARY KEY,
    registry   TEXT NOT NULL,
    repository TEXT NOT NULL,
    UNIQUE (registry, repository)
) STRICT;
CREATE TABLE links (
    digest     BLOB    NOT NULL,
    place      INTEGER NOT NULL REFERENCES places,
    content    INTEGER NOT NULL,
    learned    INTEGER NOT NULL,
    media_type TEXT,
    proven     INTEGER NOT NULL,
    PRIMARY KEY (digest, place, content, learned)
) STRICT, WITHOUT ROWID;
CREATE TABLE tags (
    place      INTEGER NOT NULL REFERENCES places,
    tag        TEXT    NOT NULL,
    accept     INTEGER NOT NULL,
    learned    INTEGER NOT NULL,
    digest     BLOB    NOT NULL,
    media_type TEXT    NOT NULL,
    size       INTEGER NOT NULL,
    checked    INTEGER NOT NULL,
    PRIMARY KEY (place, tag, accept, learned)
) STRICT, WITHOUT ROWID;
CREATE TABLE history (
    place INTEGER NOT NULL REFERENCES places,
    tag   TEXT    NOT NULL,
    digest BLOB   NOT NULL,
    first INTEGER NOT NULL,
    last  INTEGER NOT NULL,
    PRIMARY KEY (place, tag, digest)
) STRICT, WITHOUT ROWID;
CREATE TABLE pings (
    registry TEXT    PRIMARY KEY,
    status   INTEGER NOT NULL,
    headers  TEXT    NOT NULL,
    seen     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 2;
";

// Since format 2.
const CHECKSUMS_AND_PINS: &str = "
CREATE TABLE checksums (
    blob   INTEGER PRIMARY KEY,
    crc32c BLOB NOT NULL
) STRICT;
CREATE TABLE pins (
    digest BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;
";

// Blobs without checksums are hashed before their next use, which records the checksums. The heat is set by the next
// statement: SQLite does not know the half-life.
const FROM_1: &str = "
ALTER TABLE blobs ADD COLUMN heat REAL NOT NULL DEFAULT 0;
ALTER TABLE totals ADD COLUMN scrubbed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE totals ADD COLUMN scrub_ended INTEGER NOT NULL DEFAULT 0;
INSERT INTO pins SELECT digest FROM blobs WHERE pinned;
PRAGMA user_version = 2;
";

/// An open catalog, and whether it was created just now.
pub(crate) struct OpenedCatalog {
    pub(crate) connection: Connection,
    pub(crate) new: bool,
}

// Outside the format: an older version loses nothing by it. The repositories that anyone may read.
const PUBLIC: &str = "
CREATE TABLE IF NOT EXISTS public (
    place  INTEGER PRIMARY KEY REFERENCES places,
    proven INTEGER NOT NULL
) STRICT;
";

// The same. The places of other registries that answers for a place were redirected to; without a repository, any.
const DETOURS: &str = "
CREATE TABLE IF NOT EXISTS detours (
    place      INTEGER NOT NULL REFERENCES places,
    host       TEXT    NOT NULL,
    repository TEXT    NOT NULL,
    seen       INTEGER NOT NULL,
    PRIMARY KEY (place, host, repository)
) STRICT, WITHOUT ROWID;
";

// The same. The last lists of tags and referrers. The index has what a bound on all needs.
const LISTS: &str = "
CREATE TABLE IF NOT EXISTS lists (
    place   INTEGER NOT NULL REFERENCES places,
    target  TEXT    NOT NULL,
    headers TEXT    NOT NULL,
    body    BLOB    NOT NULL,
    bytes   INTEGER NOT NULL,
    asked   INTEGER NOT NULL,
    UNIQUE (place, target)
) STRICT;
CREATE INDEX IF NOT EXISTS lists_age ON lists (asked, bytes);
";

/// Opens the catalog in `folder`, or creates it. A damaged one is moved aside and replaced.
pub(crate) fn open(folder: &Path) -> Result<OpenedCatalog, Error> {
    let path = folder.join(FILE);
    match try_open(&path) {
        Err(Failure::Sqlite(source)) if !is_passing(&source) => {
            tracing::warn!(path = %path.display(), error = %source,
                "the catalog is damaged: moving it aside and rebuilding it from the blobs");
            move_aside(folder)?;
            try_open(&path).map_err(|failure| failure.into_error(&path))
        }
        other => other.map_err(|failure| failure.into_error(&path)),
    }
}

/// Whether SQLite says that the file is not a sound database, or has other tables.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    const OTHER_TABLES: [&str; 3] = ["no such table", "no such column", "has no column named"];
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        || matches!(error, rusqlite::Error::QueryReturnedNoRows)
        || OTHER_TABLES.iter().any(|words| error.to_string().contains(words))
}

/// Whether the file holds a value that this program never writes.
pub(crate) fn is_unreadable(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..))
}

/// Whether the error is about the machine, so that a second try may succeed. Every other error is about the file.
pub(crate) fn is_passing(error: &rusqlite::Error) -> bool {
    use ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, OutOfMemory, PermissionDenied, ReadOnly, SystemIoFailure,
    };
    matches!(
        error.sqlite_error_code(),
        Some(
            CannotOpen
                | DatabaseBusy
                | DatabaseLocked
                | DiskFull
                | OutOfMemory
                | PermissionDenied
                | ReadOnly
                | SystemIoFailure
        )
    )
}

enum Failure {
    Sqlite(rusqlite::Error),
    Io(io::Error),
    Newer(i64),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Failure {
    fn into_error(self, path: &Path) -> Error {
        match self {
            Self::Sqlite(source) => Error::Catalog { doing: "be opened", source },
            Self::Io(source) => Error::io("open", path, source),
            Self::Newer(found) => Error::Newer { path: path.into(), found, known: FORMAT },
        }
    }
}

fn try_open(path: &Path) -> Result<OpenedCatalog, Failure> {
    // SQLite gives its other files the same mode: the names of images may be private.
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(Failure::Io)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > FORMAT {
        return Err(Failure::Newer(found));
    }
    if connection.is_readonly(rusqlite::MAIN_DB)? {
        // The file was opened for writing above, so its own header forbids it.
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB);
        return Err(rusqlite::Error::SqliteFailure(code, Some("its header says read-only".into())).into());
    }
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    // A power cut may lose the last transactions, but never damages the file. The rebuild after every unclean end finds
    // the lost changes.
    connection.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY;")?;
    // Checking the references to a place on every removal would scan all links.
    connection.execute_batch("PRAGMA foreign_keys = OFF;")?;
    let new = found == 0;
    if new {
        make(&mut connection)?;
    }
    if found == 1 {
        tracing::info!(
            "upgrading the catalog from format 1 to {FORMAT}: every blob is hashed once before its next use"
        );
        bring_from_1(&mut connection)?;
    }
    let totals = "SELECT bytes, entries, clock, scrubbed, scrub_ended FROM totals";
    connection.query_row(totals, [], |row| (0..5).try_for_each(|column| row.get::<_, i64>(column).map(drop)))?;
    connection.execute_batch(PUBLIC)?;
    connection.execute_batch(DETOURS)?;
    connection.execute_batch(LISTS)?;
    Ok(OpenedCatalog { connection, new })
}

/// Creates the tables.
pub(crate) fn make(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for tables in [TABLES, CHECKSUMS_AND_PINS, PUBLIC, DETOURS, LISTS] {
        transaction.execute_batch(tables)?;
    }
    transaction.commit()
}

fn bring_from_1(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(CHECKSUMS_AND_PINS)?;
    transaction.execute_batch(FROM_1)?;
    transaction.execute("UPDATE blobs SET proven = 0, heat = last_used / ?1", [HALF_LIFE])?;
    transaction.commit()
}

/// Renames the files of the catalog, over those of an earlier damage.
pub(crate) fn move_aside(folder: &Path) -> Result<(), Error> {
    for suffix in ["", "-wal", "-shm"] {
        let from = folder.join(format!("{FILE}{suffix}"));
        let to = folder.join(format!("{DAMAGED}{suffix}"));
        match fs::rename(&from, &to) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("move aside", &from, source));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        assert!(open(folder.path()).unwrap().new);
        assert!(!open(folder.path()).unwrap().new);
    }

    #[test]
    fn a_later_format_is_refused_naming_both() {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(folder.path()).unwrap();
        opened.connection.pragma_update(None, "user_version", FORMAT + 1).unwrap();
        drop(opened);
        let Err(error) = open(folder.path()) else { panic!("opened a later format") };
        assert!(matches!(error, Error::Newer { found: 3, known: 2, .. }), "{error}");
    }

    #[test]
    fn a_damaged_catalog_is_kept_aside_and_made_anew() {
        let sound = tempfile::tempdir().unwrap();
        drop(open(sound.path()).unwrap());
        let sound = fs::read(sound.path().join(FILE)).unwrap();
        let no_tables = tempfile::tempdir().unwrap();
        let connection = Connection::open(no_tables.path().join(FILE)).unwrap();
        connection.execute_batch("CREATE TABLE other (x); PRAGMA user_version = 2;").unwrap();
        drop(connection);
        let no_tables = fs::read(no_tables.path().join(FILE)).unwrap();
        let mut scribbled = sound.clone();
        scribbled[100..2000].fill(0xff);
        let of_format = |format: u8| [&sound[..63], &[format], &sound[64..]].concat(); // PRAGMA user_version
        let not_for_writing = [&sound[..18], &[9], &sound[19..]].concat();
        let mut wrong_type = sound.clone();
        let at = sound.windows(12).position(|window| window == b"bytes   INTE").unwrap();
        wrong_type[at..at + 5].copy_from_slice(b"bites");
        let others = [of_format(0), of_format(1), not_for_writing, wrong_type];
        for damage in others.into_iter().chain([
            b"this is no database. ".repeat(500),
            sound[..1024].to_vec(),
            scribbled,
            no_tables,
        ]) {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(FILE), &damage).unwrap();
            assert!(open(folder.path()).unwrap().new);
            assert_eq!(fs::read(folder.path().join(DAMAGED)).unwrap().len(), damage.len());
        }
    }
}

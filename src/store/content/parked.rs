//! Unfinished fills that nobody works on now: kept for the next demand, dropped when old or when room is needed.
//!
//! What lies in `fills/` at start is taken up here if its map is sound and young, and removed if not. In memory
//! by digest and registry; the files are a staged file and, beside it, the map that names what has landed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::partial::Landed;
use crate::oci::Digest;
use crate::store::layout::Layout;
use crate::store::ledger::{Charge, Ledger};
use crate::store::lock::lock;
use crate::store::{Disk, Error};

/// A fill that nobody continued for so long is dropped.
const LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// A map of more than this is nobody's.
const MAP_LIMIT: u64 = 16 << 20;

/// An unfinished fill at rest.
pub(crate) struct ParkedFill {
    pub(crate) path: PathBuf,
    pub(crate) landed: Landed,
    pub(crate) charge: Charge,
    since: SystemTime,
}

impl ParkedFill {
    pub(crate) fn new(path: PathBuf, landed: Landed, charge: Charge) -> Self {
        Self { path, landed, charge, since: SystemTime::now() }
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct ParkedFills {
    by: Mutex<HashMap<(Digest, String), ParkedFill>>,
}

impl ParkedFills {
    /// Takes up what an earlier process left, and the first number that no staged file has had.
    pub(crate) fn load(disk: &Disk, layout: &Layout, ledger: &Arc<Ledger>) -> Result<(Self, u64), Error> {
        let parked_fills = Self::default();
        let mut next = 0;
        let mut removed = false;
        let folder = layout.fills();
        let failed = |source| Error::io("list", &folder, source);
        let entries: Vec<_> = fs::read_dir(&folder).and_then(Iterator::collect).map_err(failed)?;
        let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry: fs::DirEntry| entry.path()).collect();
        paths.sort(); // a staged file comes before its map, so that of a pair the map goes last if nobody wants it
        for path in &paths {
            let Some((digest, number)) = name_of(path) else { continue };
            next = next.max(number.saturating_add(1));
            let Some((landed, since)) = remembered(path) else { continue };
            let bytes = path.symlink_metadata().map_or(0, |metadata| metadata.blocks() * 512);
            let charge = ledger.charge(bytes.min(landed.end()).cast_signed(), 0);
            parked_fills.insert(disk, digest, ParkedFill { path: path.clone(), landed, charge, since });
        }
        let kept: Vec<PathBuf> =
            lock(&parked_fills.by).values().flat_map(|parked| [parked.path.clone(), map_of(&parked.path)]).collect();
        for path in paths.iter().filter(|path| !kept.contains(path)) {
            removed |= disk.unlink(path)?;
        }
        if removed {
            disk.sync_folder(&folder)?;
        }
        Ok((parked_fills, next))
    }

    /// Keeps a fill for later. Of two of the same content and registry the one with more stays.
    pub(crate) fn park(&self, disk: &Disk, digest: Digest, parked: ParkedFill) {
        self.insert(disk, digest, parked);
    }

    /// Takes a fill to go on with it.
    pub(crate) fn take(&self, digest: &Digest, origin: &str) -> Option<ParkedFill> {
        lock(&self.by).remove(&(*digest, origin.to_owned()))
    }

    /// Drops those that are too old.
    pub(crate) fn expire(&self, disk: &Disk) {
        self.drop_some(disk, |parked| is_old(parked.since));
    }

    /// Drops the oldest ones until `need` bytes are free, or all are gone. Answers the bytes freed.
    pub(crate) fn drop_oldest(&self, disk: &Disk, need: u64) -> u64 {
        let mut freed = 0;
        while freed < need {
            let mut by = lock(&self.by);
            let oldest = by.iter().min_by_key(|(_, parked)| parked.since).map(|(key, _)| key.clone());
            let Some(parked) = oldest.and_then(|key| by.remove(&key)) else { break };
            drop(by);
            freed += parked.charge.bytes();
            remove(disk, &parked.path, true);
        }
        freed
    }

    fn insert(&self, disk: &Disk, digest: Digest, parked: ParkedFill) {
        let key = (digest, parked.landed.origin.clone());
        let mut by = lock(&self.by);
        let loser = match by.get(&key) {
            Some(there) if there.landed.len() >= parked.landed.len() => Some(parked),
            _ => by.insert(key, parked),
        };
        drop(by);
        if let Some(loser) = loser {
            remove(disk, &loser.path, true);
        }
    }

    fn drop_some(&self, disk: &Disk, is_one: impl Fn(&ParkedFill) -> bool) {
        let gone: Vec<ParkedFill> =
            lock(&self.by).extract_if(|_, parked| is_one(parked)).map(|(_, parked)| parked).collect();
        for parked in gone {
            remove(disk, &parked.path, true);
        }
    }
}

/// Removes a staged file, its map first: a map never speaks of bytes that are not there.
pub(crate) fn remove(disk: &Disk, path: &Path, has_map: bool) {
    let map = if has_map { disk.unlink(&map_of(path)) } else { Ok(false) };
    if let Err(error) = map.and_then(|_| disk.unlink(path)) {
        tracing::warn!(error = &error as &dyn std::error::Error, "a staged file stays until the next start");
    }
}

/// The map of a staged file.
pub(crate) fn map_of(path: &Path) -> PathBuf {
    let mut map = path.as_os_str().to_owned();
    map.push(".map");
    map.into()
}

/// The digest and the number in a staged file's name, or in its map's.
fn name_of(path: &Path) -> Option<(Digest, u64)> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".new").unwrap_or(name);
    let (digest, number) = name.strip_suffix(".map").unwrap_or(name).split_once('.')?;
    let (algorithm, hex) = digest.split_once('-')?;
    Some((format!("{algorithm}:{hex}").parse().ok()?, number.parse().ok()?))
}

/// What the map beside a staged file says, if it is sound, young, and the file has these bytes.
fn remembered(path: &Path) -> Option<(Landed, SystemTime)> {
    let length = path.symlink_metadata().ok().filter(fs::Metadata::is_file)?.len();
    let map = map_of(path);
    let metadata = map.symlink_metadata().ok().filter(|metadata| metadata.is_file() && metadata.len() <= MAP_LIMIT)?;
    let since = metadata.modified().ok().filter(|since| !is_old(*since))?;
    let landed = Landed::decode(&fs::read_to_string(&map).ok()?)?;
    (landed.len() > 0 && landed.end() <= length).then_some((landed, since))
}

/// A time to come is as good as now: clocks are set back.
fn is_old(since: SystemTime) -> bool {
    since.elapsed().is_ok_and(|age| age > LIFE)
}

/// Whether the file that a parked fill speaks of is still what it was.
pub(crate) fn has_bytes(file: &fs::File, landed: &Landed) -> io::Result<bool> {
    Ok(file.metadata()?.len() >= landed.end())
}

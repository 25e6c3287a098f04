//! Keeps unfinished fills that nothing works on: for the next demand, until they are old or their space is needed.
//!
//! At start, a file in `fills/` is kept if its map is sound and recent, and removed otherwise. Fills are keyed by
//! digest and registry. Each is a staged file and, beside it, the map that lists the bytes that have landed.

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

/// A fill that was not continued for this long is dropped.
const LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// A larger map was not written by this program.
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

/// All parked fills.
#[derive(Default)]
pub(crate) struct ParkedFills {
    by: Mutex<HashMap<(Digest, String), ParkedFill>>,
}

impl ParkedFills {
    /// Loads the fills that an earlier process left, and returns the first unused number for a staged file.
    pub(crate) fn load(disk: &Disk, layout: &Layout, ledger: &Arc<Ledger>) -> Result<(Self, u64), Error> {
        let parked_fills = Self::default();
        let mut next = 0;
        let mut removed = false;
        let folder = layout.fills();
        let failed = |source| Error::io("list", &folder, source);
        let entries: Vec<_> = fs::read_dir(&folder).and_then(Iterator::collect).map_err(failed)?;
        let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry: fs::DirEntry| entry.path()).collect();
        paths.sort(); // a staged file comes before its map, so that the map of an unwanted pair goes last
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

    /// Parks a fill. Of two with the same content and registry, the larger one stays.
    pub(crate) fn park(&self, disk: &Disk, digest: Digest, parked: ParkedFill) {
        self.insert(disk, digest, parked);
    }

    /// Takes a fill, to continue it.
    pub(crate) fn take(&self, digest: &Digest, origin: &str) -> Option<ParkedFill> {
        lock(&self.by).remove(&(*digest, origin.to_owned()))
    }

    /// Drops the fills that are too old.
    pub(crate) fn expire(&self, disk: &Disk) {
        self.drop_some(disk, |parked| is_old(parked.since));
    }

    /// Drops the oldest fills until `need` bytes are free or none is left. Returns the bytes freed.
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

/// Removes a staged file, its map first: a map must never list bytes that are not there.
pub(crate) fn remove(disk: &Disk, path: &Path, has_map: bool) {
    let map = if has_map { disk.unlink(&map_of(path)) } else { Ok(false) };
    if let Err(error) = map.and_then(|_| disk.unlink(path)) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a staged file cannot be removed: it stays until the next start"
        );
    }
}

/// The path of the map of a staged file.
pub(crate) fn map_of(path: &Path) -> PathBuf {
    let mut map = path.as_os_str().to_owned();
    map.push(".map");
    map.into()
}

/// The digest and the number in the name of a staged file or its map.
fn name_of(path: &Path) -> Option<(Digest, u64)> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".new").unwrap_or(name);
    let (digest, number) = name.strip_suffix(".map").unwrap_or(name).split_once('.')?;
    let (algorithm, hex) = digest.split_once('-')?;
    Some((format!("{algorithm}:{hex}").parse().ok()?, number.parse().ok()?))
}

/// Reads the map beside a staged file, if it is sound and recent and the file has its bytes.
fn remembered(path: &Path) -> Option<(Landed, SystemTime)> {
    let length = path.symlink_metadata().ok().filter(fs::Metadata::is_file)?.len();
    let map = map_of(path);
    let metadata = map.symlink_metadata().ok().filter(|metadata| metadata.is_file() && metadata.len() <= MAP_LIMIT)?;
    let since = metadata.modified().ok().filter(|since| !is_old(*since))?;
    let landed = Landed::decode(&fs::read_to_string(&map).ok()?)?;
    (landed.len() > 0 && landed.end() <= length).then_some((landed, since))
}

/// A time in the future counts as now: clocks are set back.
fn is_old(since: SystemTime) -> bool {
    since.elapsed().is_ok_and(|age| age > LIFE)
}

/// Whether the file still has the bytes that its map lists.
pub(crate) fn has_bytes(file: &fs::File, landed: &Landed) -> io::Result<bool> {
    Ok(file.metadata()?.len() >= landed.end())
}

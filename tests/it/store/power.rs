//! The power goes at every step: whatever lasts, what the store serves is right, and what it promised is there.
//!
//! A run is recorded step by step. For every prefix of it, a disk is made that has what was synced, and of the
//! rest nothing, everything, or a seeded choice of names, writes and torn writes, in the order of each folder.
//! The catalog is lost, or as old as the last time it was copied.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use pullthrough::oci::Digest;
use pullthrough::store::{Disk, DiskStep, Error, Staged, Store, Witness};

use crate::store::{bytes, config, content, digest, lying_in};
use crate::support::wait_until;

#[derive(Clone, Debug)]
enum Event {
    MakeFolder(PathBuf),
    Create(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    SyncFile(PathBuf),
    Rename(PathBuf, PathBuf),
    Unlink(PathBuf),
    SyncFolder(PathBuf),
    /// A commit returned.
    Promised(Digest),
    /// So much of this content was remembered.
    Remembered(Vec<u8>, Vec<(u64, u64)>),
    /// The catalog's files, as they are now.
    Catalog(Vec<(String, Vec<u8>)>),
}

/// Records the steps, with paths relative to a folder.
struct Recorder {
    root: PathBuf,
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    fn push(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    fn copy_catalog(&self) {
        let names = ["catalog.sqlite", "catalog.sqlite-wal"];
        let read = |name: &str| Some((name.to_owned(), fs::read(self.root.join("cache").join(name)).ok()?));
        self.push(Event::Catalog(names.into_iter().filter_map(read).collect()));
    }
}

impl Witness for Recorder {
    fn before(&self, step: &DiskStep<'_>) -> io::Result<()> {
        let path = |path: &Path| path.strip_prefix(&self.root).unwrap().to_owned();
        if matches!(step, DiskStep::Unlink(path) if path.ends_with("running")) {
            self.copy_catalog(); // what is marked as clean is the catalog of this moment
        }
        self.push(match step {
            DiskStep::MakeFolder(at) => Event::MakeFolder(path(at)),
            DiskStep::Create(at) => Event::Create(path(at)),
            DiskStep::Write(to, at, bytes) => Event::Write(path(to), *at, bytes.to_vec()),
            DiskStep::SyncFile(at) => Event::SyncFile(path(at)),
            DiskStep::Rename(from, to) => Event::Rename(path(from), path(to)),
            DiskStep::Unlink(at) => Event::Unlink(path(at)),
            DiskStep::SyncFolder(at) => Event::SyncFolder(path(at)),
        });
        Ok(())
    }
}

/// A disk that knows what is durable and what is not yet.
#[derive(Clone, Default)]
struct Model {
    files: Vec<File>,
    /// What a program sees.
    seen: BTreeMap<PathBuf, usize>,
    /// What lasts.
    lasting: BTreeMap<PathBuf, Option<usize>>,
    /// What may last: a name with its file (`None` within for a folder), or without anything once removed.
    pending: Vec<(PathBuf, Option<Option<usize>>)>,
}

#[derive(Clone, Default)]
struct File {
    lasting: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

fn write(to: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    to.resize(to.len().max(at + bytes.len()), 0);
    to[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Model {
    fn take(&mut self, event: &Event) {
        match event {
            Event::MakeFolder(path) => self.pending.push((path.clone(), Some(None))),
            Event::Create(path) => {
                self.files.push(File::default());
                self.seen.insert(path.clone(), self.files.len() - 1);
                self.pending.push((path.clone(), Some(Some(self.files.len() - 1))));
            }
            Event::Write(path, at, bytes) => {
                self.files[self.seen[path]].pending.push((usize::try_from(*at).unwrap(), bytes.clone()));
            }
            Event::SyncFile(path) => {
                let file = &mut self.files[self.seen[path]];
                for (at, bytes) in std::mem::take(&mut file.pending) {
                    write(&mut file.lasting, at, &bytes);
                }
            }
            Event::Rename(from, to) => {
                if let Some(file) = self.seen.remove(from) {
                    self.seen.insert(to.clone(), file);
                    self.pending.push((to.clone(), Some(Some(file))));
                    self.pending.push((from.clone(), None));
                }
            }
            Event::Unlink(path) => {
                if self.seen.remove(path).is_some() {
                    self.pending.push((path.clone(), None));
                }
            }
            Event::SyncFolder(folder) => {
                let (synced, rest) = std::mem::take(&mut self.pending)
                    .into_iter()
                    .partition::<Vec<_>, _>(|(path, _)| path.parent() == Some(folder));
                self.pending = rest;
                synced.into_iter().for_each(|(path, what)| self.last(path, what));
            }
            Event::Promised(_) | Event::Remembered(..) | Event::Catalog(_) => {}
        }
    }

    fn last(&mut self, path: PathBuf, what: Option<Option<usize>>) {
        match what {
            Some(node) => drop(self.lasting.insert(path, node)),
            None => drop(self.lasting.remove(&path)),
        }
    }

    /// The power goes: of what is pending, `keep` decides.
    fn cut(mut self, mut keep: impl FnMut() -> Fate) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        for (path, what) in std::mem::take(&mut self.pending) {
            if !matches!(keep(), Fate::Lost) {
                self.last(path, what);
            }
        }
        for file in &mut self.files {
            for (at, bytes) in std::mem::take(&mut file.pending) {
                match keep() {
                    Fate::Lost => {}
                    Fate::Kept => write(&mut file.lasting, at, &bytes),
                    Fate::Torn => write(&mut file.lasting, at, &bytes[..bytes.len() / 2]),
                    Fate::Zeros => write(&mut file.lasting, at, &vec![0; bytes.len()]),
                }
            }
        }
        let files = self.files;
        self.lasting.into_iter().map(|(path, node)| (path, node.map(|file| files[file].lasting.clone()))).collect()
    }
}

#[derive(Clone, Copy)]
enum Fate {
    Lost,
    Kept,
    /// Of a write, the first half; of a name, all.
    Torn,
    /// The length lasts and the bytes do not; of a name, all.
    Zeros,
}

const LIMIT: u64 = 4000;
const ORIGIN: &str = "quay.io";

/// Puts, staged commits out of order, two commits of one digest, a removal, evictions, a clean end.
fn record(root: &Path) -> Vec<Event> {
    let recorder = Arc::new(Recorder { root: root.canonicalize().unwrap(), events: Mutex::default() });
    let promise = |digest: &Digest| recorder.push(Event::Promised(*digest));
    let store = Store::open_on(&config(&recorder.root, LIMIT), Disk::watched(recorder.clone())).unwrap();
    let put = |whole: &[u8]| {
        store.put(&digest(whole), whole).unwrap();
        promise(&digest(whole));
    };
    put(b"");
    put(&content(1, 1000));
    let whole = content(2, 1200);
    let (one, two) = (store.stage(&digest(&whole)).unwrap(), store.stage(&digest(&whole)).unwrap());
    one.write_at(600, &whole[600..]).unwrap();
    two.write_at(0, &whole).unwrap();
    one.write_at(0, &whole[..600]).unwrap();
    one.commit(1200).unwrap();
    promise(&digest(&whole));
    two.commit(1200).unwrap();
    store.evict();
    recorder.copy_catalog();
    let gone = content(3, 100);
    put(&gone);
    store.remove(&digest(&gone)).unwrap();
    put(&content(4, 1500));
    drop(store.stage(&digest(b"abandoned")).unwrap());
    drop((one, two));
    fill_by_halves(&store, &recorder);
    put(&content(5, 1400));
    store.evict();
    put(&gone);
    put(&content(6, 1500));
    let staged = begin(&store, &recorder, 9);
    store.close();
    drop(staged);
    recorder.events.lock().unwrap().clone()
}

/// Lands and remembers the first and the last third of 900 bytes.
fn begin(store: &Store, recorder: &Recorder, seed: u64) -> Staged {
    let whole = content(seed, 900);
    let staged = store.stage_from(&digest(&whole), ORIGIN).unwrap();
    for extents in [vec![(0, 300)], vec![(0, 300), (600, 900)]] {
        let (from, to) = *extents.last().unwrap();
        staged.write_at(from, &whole[from as usize..to as usize]).unwrap();
        staged.remember(&extents, Some(900), None).unwrap();
        recorder.push(Event::Remembered(whole.clone(), extents));
    }
    staged
}

/// One fill is parked, resumed and committed; another is given up.
fn fill_by_halves(store: &Store, recorder: &Recorder) {
    drop(begin(store, recorder, 7));
    let whole = content(7, 900);
    let partial = store.resume(&digest(&whole), ORIGIN).unwrap().unwrap();
    partial.staged.write_at(300, &whole[300..600]).unwrap();
    partial.staged.commit(900).unwrap();
    recorder.push(Event::Promised(digest(&whole)));
    begin(store, recorder, 8).abandon();
}

/// What was remembered last, of each content, and neither committed nor given up since.
fn remembered(events: &[Event]) -> BTreeMap<Vec<u8>, Vec<(u64, u64)>> {
    let mut remembered = BTreeMap::new();
    for event in events {
        match event {
            Event::Remembered(whole, extents) => drop(remembered.insert(whole.clone(), extents.clone())),
            Event::Unlink(path) | Event::Rename(path, _) if path.starts_with("cache/fills") => {
                let name = path.to_string_lossy();
                // What is renamed within is a map that takes the place of the last one.
                if !name.ends_with(".new") {
                    remembered.retain(|whole, _| !name.contains(&digest(whole).hex()));
                }
            }
            _ => {}
        }
    }
    remembered
}

/// What is resumed is right, and what was remembered is resumed.
fn check_fills(store: &Store, events: &[Event], case: &str) {
    let promised = remembered(events);
    for seed in 7..=9 {
        let whole = content(seed, 900);
        let partial = store.resume(&digest(&whole), ORIGIN).unwrap();
        let is_covered = |extents: &[(u64, u64)], at: u64| extents.iter().any(|(from, to)| (*from..*to).contains(&at));
        let found = partial.as_ref().map_or(&[][..], |partial| &partial.extents);
        for at in promised.get(&whole).into_iter().flatten().flat_map(|(from, to)| *from..*to) {
            assert!(is_covered(found, at), "{case}: byte {at} of {seed} was remembered");
        }
        let Some(partial) = &partial else { continue };
        for (from, to) in &partial.extents {
            let mut read = vec![0; (to - from) as usize];
            assert_eq!(partial.staged.read_at(*from, &mut read).unwrap(), read.len(), "{case}");
            assert_eq!(read, whole[*from as usize..*to as usize], "{case}: what is said to have landed has");
        }
        partial.staged.abandon();
    }
}

/// What was promised and not taken back before the cut.
fn promised(events: &[Event]) -> BTreeSet<Digest> {
    let mut promised = BTreeSet::new();
    for event in events {
        match event {
            Event::Promised(digest) => drop(promised.insert(*digest)),
            Event::Unlink(path) => promised.retain(|digest: &Digest| !path.ends_with(digest.hex())),
            _ => {}
        }
    }
    promised
}

fn check(events: &[Event], disk: &BTreeMap<PathBuf, Option<Vec<u8>>>, with_catalog: bool, case: &str) {
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in disk {
        let path = folder.path().join(path);
        if path.parent().is_some_and(Path::is_dir) {
            match bytes {
                Some(bytes) => fs::write(path, bytes).unwrap(),
                None => fs::create_dir(path).unwrap(),
            }
        }
    }
    let mut catalogs =
        events.iter().filter_map(|event| if let Event::Catalog(files) = event { Some(files) } else { None });
    if with_catalog && let Some(files) = catalogs.next_back() {
        for (name, bytes) in files {
            fs::write(folder.path().join("cache").join(name), bytes).unwrap();
        }
    }
    let store = Store::open(&config(folder.path(), 1 << 20)).unwrap_or_else(|error| panic!("{case}: {error}"));
    let read = |name: &Digest| match store.read(name) {
        Err(Error::Unproven { .. }) => store.prove(name).unwrap(),
        found => found.unwrap(),
    };
    for name in promised(events) {
        assert!(read(&name).is_some(), "{case}: {name} was promised");
    }
    wait_until("the walk", || store.is_settled());
    for entry in fs::read_dir(folder.path().join("cache/blobs/sha256")).unwrap() {
        let name: Digest = format!("sha256:{}", entry.unwrap().file_name().to_str().unwrap()).parse().unwrap();
        if let Some(blob) = read(&name) {
            assert_eq!(digest(&bytes(&blob)), name, "{case}");
        }
    }
    check_fills(&store, events, case);
    store.evict();
    store.close();
    assert_eq!(store.usage().bytes, lying_in(folder.path()), "{case}: all that is there is counted, and no more");
    assert_eq!(fs::read_dir(folder.path().join("cache/fills")).unwrap().count(), 0, "{case}");
}

#[test]
fn a_power_cut_at_any_step_breaks_no_promise() {
    let folder = tempfile::tempdir().unwrap();
    let events = record(folder.path());
    let unlinked = |event: &&Event| matches!(event, Event::Unlink(path) if path.starts_with("cache/blobs"));
    assert!(events.iter().filter(unlinked).count() >= 3, "the run should evict and remove");
    // Most of the time goes by waiting for syncs, which wait well together.
    const WORKERS: usize = 8;
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let events = &events;
            scope.spawn(move || {
                let mut model = Model::default();
                for (position, event) in events.iter().enumerate() {
                    model.take(event);
                    if position % WORKERS == worker {
                        cut_after(events, position, &model);
                    }
                }
            });
        }
    });
}

fn cut_after(events: &[Event], position: usize, model: &Model) {
    let so_far = &events[..=position];
    let after = format!("step {position} {:.60?}", events[position]);
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ position as u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        [Fate::Lost, Fate::Lost, Fate::Kept, Fate::Kept, Fate::Torn, Fate::Zeros][(state % 6) as usize]
    };
    check(
        so_far,
        &model.clone().cut(|| Fate::Lost),
        position.is_multiple_of(2),
        &format!("{after}, nothing more lasts"),
    );
    check(
        so_far,
        &model.clone().cut(|| Fate::Kept),
        !position.is_multiple_of(2),
        &format!("{after}, everything lasts"),
    );
    for round in 0..2 {
        check(so_far, &model.clone().cut(&mut random), round == 0, &format!("{after}, choice {round}"));
    }
}

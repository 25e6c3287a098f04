//! Where the soak plays: the lab's registries with images from tiny to 100 MB, and a proxy with too small a cache.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::names::Names;
use super::plan::Plan;
use super::tally::Tally;
use super::windows::Windows;
use crate::chance::Chance;
use crate::client::Way;
use crate::lab::{ALICE, ALICE_THERE, EXAMPLE, Image, Lab, Person, Shape};
use crate::proxy::Proxy;
use crate::raw::Raw;

/// Much less than what is published, and more than what is mostly under way at a time.
pub(super) const MAX_SIZE: u64 = 256 << 20;
/// The longest that a reload may have a tag of quay.io believed for.
pub(super) const FRESH: Duration = Duration::from_secs(5);
/// Who pulls from where.
pub(super) const LOGINS: [(&str, Person); 2] = [("docker.io", ALICE), (EXAMPLE, ALICE_THERE)];

/// Everything that the threads share.
pub(super) struct Scene {
    pub(super) lab: Lab,
    pub(super) tags: Vec<Tag>,
    pub(super) windows: Windows,
    pub(super) tally: Tally,
    pub(super) names: Names,
    pub(super) way: Way,
    pub(super) raw: Raw,
    /// The proxy's folder, admin address, and process id, 0 while it is being restarted.
    pub(super) dir: PathBuf,
    pub(super) admin: std::net::SocketAddr,
    pub(super) pid: AtomicU32,
    /// One moment by the clock of the log and by that of the windows.
    pub(super) clock: (SystemTime, Instant),
}

/// A tag, with everything that it has been.
pub(super) struct Tag {
    /// As `docker pull` takes it.
    pub(super) name: String,
    pub(super) registry: &'static str,
    /// `host:port` and repository, as a request has them.
    pub(super) authority: &'static str,
    pub(super) repository: &'static str,
    weight: u64,
    /// The images that it points to in turn; most have one.
    pub(super) images: Vec<Image>,
    /// Which of them since when, and when the push that made it so began.
    moves: Mutex<Vec<Move>>,
}

struct Move {
    image: usize,
    begun: Instant,
    done: Instant,
}

impl Scene {
    /// Publishes the images and starts the proxy.
    pub(super) fn new(plan: &Plan) -> (Proxy, Self) {
        eprintln!("soak: publishing images; then {:?} of pulls", plan.length);
        let (lab, names) = (Lab::guarded(), Names::start());
        let tags = tags(&lab);
        let proxy = Proxy::with(&lab, |config| {
            config["cache"] = json!({ "max_size": MAX_SIZE.to_string(), "min_free": "0%" });
            config["log"] = json!({ "format": "json" });
            config["tunnel"] = json!({ "default": "deny" });
            config["upstream"]["resolvers"] = json!([names.address]);
        });
        let scene = Self {
            tags,
            windows: Windows::default(),
            tally: Tally::default(),
            names,
            way: proxy.way(),
            raw: Raw::new(proxy.listen, &proxy.ca_file()),
            dir: proxy.dir.clone(),
            admin: proxy.admin,
            pid: AtomicU32::new(proxy.id().unwrap_or_default()),
            clock: (SystemTime::now(), Instant::now()),
            lab,
        };
        (proxy, scene)
    }

    /// A tag: small ones more often than large ones.
    pub(super) fn pick(&self, chance: &mut Chance) -> &Tag {
        let mut at = chance.below(self.tags.iter().map(|tag| tag.weight).sum());
        let found = self.tags.iter().find(|tag| {
            let here = at < tag.weight;
            at = at.saturating_sub(tag.weight);
            here
        });
        found.unwrap_or(&self.tags[0])
    }

    /// Those that move.
    pub(super) fn moving(&self) -> impl Iterator<Item = &Tag> {
        self.tags.iter().filter(|tag| tag.images.len() > 1)
    }

    /// Notes which process is measured.
    pub(super) fn is_run_by(&self, pid: Option<u32>) {
        self.pid.store(pid.unwrap_or_default(), Ordering::Relaxed);
    }
}

fn tags(lab: &Lab) -> Vec<Tag> {
    let hosts = [
        ("docker.io", "registry-1.docker.io:443"),
        ("quay.io", "quay.io:443"),
        (EXAMPLE, EXAMPLE), // its port is its own
    ];
    let plan: [(&str, &str, Shape, usize, u64, usize); 7] = [
        ("library/tiny", "1", Shape::Single, 500, 4, 1),
        ("library/small", "1", Shape::Index, 200_000, 4, 1),
        ("library/moving", "latest", Shape::Index, 300_000, 4, 3),
        ("private/app", "1", Shape::Index, 4_000_000, 4, 1),
        ("library/large", "1", Shape::Index, 25_000_000, 2, 1),
        ("library/larger", "1", Shape::Index, 45_000_000, 1, 1),
        ("library/huge", "1", Shape::Single, 95_000_000, 1, 1),
    ];
    let mut tags = Vec::new();
    for (number, (registry, authority)) in (1..).zip(hosts) {
        for (repository, tag, shape, bytes, weight, versions) in plan {
            let name = format!("{registry}/{repository}:{tag}");
            // The large one is the same on each registry: its layers are shared, and its links are not.
            let seed = if repository == "library/large" { 7 } else { number * 1000 + bytes as u64 };
            let make = |version| Image::make(&lab.folder("image"), shape, seed + version as u64, bytes);
            let images: Vec<Image> = (0..versions).map(make).collect();
            let tag = Tag { name, registry, authority, repository, weight, images, moves: Mutex::default() };
            tag.publish(lab, 0).unwrap();
            tags.push(tag);
        }
    }
    tags
}

impl Tag {
    /// Pushes one of its images, past the proxy.
    pub(super) fn publish(&self, lab: &Lab, image: usize) -> Result<(), String> {
        let begun = Instant::now();
        // While it lasts nobody knows which of the two a pull will get.
        self.moves.lock().unwrap().push(Move { image, begun, done: begun + Duration::from_secs(3600) });
        let pushed = self.images[image].push(&self.name, lab.road(), lab.ca_file());
        if let Some(last) = self.moves.lock().unwrap().last_mut() {
            last.done = Instant::now();
        }
        pushed.map(drop)
    }

    /// Moves it to the image after the one that it points to.
    pub(super) fn advance(&self, lab: &Lab) -> Result<(), String> {
        let now = self.moves.lock().unwrap().last().map_or(0, |last| last.image);
        self.publish(lab, (now + 1) % self.images.len())
    }

    /// The images that a pull from then to then may have got, if answers may be so old.
    pub(super) fn right(&self, from: Instant, to: Instant, old: Option<Duration>) -> Vec<&Image> {
        let moves = self.moves.lock().unwrap();
        let oldest = old.and_then(|old| from.checked_sub(old));
        let ends = |index: usize| moves.get(index + 1).map(|next| next.done);
        let could = moves.iter().enumerate().filter(|(index, one)| {
            one.begun <= to && ends(*index).is_none_or(|end| oldest.is_none_or(|oldest| end >= oldest))
        });
        could.map(|(_, one)| &self.images[one.image]).collect()
    }

    /// The last image that it pointed to for certain: all of it is in the registry.
    pub(super) fn current(&self) -> &Image {
        let (now, moves) = (Instant::now(), self.moves.lock().unwrap());
        &self.images[moves.iter().rfind(|one| one.done <= now).map_or(0, |last| last.image)]
    }
}

/// Some bytes of a blob as they should be, from the disk.
pub(super) fn part(file: &Path, from: u64, length: usize) -> Vec<u8> {
    let mut file = File::open(file).unwrap();
    file.seek(SeekFrom::Start(from)).unwrap();
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes).unwrap();
    bytes
}

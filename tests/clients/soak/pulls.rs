//! The real clients: each pulls an image, looks at what it got, and removes it again, until the end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

use super::scene::{FRESH, LOGINS, Scene, Tag};
use crate::chance::Chance;
use crate::client::{Client, Crane, Kind};
use crate::lab::Image;

/// How old an answer may be though its registry is there: a tag that is believed, and a question under way.
const OLD: Duration = Duration::from_secs(10);
/// What clients say of bytes that are not those of a digest, in small letters. No window excuses that.
const MISMATCH: [&str; 4] =
    ["did not match", "verification failed for digest", "unexpected commit digest", "other bytes"];
/// How many windows one pull may run into before that is a fault of the soak's own plan.
const WINDOWS: usize = 12;

/// Starts one thread for each kind of client that works on this machine.
pub(super) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    scene: &'scope Scene,
    stop: &'scope AtomicBool,
) -> Vec<ScopedJoinHandle<'scope, ()>> {
    let kinds = Kind::ALL.map(|kind| (name(kind), Some(kind))).into_iter().chain([("crane", None)]);
    let mut threads = Vec::new();
    for (seed, (name, kind)) in (31..).zip(kinds) {
        let fresh = || -> Box<dyn Client> {
            match kind {
                Some(kind) => kind.fresh_with(&scene.lab, &scene.way, &LOGINS),
                None => Box::new(Crane::fresh(&scene.lab, &scene.way, &LOGINS)),
            }
        };
        // A daemon may not start in a container, and a program may not be there: the others go on.
        match catch_unwind(AssertUnwindSafe(fresh)) {
            Ok(client) if works(kind) => {
                threads.push(scope.spawn(move || pull_until(stop, scene, name, &*client, seed)));
            }
            _ => scene.tally.note(format!("left out: {name} does not run on this machine")),
        }
    }
    threads
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Docker => "Docker Engine",
        Kind::Containerd => "containerd",
        Kind::Podman => "Podman",
        Kind::Skopeo => "Skopeo",
        Kind::Buildah => "Buildah",
    }
}

/// Whether the program of a client without a daemon is there.
fn works(kind: Option<Kind>) -> bool {
    let program = match kind {
        Some(Kind::Podman) => "podman",
        Some(Kind::Skopeo) => "skopeo",
        Some(Kind::Buildah) => "buildah",
        Some(Kind::Docker | Kind::Containerd) => return true, // its daemon has started
        None => return Crane::program().is_some(),
    };
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(program).exists())
}

fn pull_until(stop: &AtomicBool, scene: &Scene, name: &'static str, client: &dyn Client, seed: u64) {
    let mut chance = Chance::new(seed);
    while !stop.load(Ordering::Relaxed) {
        let tag = scene.pick(&mut chance);
        // By digest now and then, where the digest stays.
        let image = match tag.images.as_slice() {
            [one] if chance.below(4) == 0 => by_digest(tag, one),
            _ => tag.name.clone(),
        };
        pull(scene, name, client, tag, &image);
        if let Err(said) = client.remove(&image) {
            scene.tally.fault(name, &format!("cannot remove {image}: {said}"));
        }
    }
}

/// The image's name with its digest in place of its tag.
pub(super) fn by_digest(tag: &Tag, image: &Image) -> String {
    let (name, _) = tag.name.rsplit_once(':').unwrap();
    format!("{name}@{}", image.digest)
}

/// One pull, which is tried again where a window excuses its failure.
pub(super) fn pull(scene: &Scene, name: &'static str, client: &dyn Client, tag: &Tag, image: &str) {
    for _ in 0..WINDOWS {
        let from = Instant::now();
        let pulled = client.pull(image);
        let to = Instant::now();
        let excuse = scene.windows.excuse(tag.registry, from.checked_sub(OLD).unwrap_or(from), to);
        match pulled {
            Ok(id) => {
                // While a registry is away its tags are answered as they were last known.
                let old = excuse.is_none().then_some(OLD + FRESH);
                if tag.right(from, to, old).iter().any(|image| image.id == id) {
                    scene.tally.right(name, to - from);
                } else {
                    scene.tally.wrong(name, &format!("{image} is another image: {id}"));
                }
                return;
            }
            Err(said) => {
                let bytes = MISMATCH.iter().any(|word| said.to_lowercase().contains(word));
                if bytes || scene.windows.excuse(tag.registry, from, to).is_none() {
                    let words: String = said.chars().take(1500).collect();
                    scene.tally.wrong(name, &format!("{image} after {:?}: {words}", to - from));
                    return;
                }
                scene.tally.excused(name);
                while scene.windows.is_open(tag.registry) {
                    sleep(Duration::from_millis(200));
                }
            }
        }
    }
    scene.tally.fault(name, &format!("{image} ran into {WINDOWS} windows in a row"));
}

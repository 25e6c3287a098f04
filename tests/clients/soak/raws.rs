//! Clients without a program: ranges, HEADs, slow readers, readers that hang up, readers that stop reading.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

use super::scene::{self, LOGINS, Scene, Tag};
use crate::chance::Chance;
use crate::lab::{Image, digest};
use crate::raw::Connection;

/// What one of them does with a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// Reads parts of it, from anywhere to anywhere, and compares each.
    Ranges,
    /// Asks what it is like.
    Heads,
    /// Reads all of it at its own slow pace, and compares it.
    Slow,
    /// Leaves in the middle.
    HangsUp,
    /// Stops reading in the middle, for longer than the proxy need put up with, and leaves.
    Stalls,
}

/// Each habit and its name, as often as there are threads of it.
const HABITS: [(Habit, &str); 8] = [
    (Habit::Ranges, "range reader"),
    (Habit::Ranges, "range reader"),
    (Habit::Heads, "HEAD"),
    (Habit::Slow, "slow reader"),
    (Habit::Slow, "slow reader"),
    (Habit::HangsUp, "hangs up"),
    (Habit::HangsUp, "hangs up"),
    (Habit::Stalls, "stops reading"),
];

/// How a fault begins that no window excuses.
const WRONG: &str = "WRONG BYTES:";
/// The largest part that is asked for.
const PART: u64 = 2 << 20;
/// How long a reader that has stopped stays.
const STALL: Duration = Duration::from_secs(75);
/// What a slow reader takes at a time, and how long it rests then: about 2 MB/s.
const SIP: usize = 64 << 10;
const REST: Duration = Duration::from_millis(30);

/// Starts one thread for each.
pub(super) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    scene: &'scope Scene,
    stop: &'scope AtomicBool,
) -> Vec<ScopedJoinHandle<'scope, ()>> {
    let threads = (51..).zip(HABITS).map(|(seed, (habit, name))| {
        scope.spawn(move || {
            let mut chance = Chance::new(seed);
            while !stop.load(Ordering::Relaxed) {
                attempt(scene, habit, name, &mut chance, stop);
                sleep(Duration::from_millis(50 + chance.below(200)));
            }
        })
    });
    threads.collect()
}

fn attempt(scene: &Scene, habit: Habit, name: &'static str, chance: &mut Chance, stop: &AtomicBool) {
    let tag = scene.pick(chance);
    // What a tag no longer points to may be gone from everywhere but its registry.
    let image = tag.current();
    let from = Instant::now();
    let asked = ask(scene, tag, image, habit, chance, stop);
    let excuse = scene.windows.excuse(tag.registry, from, Instant::now());
    match asked {
        Ok(()) => scene.tally.right(name, from.elapsed()),
        Err(error) if excuse.is_some() && !error.to_string().starts_with(WRONG) => scene.tally.excused(name),
        Err(error) => scene.tally.wrong(name, &format!("{} after {:?}: {error}", tag.name, from.elapsed())),
    }
}

fn ask(
    scene: &Scene,
    tag: &Tag,
    image: &Image,
    habit: Habit,
    chance: &mut Chance,
    stop: &AtomicBool,
) -> io::Result<()> {
    let authorization = authorization(scene, tag)?;
    let mut connection = scene.raw.tunnel(None, tag.authority, false)?;
    let parts = image.parts();
    let blob = &parts.blobs[chance.below(parts.blobs.len() as u64) as usize];
    let file = image.file(blob);
    let size = std::fs::metadata(&file)?.len();
    let url = |kind: &str, reference: &str| format!("/v2/{}/{kind}/{reference}", tag.repository);
    let put = |connection: &mut Connection, method: &str, target: &str, more: &str, status: u16| {
        let head = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n{authorization}{more}\r\n", tag.authority);
        let head = connection.ask(head.as_bytes())?;
        let fits = head.status == status;
        if fits { Ok(head) } else { Err(io::Error::other(format!("{method} {target}: {}", head.status))) }
    };
    let wrong = |what: String| Err(io::Error::other(format!("{WRONG} {what}")));
    match habit {
        Habit::Ranges => {
            for _ in 0..1 + chance.below(20) {
                let at = chance.below(size);
                let length = (1 + chance.below(PART)).min(size - at);
                let range = format!("range: bytes={at}-{}\r\n", at + length - 1);
                let head = put(&mut connection, "GET", &url("blobs", blob), &range, 206)?;
                let expected = format!("bytes {at}-{}/{size}", at + length - 1);
                if head.header("content-range") != Some(expected.as_str()) || head.length() != Some(length) {
                    return wrong(format!("{expected} of {blob}: {head:?}"));
                }
                let mut bytes = vec![0; length as usize];
                connection.read_exact(&mut bytes)?;
                if bytes != scene::part(&file, at, length as usize) {
                    return wrong(format!("{expected} of {blob}"));
                }
            }
        }
        Habit::Heads => {
            let manifest = &image.digest;
            for (target, name, size) in [
                (url("blobs", blob), blob, size),
                (url("manifests", manifest), manifest, std::fs::metadata(image.file(manifest))?.len()),
            ] {
                let head = put(&mut connection, "HEAD", &target, "", 200)?;
                if head.header("docker-content-digest") != Some(name) || head.length() != Some(size) {
                    return wrong(format!("HEAD {target}: {head:?}"));
                }
            }
        }
        Habit::Slow => {
            let head = put(&mut connection, "GET", &url("blobs", blob), "", 200)?;
            let length = head.length().unwrap_or_default();
            let slow = size < 40_000_000; // the largest in less than the time of a drain
            let mut content = Vec::new();
            while (content.len() as u64) < length {
                let sip = SIP.min((length - content.len() as u64) as usize);
                let at = content.len();
                content.resize(at + sip, 0);
                connection.read_exact(&mut content[at..])?;
                if slow && !stop.load(Ordering::Relaxed) {
                    sleep(REST);
                }
            }
            if length != size || digest(&content) != *blob {
                return wrong(format!("{blob}: {head:?}"));
            }
        }
        Habit::HangsUp | Habit::Stalls => {
            put(&mut connection, "GET", &url("blobs", blob), "", 200)?;
            let mut some = vec![0; (1 + chance.below(size.min(8 << 20))) as usize];
            connection.read_exact(&mut some)?;
            if some != scene::part(&file, 0, some.len()) {
                return wrong(format!("the first {} bytes of {blob}", some.len()));
            }
            let begun = Instant::now();
            while habit == Habit::Stalls && begun.elapsed() < STALL && !stop.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(200));
            }
        }
    }
    Ok(())
}

/// The header that opens a tag's repository.
fn authorization(scene: &Scene, tag: &Tag) -> io::Result<String> {
    let person = LOGINS.iter().find(|login| login.0 == tag.registry).map(|login| login.1);
    let Some(person) = person else { return Ok(String::new()) };
    let basic = format!("authorization: Basic {}\r\n", person.encoded());
    if tag.registry != "docker.io" {
        return Ok(basic);
    }
    let scope = format!("repository:{}:pull", tag.repository);
    let target = format!("/token?service=registry.docker.io&scope={scope}");
    let mut connection = scene.raw.tunnel(None, "auth.docker.io:443", false)?;
    let answer =
        connection.whole(format!("GET {target} HTTP/1.1\r\nhost: auth.docker.io\r\n{basic}\r\n").as_bytes())?;
    let token: serde_json::Value = serde_json::from_slice(&answer.body).map_err(io::Error::other)?;
    match token["token"].as_str() {
        Some(token) => Ok(format!("authorization: Bearer {token}\r\n")),
        None => Err(io::Error::other(format!("no token: {}", answer.head.status))),
    }
}

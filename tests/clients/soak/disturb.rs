//! What the soak does to the proxy and to registries while clients pull, one thing after the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use super::plan::{Plan, Third};
use super::pulls;
use super::scene::{FRESH, LOGINS, Scene};
use crate::chance::Chance;
use crate::client::Kind;
use crate::lab::{Registry, command, run};
use crate::proxy::{Proxy, program};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// SIGTERM; started again when it has ended.
    Terminate,
    /// SIGKILL; started again.
    Kill,
    /// The configuration changes: how long a tag is believed, and a registry that comes and goes. SIGHUP.
    Hangup,
    /// The same without a signal.
    FileChange,
    /// A registry, with its CDN, goes off the net for a while.
    Outage,
    /// It takes connections and says nothing.
    Silence,
    /// Its connections break, again and again.
    Cut,
    /// Its answers, and those of its CDN, come slowly.
    Slow,
    /// An image is removed from the cache.
    Remove,
    /// The whole cache is hashed while it serves.
    Verify,
    /// The cache is listed and counted.
    List,
    /// Tags move on the registries.
    Move,
}

const GENTLE: [Deed; 10] = [
    Deed::Move,
    Deed::Hangup,
    Deed::Cut,
    Deed::Remove,
    Deed::Outage,
    Deed::List,
    Deed::Slow,
    Deed::FileChange,
    Deed::Verify,
    Deed::Silence,
];
/// In the first third one of these comes with each of the others.
const HARSH: [Deed; 2] = [Deed::Terminate, Deed::Kill];
/// The longest that a command of `cache` may take.
const COMMAND: Duration = Duration::from_secs(120);
/// A drain has 25 s; what has not ended then is ended.
const ENDED: Duration = Duration::from_secs(45);
/// A probe that finds nobody waits twice as long as before, 30 s at most; its question may take 5 s.
const PROBE: Duration = Duration::from_secs(36);

/// Goes on until the time is over, or somebody wants the soak to end.
pub(super) fn until_the_end(proxy: &mut Proxy, scene: &Scene, plan: &Plan, stop: &AtomicBool, begin: Instant) {
    let interrupted = signals();
    let over = || begin.elapsed() >= plan.length || stop.load(Ordering::Relaxed) || interrupted.load(Ordering::Relaxed);
    let wait = |time: Duration| {
        let until = Instant::now() + time;
        while Instant::now() < until && !over() {
            sleep(Duration::from_millis(100));
        }
    };
    let mut chance = Chance::new(71);
    for number in 0.. {
        wait(plan.pause());
        if over() {
            break;
        }
        if plan.third(begin) == Third::First && number % 2 == 1 {
            deed(HARSH[number / 2 % HARSH.len()], proxy, scene, &mut chance, &wait);
            continue;
        }
        let gentle = if plan.third(begin) == Third::First { number / 2 } else { number };
        deed(GENTLE[gentle % GENTLE.len()], proxy, scene, &mut chance, &wait);
        scene.lab.forget();
        if proxy.ended(Duration::ZERO).is_some() {
            scene.tally.fault("the proxy", "it has ended by itself");
            return;
        }
    }
    if interrupted.load(Ordering::Relaxed) {
        scene.tally.fault("the soak itself", "it was interrupted");
    }
}

/// Rings when this process is to end: what it has started must end before it.
fn signals() -> std::sync::Arc<AtomicBool> {
    let rung = std::sync::Arc::new(AtomicBool::new(false));
    let rings = std::sync::Arc::clone(&rung);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let signal = |kind| tokio::signal::unix::signal(kind).unwrap();
            let mut terminate = signal(tokio::signal::unix::SignalKind::terminate());
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        });
        rings.store(true, Ordering::Relaxed);
    });
    rung
}

fn deed(deed: Deed, proxy: &mut Proxy, scene: &Scene, chance: &mut Chance, wait: &dyn Fn(Duration)) {
    eprintln!("soak: {deed:?}");
    let registries = scene.lab.registries();
    let (name, registry) = registries[chance.below(3) as usize];
    match deed {
        Deed::Terminate => terminate(proxy, scene),
        Deed::Kill => {
            scene.tally.event("killed and started again");
            let _window = scene.windows.open("killed", None);
            scene.is_run_by(None);
            proxy.kill();
            proxy.again();
            scene.is_run_by(proxy.id());
        }
        Deed::Hangup => {
            scene.tally.event("reloaded by SIGHUP");
            proxy.reload(change(chance));
        }
        Deed::FileChange => {
            scene.tally.event("reloaded by a change of the file");
            proxy.edit(change(chance));
        }
        Deed::Outage => away(scene, "a registry off the net", name, registry, Registry::stop, wait),
        Deed::Silence => away(scene, "a registry silent", name, registry, Registry::fall_silent, wait),
        Deed::Cut => {
            scene.tally.event("a registry's connections cut, five times");
            for _ in 0..5 {
                registry.site.cut();
                registry.cdn.iter().for_each(|cdn| cdn.cut());
                wait(Duration::from_millis(300 + chance.below(1000)));
            }
        }
        Deed::Slow => {
            scene.tally.event("a registry slow");
            let pace = |rate| {
                [Some(&registry.site), registry.cdn.as_ref()].into_iter().flatten().for_each(|site| site.pace(rate))
            };
            pace(6_000_000);
            wait(Duration::from_secs(10));
            pace(0);
        }
        Deed::Remove => {
            let tag = scene.pick(chance);
            scene.tally.event("an image removed from the cache");
            match cache(scene, &["rm", &tag.name]) {
                Err(said) if !said.contains("nothing") => scene.tally.fault("cache rm", &said),
                _ => {}
            }
        }
        Deed::Verify => {
            scene.tally.event("the cache verified while it serves");
            if let Err(said) = cache(scene, &["verify", "--all"]) {
                scene.tally.fault("cache verify", &said);
            }
        }
        Deed::List => {
            scene.tally.event("the cache listed");
            let prunes = cache(scene, &["prune", "--help"]).is_ok(); // some versions have it
            let prune = Some(&["prune"][..]).filter(|_| prunes);
            for words in [&["ls", "--json"][..], &["stats", "--json"], &["ls"]].into_iter().chain(prune) {
                if let Err(said) = cache(scene, words) {
                    scene.tally.fault("cache ls, stats or prune", &said);
                }
            }
        }
        Deed::Move => {
            scene.tally.event("three tags moved");
            for tag in scene.moving() {
                if let Err(said) = tag.advance(&scene.lab) {
                    scene.tally.fault("the soak itself", &format!("a push past the proxy failed: {said}"));
                }
            }
        }
    }
}

/// The proxy drains, ends, and is started again.
fn terminate(proxy: &mut Proxy, scene: &Scene) {
    scene.tally.event("ended by SIGTERM and started again");
    let _window = scene.windows.open("restarted", None);
    scene.is_run_by(None);
    proxy.terminate();
    match proxy.ended(ENDED) {
        Some(status) if status.success() => {}
        Some(status) => scene.tally.fault("the proxy", &format!("it ended by SIGTERM with {status}")),
        None => {
            scene.tally.fault("the proxy", &format!("it has not ended {ENDED:?} after SIGTERM"));
            proxy.kill();
        }
    }
    proxy.again();
    scene.is_run_by(proxy.id());
}

/// A registry is away for some seconds.
fn away(
    scene: &Scene,
    what: &'static str,
    name: &'static str,
    registry: &Registry,
    leave: fn(&Registry),
    wait: &dyn Fn(Duration),
) {
    scene.tally.event(what);
    let mut window = scene.windows.open(what, Some(name));
    let begun = Instant::now();
    leave(registry);
    wait(Duration::from_secs(12));
    registry.start();
    window.grace(PROBE.min(begun.elapsed() + Duration::from_secs(6)));
}

/// How long quay.io's tags are believed, and whether a registry that nobody asks is there.
fn change(chance: &mut Chance) -> impl FnOnce(&mut serde_json::Value) + use<> {
    let (fresh, there) = (chance.below(2) == 0, chance.below(2) == 0);
    move |config| {
        config["registries"]["quay.io"]["tags"]["fresh_for"] =
            json!(if fresh { "0s".into() } else { format!("{}s", FRESH.as_secs()) });
        let registries = config["registries"].as_object_mut().unwrap();
        registries.remove("toggled.example.com");
        if there {
            registries.insert("toggled.example.com".to_owned(), json!({}));
        }
    }
}

/// Runs `pullthrough cache` beside the running server.
fn cache(scene: &Scene, words: &[&str]) -> Result<String, String> {
    let mut cache = command(program(), &scene.dir);
    run(cache.arg("cache").args(words).args(["--config", "config.yaml"]), COMMAND)
}

/// After the load: one more restart, then every image is pulled once more and the store is verified, first by the
/// running server and then, when it has ended, by sha256sum.
pub(super) fn last(proxy: &mut Proxy, scene: &Scene) {
    terminate(proxy, scene);
    let skopeo = Kind::Skopeo.fresh_with(&scene.lab, &scene.way, &LOGINS);
    sleep(Duration::from_millis(1)); // out of the restart's window
    for tag in &scene.tags {
        pulls::pull(scene, "Skopeo, at the end", &*skopeo, tag, &tag.name);
        let _ = skopeo.remove(&tag.name);
    }
    if let Err(said) = cache(scene, &["verify", "--all"]) {
        scene.tally.fault("cache verify, at the end", &said);
    }
    proxy.terminate();
    if !proxy.ended(ENDED).is_some_and(|status| status.success()) {
        scene.tally.fault("the proxy", "it did not end well at the end");
    }
    scene
        .tally
        .note(format!("{} blobs are left in the cache; sha256sum finds each as its name says", proxy.verify_blobs()));
}

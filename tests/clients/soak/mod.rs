//! The soak: an hour of mixed real clients against the real program, through restarts, kills, reloads and outages.
//!
//! Flow: `scene` publishes images in a lab and starts the proxy with a cache that is far too small. `pulls` and `raws`
//! are clients, each a thread that goes on until the end. `disturb` does something to the proxy or to a registry now
//! and then, and opens a window (`windows`) while that may fail a pull; a pull that fails in no window is a fault.
//! `sample` measures the process, `log` reads what it said, `judge` says whether all of it was right.
//! In the first third of the time the proxy is also ended and killed; one process serves the other two thirds, so that
//! what it does not give back adds up. Started by `tests/soak`, never with the other tests.
//! Never: an address beyond loopback. Names are asked of a server of our own, which knows none.

mod disturb;
mod judge;
mod log;
mod names;
mod plan;
mod pulls;
mod raws;
mod sample;
mod scene;
mod tally;
mod windows;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use plan::Plan;
use scene::Scene;

#[test]
#[ignore = "takes an hour; tests/soak starts it"]
fn soak() {
    let plan = Plan::from_environment();
    let stop = AtomicBool::new(false);
    let (mut proxy, scene) = Scene::new(&plan);
    let begin = Instant::now();
    let base = sample::Sample::take(&scene).expect("the proxy runs");
    let samples = std::thread::scope(|scope| {
        let (scene, stop, plan) = (&scene, &stop, &plan);
        let _ends = OnDrop(stop); // a panic of this thread must end the others
        let sampler = scope.spawn(move || sample::until(stop, scene, plan, begin));
        let clients = pulls::start(scope, scene, stop).into_iter().chain(raws::start(scope, scene, stop));
        let clients: Vec<_> = clients.collect();
        disturb::until_the_end(&mut proxy, scene, plan, stop, begin);
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            if client.join().is_err() {
                scene.tally.fault("the soak itself", "a client's thread broke off, see above");
            }
        }
        sampler.join().unwrap()
    });
    let took = begin.elapsed();
    let rest = sample::rest(&scene, &base, Duration::from_secs(150));
    disturb::last(&mut proxy, &scene);
    let verdict = judge::judge(&scene, &proxy, &samples, &base, &rest, took);
    plan.write("summary.txt", &verdict.text);
    print!("{}", verdict.text);
    if !verdict.faults.is_empty() {
        plan.keep(&proxy.dir.join("log")); // to find the reason in
    }
    assert!(verdict.faults.is_empty(), "the soak found faults:\n{}", verdict.faults.join("\n"));
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

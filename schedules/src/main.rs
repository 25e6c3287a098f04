//! Runs the leases of blobs and the coalescing of requests in many schedules of their threads.
//!
//! The files of the program are compiled here as they are, on a standard library whose locks are shuttle's (`std/`): it
//! decides at each lock and each await which thread goes on, at random by a seed that a failure prints. The permit of
//! fills needs the whole store: its schedules are a unit test, `every_order_of_entering_and_leaving`.
#![no_std]
#![expect(dead_code, reason = "the files have more than is used here")]

extern crate schedules_std as std;

#[path = "../../src/host/tasks/flight.rs"]
mod flight;
#[path = "../../src/store/content/lease.rs"]
mod lease;
#[path = "../../src/store/lock.rs"]
mod lock;

mod oci {
    /// Stands for the digest of a blob.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub(crate) struct Digest(pub(crate) u8);
}

mod store {
    pub(crate) use crate::lock;
}

mod group {
    /// Starts tasks as shuttle does.
    #[derive(Clone, Default)]
    pub struct TaskGroup;

    impl TaskGroup {
        pub fn new() -> Self {
            Self
        }

        pub fn spawn_until_stop(&self, work: impl Future<Output: Send> + Send + 'static) {
            shuttle::future::spawn(async move {
                work.await;
            });
        }
    }
}

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::vec::Vec;

use flight::{Coalesced, Flights};
use lease::Leases;
use oci::Digest;
use shuttle::{future, thread};

/// Readers and evictions of one blob never overlap, and nothing is held in the end.
fn leases() {
    let (leases, digest) = (Arc::new(Leases::default()), Digest(1));
    let (reading, evicting) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let read = {
        let (leases, reading, evicting) = (leases.clone(), reading.clone(), evicting.clone());
        move || {
            for _ in 0..2 {
                let Some(_lease) = leases.take(&digest) else { continue };
                reading.fetch_add(1, SeqCst);
                thread::yield_now();
                assert_eq!(evicting.load(SeqCst), 0);
                reading.fetch_sub(1, SeqCst);
            }
        }
    };
    let evict = {
        let leases = leases.clone();
        move || {
            for _ in 0..2 {
                let Some(_eviction) = leases.evict(&digest) else { continue };
                assert_eq!(evicting.fetch_add(1, SeqCst), 0);
                thread::yield_now();
                assert_eq!(reading.load(SeqCst), 0);
                evicting.fetch_sub(1, SeqCst);
            }
        }
    };
    let threads =
        [thread::spawn(read.clone()), thread::spawn(read), thread::spawn(evict.clone()), thread::spawn(evict)];
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(!leases.holds(&digest));
}

/// Callers of one key share a request, one at a time; each is answered by the one that it led or joined.
fn flights() {
    let flights = Flights::<u8, usize>::new();
    let (asked, asking) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let ask = || {
        let (flights, asked, asking) = (flights.clone(), asked.clone(), asking.clone());
        async move {
            let make = move || async move {
                assert_eq!(asking.fetch_add(1, SeqCst), 0, "one at a time");
                future::yield_now().await;
                asking.fetch_sub(1, SeqCst);
                asked.fetch_add(1, SeqCst)
            };
            flights.run(1, None, make).await
        }
    };
    let callers: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn({
                let caller = ask();
                move || future::block_on(caller)
            })
        })
        .collect();
    // One that leaves before it is answered takes nothing with it.
    let leaving = thread::spawn({
        let mut caller = std::boxed::Box::pin(ask());
        move || future::block_on(async move { futures_util::poll!(&mut caller).is_ready() })
    });
    let answers: Vec<_> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    leaving.join().unwrap();
    let mut led: Vec<usize> = Vec::new();
    for answer in &answers {
        match answer {
            Some(Coalesced::Led(number)) => led.push(*number),
            Some(Coalesced::Joined(_)) => {}
            None => panic!("a caller was not answered"),
        }
    }
    led.sort_unstable();
    led.dedup();
    assert!(led.len() == answers.iter().filter(|answer| matches!(answer, Some(Coalesced::Led(_)))).count());
}

fn main() {
    let schedules = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(20_000);
    for (name, check) in [("leases", leases as fn()), ("flights", flights)] {
        shuttle::check_random(check, schedules);
        shuttle::check_pct(check, schedules, 3);
        std::println!("{name}: {schedules} random schedules and {schedules} with few changes of thread passed");
    }
}

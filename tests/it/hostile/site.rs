//! One cell's registry: what it holds, how it attacks, in which phase it is, and what it was asked.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pullthrough::oci::{Algorithm, Digest};

use super::honest::{self, Answer, Asked};
use super::kinds::Kind;
use super::things::Things;

/// What the registry does to every request that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// It is honest, and lets its owner alone read.
    Private,
    /// It is the cell's kind of hostile.
    Attack,
    /// It lets nobody read.
    Closed,
    /// It is honest, and lets everybody read.
    Public,
}

const PHASES: [Phase; 4] = [Phase::Private, Phase::Attack, Phase::Closed, Phase::Public];

/// The `User-Agent` of what is asked in the phase of attack. The proxy's requests in a caller's name bear it, too.
pub(super) const ATTACKED: &str = "attacked/1";

/// One registry.
pub(super) struct Site {
    pub(super) host: String,
    pub(super) things: Things,
    pub(super) kind: Kind,
    phase: AtomicU8,
    seen: Mutex<Vec<Asked>>,
    /// What it has sent besides what it holds.
    said: Mutex<HashSet<Digest>>,
    /// Connections, for kinds that say something else on each.
    pub(super) connections: AtomicUsize,
}

/// All registries, by host.
pub(super) type Sites = HashMap<String, Arc<Site>>;

impl Site {
    pub(super) fn new(host: String, kind: Kind) -> Self {
        let (things, phase, seen) = (Things::of(&host), AtomicU8::new(0), Mutex::default());
        Self { host, things, kind, phase, seen, said: Mutex::default(), connections: AtomicUsize::new(0) }
    }

    pub(super) fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase.load(Ordering::SeqCst))]
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::SeqCst);
    }

    /// Writes a request down.
    pub(super) fn see(&self, asked: &Asked) {
        self.seen.lock().unwrap().push(asked.clone());
    }

    /// The answer of a phase in which it is honest.
    pub(super) fn answer(&self, asked: &Asked) -> Answer {
        match self.phase() {
            Phase::Private => honest::private(&self.things, asked),
            Phase::Closed => honest::closed(),
            Phase::Attack | Phase::Public => honest::public(&self.things, asked),
        }
    }

    /// Remembers the body of an answer.
    pub(super) fn say(&self, body: &[u8]) {
        self.said.lock().unwrap().insert(Digest::of(Algorithm::Sha256, body));
    }

    /// The digests of what it holds, and of whatever else it has sent.
    pub(super) fn bodies(&self) -> HashSet<Digest> {
        let held = self.things.all().map(|thing| thing.digest);
        self.said.lock().unwrap().iter().copied().chain(held).collect()
    }

    /// How many requests came in the name of whoever asked in the phase of attack, whenever they came.
    pub(super) fn attacked(&self) -> usize {
        self.seen.lock().unwrap().iter().filter(|asked| asked.agent == ATTACKED).count()
    }

    /// How many came that were the proxy's own.
    pub(super) fn probed(&self) -> usize {
        self.seen.lock().unwrap().iter().filter(|asked| asked.agent.starts_with("pullthrough/")).count()
    }

    /// Everything that was asked, for whoever looks for the reason of a failure.
    pub(super) fn protocol(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|asked| format!("{} {} by {}", asked.method, asked.path, asked.agent)).collect()
    }
}

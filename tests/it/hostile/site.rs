//! One cell's registry: what it holds, how it attacks, in which phase it is, and what it was asked.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use pullthrough::oci::{Algorithm, Digest};
use tokio::sync::watch;

use super::honest::{self, Answer, Asked};
use super::kinds::Kind;
use super::things::{Thing, Things};

/// What the registry does to every request that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// The `User-Agent` of what is asked in the phase of attack. The proxy's requests in a caller's name bear it, too.
pub(super) const ATTACKED: &str = "attacked/1";

/// One registry.
pub(super) struct Site {
    pub(super) host: String,
    pub(super) things: Things,
    pub(super) kind: Kind,
    phase: watch::Sender<Phase>,
    seen: Mutex<Vec<Asked>>,
    /// What it has sent besides what it holds.
    said: Mutex<HashSet<Digest>>,
    padded: OnceLock<Thing>,
    /// How many answers were written to their end.
    answered: AtomicUsize,
}

/// All registries, by host.
pub(super) type Sites = HashMap<String, Arc<Site>>;

impl Site {
    pub(super) fn new(host: String, kind: Kind) -> Self {
        let (things, phase, seen) = (Things::of(&host), watch::Sender::new(Phase::Private), Mutex::default());
        Self {
            host,
            things,
            kind,
            phase,
            seen,
            said: Mutex::default(),
            padded: OnceLock::new(),
            answered: AtomicUsize::new(0),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Ends when it is honest at last: then its floods are over. What hangs, hangs on.
    pub(super) async fn healed(&self) {
        let _ = self.phase.subscribe().wait_for(|phase| *phase == Phase::Public).await;
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

    pub(super) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether so many questions came, and were answered.
    pub(super) fn has_answered(&self, questions: usize) -> bool {
        self.seen.lock().unwrap().len() == questions && self.answered.load(Ordering::SeqCst) == questions
    }

    /// Remembers the body of an answer. One that is empty is nothing to be stored.
    pub(super) fn say(&self, body: &[u8]) {
        if body.is_empty() {
            return;
        }
        self.said.lock().unwrap().insert(Digest::of(Algorithm::Sha256, body));
    }

    /// The new manifest with spaces behind it, so long.
    pub(super) fn padded(&self, length: usize) -> &Thing {
        self.padded.get_or_init(|| {
            let mut bytes = self.things.manifest.bytes.clone();
            bytes.resize(length, b' ');
            Thing::of(bytes)
        })
    }

    /// Whether it is honest of it to say that it has this.
    pub(super) fn has(&self, is: impl Fn(&Digest) -> bool) -> bool {
        self.things.all().into_iter().chain(self.padded.get()).any(|thing| is(&thing.digest))
    }

    /// The digests of what it holds, and of whatever else it has sent.
    pub(super) fn bodies(&self) -> HashSet<Digest> {
        let held = self.things.all().into_iter().chain(self.padded.get()).map(|thing| thing.digest);
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

//! Counts of what clients did, and the faults that they found.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// So many faults are told in words; all are counted.
const TOLD: usize = 40;

/// What one kind of client did.
#[derive(Clone, Debug, Default)]
pub(super) struct Done {
    pub(super) right: u64,
    /// Tried again after a window.
    pub(super) excused: u64,
    pub(super) wrong: u64,
    pub(super) slowest: Duration,
}

#[derive(Default)]
struct Inner {
    done: BTreeMap<&'static str, Done>,
    events: BTreeMap<&'static str, u64>,
    faults: Vec<String>,
    untold: u64,
    notes: Vec<String>,
}

/// Shared by all threads.
#[derive(Default)]
pub(super) struct Tally(Mutex<Inner>);

impl Tally {
    /// A client had what it asked for.
    pub(super) fn right(&self, client: &'static str, took: Duration) {
        let mut inner = self.0.lock().unwrap();
        let done = inner.done.entry(client).or_default();
        done.right += 1;
        done.slowest = done.slowest.max(took);
    }

    /// A client failed in a window.
    pub(super) fn excused(&self, client: &'static str) {
        self.0.lock().unwrap().done.entry(client).or_default().excused += 1;
    }

    /// A client failed for no reason, or has other bytes than it should.
    pub(super) fn wrong(&self, client: &'static str, what: &str) {
        self.0.lock().unwrap().done.entry(client).or_default().wrong += 1;
        self.fault(client, what);
    }

    /// Something is not as it should be.
    pub(super) fn fault(&self, who: &str, what: &str) {
        let text = format!("{who}: {what}");
        eprintln!("soak: FAULT {text}");
        let mut inner = self.0.lock().unwrap();
        if inner.faults.len() < TOLD { inner.faults.push(text) } else { inner.untold += 1 }
    }

    /// Something happened that nobody need worry about.
    pub(super) fn event(&self, what: &'static str) {
        *self.0.lock().unwrap().events.entry(what).or_default() += 1;
    }

    /// Something that a reader of the summary should know.
    pub(super) fn note(&self, what: String) {
        eprintln!("soak: {what}");
        self.0.lock().unwrap().notes.push(what);
    }

    /// What each kind of client did.
    pub(super) fn done(&self) -> BTreeMap<&'static str, Done> {
        self.0.lock().unwrap().done.clone()
    }

    /// How often what happened.
    pub(super) fn events(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap().events.clone()
    }

    /// What a reader should know.
    pub(super) fn notes(&self) -> Vec<String> {
        self.0.lock().unwrap().notes.clone()
    }

    /// Every fault.
    pub(super) fn faults(&self) -> Vec<String> {
        let inner = self.0.lock().unwrap();
        let mut faults = inner.faults.clone();
        if inner.untold > 0 {
            faults.push(format!("and {} more", inner.untold));
        }
        faults
    }
}

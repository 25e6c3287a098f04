//! The state of one part of a registry: there, suspected, or away, as its evidence and its probes say.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::cause::OutageCause;
use crate::host::Backoff;
use crate::upstream::FailureReason;

pub(crate) const FIRST: Duration = Duration::from_secs(1);
pub(crate) const LONGEST: Duration = Duration::from_secs(30);
const BACKOFF: Backoff = Backoff::new(FIRST, LONGEST);
/// What comes so soon after another outage or suspicion is the same one, and is probed as seldom.
pub(crate) const SAME: Duration = Duration::from_secs(60);
/// So many real questions are let through after a probe that was answered with an error.
const TRIALS: u32 = 3;

/// How far it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WardPhase {
    /// It is there.
    #[default]
    Well,
    /// Something failed: a probe is asking.
    Suspect,
    /// The probe has failed, too.
    Away,
}

/// What made it suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Errors and exchanges that broke off, which may be about what was asked.
    Errors,
    /// It could not be reached, or missed a deadline.
    Silence,
}

/// What came of one probe, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Probed {
    /// An answer.
    Well,
    /// An answer of 5xx.
    Error,
    /// None.
    Silence,
}

#[derive(Debug)]
pub(crate) struct Ward {
    pub(crate) phase: WardPhase,
    cause: Cause,
    /// Which suspicion this is, so that a probe of an earlier one ends.
    pub(crate) number: u64,
    /// What was asked before this says nothing.
    pub(crate) changed: Instant,
    /// A connection of before may lead nowhere.
    pub(crate) opened: Option<Instant>,
    /// When it was last found to be there after silence.
    pub(crate) answered: Option<Instant>,
    /// When its last outage ended.
    pub(crate) left: Option<Instant>,
    pub(crate) backoff: Backoff,
    /// No errors are believed for so long, from then on.
    rest: Backoff,
    rested: Option<Instant>,
    trials: u32,
    /// Probes in vain, since it is away.
    pub(crate) vain: u32,
    /// When it was given up last, away as it was.
    pub(crate) given_up: Option<Instant>,
    /// Rung when something is wanted that only it has.
    pub(crate) wanted: Arc<Notify>,
    /// Why it is suspect or away.
    pub(crate) why: Option<OutageCause>,
    /// Since when it is away, also under an earlier configuration, until it is found to be there.
    pub(crate) since: Option<Instant>,
    /// The reason that the log has told last, and not taken back since, and since when it is away.
    pub(crate) told: Option<(FailureReason, Instant)>,
}

impl Ward {
    pub(crate) fn new() -> Self {
        Self {
            phase: WardPhase::Well,
            cause: Cause::Errors,
            number: 0,
            changed: Instant::now(),
            opened: None,
            answered: None,
            left: None,
            backoff: BACKOFF,
            rest: BACKOFF,
            rested: None,
            trials: 0,
            vain: 0,
            given_up: None,
            wanted: Arc::default(),
            why: None,
            since: None,
            told: None,
        }
    }

    /// Whether requests wait for the probe: it may be silent.
    pub(crate) fn is_held(&self) -> bool {
        self.phase == WardPhase::Suspect && self.cause == Cause::Silence
    }

    /// Takes it for suspect. Answers whether a probe is to be started.
    pub(crate) fn suspect(&mut self, cause: Cause) -> bool {
        let rests = self.rested.is_some_and(|since| since.elapsed() < self.rest.pause());
        if self.phase != WardPhase::Well || (rests && cause == Cause::Errors) {
            return false;
        }
        (self.phase, self.cause) = (WardPhase::Suspect, cause);
        self.number += 1;
        if cause == Cause::Silence {
            self.changed = Instant::now();
            self.opened = Some(self.changed);
        }
        true
    }

    /// Takes what a probe came to. Answers whether it is there.
    pub(crate) fn probed(&mut self, probed: Probed, counts_errors: bool) -> bool {
        let is_there = match probed {
            Probed::Well => true,
            // A registry may answer a ping with 5xx for ever, and all else well: so this is news only where errors were.
            Probed::Error => !counts_errors || self.cause == Cause::Silence,
            Probed::Silence => false,
        };
        if is_there {
            self.end();
            return true;
        }
        if self.phase == WardPhase::Suspect {
            self.phase = WardPhase::Away;
            self.changed = Instant::now();
            self.opened = Some(self.changed);
            self.since.get_or_insert(self.changed);
            self.vain = 0;
            let is_same = self.left.is_some_and(|left| left.elapsed() < SAME);
            if !is_same {
                self.backoff.reset();
            }
        } else {
            self.vain += 1;
            self.backoff.grow();
        }
        self.trials = if probed == Probed::Error { TRIALS } else { 0 };
        false
    }

    /// It is there.
    pub(crate) fn end(&mut self) {
        let now = Instant::now();
        if self.phase == WardPhase::Away {
            self.left = Some(now);
        } else {
            let is_same = self.rested.is_some_and(|since| since.elapsed() < SAME);
            self.rest = if is_same { self.rest.grown() } else { BACKOFF };
            self.rested = Some(now);
        }
        if self.phase == WardPhase::Away || self.cause == Cause::Silence {
            self.changed = now;
            self.answered = Some(now);
        }
        self.phase = WardPhase::Well;
        self.why = None;
        self.since = None;
        self.trials = 0;
    }

    /// Nobody waits for it any longer.
    pub(crate) fn give_up(&mut self) {
        self.end();
        self.given_up = Some(Instant::now());
    }

    /// Whether no question may be asked.
    pub(crate) fn is_barred(&self) -> bool {
        self.phase == WardPhase::Away && self.trials == 0
    }

    /// Whether one more question may be asked, to see.
    pub(crate) fn take_trial(&mut self) -> bool {
        let is_left = self.trials > 0;
        self.trials = self.trials.saturating_sub(1);
        is_left
    }
}

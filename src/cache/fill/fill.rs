//! The state of one fill, shared by its pilot, its digest reader and its followers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::watch;

use super::follower::Follower;
use super::plan::{LengthChanged, Phase, Plan, Seat};
use crate::cache::{Caller, Fault, Retry};
use crate::oci::Digest;
use crate::store::Staged;
use crate::wire::Span;

/// One content on its way into the store.
pub struct Fill {
    digest: Digest,
    staged: Arc<Staged>,
    plan: Mutex<Plan>,
    seats: AtomicU64,
    sources: Mutex<Vec<Lead>>,
    head: watch::Sender<Head>,
}

/// What a caller can be told before the first byte.
#[derive(Clone, Debug)]
enum Head {
    Opening,
    /// A source is open; the length, if it said one.
    Open(Option<u64>),
    Verified(u64),
    Broken(Fault),
}

/// A source and how it opened, on behalf of whom.
#[derive(Clone)]
pub(super) struct Lead {
    pub(super) caller: Caller,
    pub(super) opened: watch::Sender<Option<Result<(), Fault>>>,
}

impl Lead {
    fn settle(&self, fault: &Fault) {
        self.opened.send_if_modified(|opened| {
            let open = opened.is_none();
            if open {
                *opened = Some(Err(fault.clone()));
            }
            open
        });
    }
}

/// A fill ended before the caller's source was asked.
#[derive(Debug, thiserror::Error)]
#[error("the fill ended before this caller's own request was made")]
pub(super) struct NotAsked;

impl Fill {
    pub(super) fn new(digest: Digest, staged: Staged, lead: Lead) -> Self {
        Self {
            digest,
            staged: Arc::new(staged),
            plan: Mutex::new(Plan::new()),
            seats: AtomicU64::new(1),
            sources: Mutex::new(vec![lead]),
            head: watch::Sender::new(Head::Opening),
        }
    }

    /// What is being filled.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Waits until the content's length is known, in bytes; `None` when the upstream does not say it and the
    /// end is not there yet. An empty content answers once its digest matched. Cancel-safe.
    ///
    /// # Errors
    /// The fault that broke the fill.
    pub async fn length(&self) -> Result<Option<u64>, Fault> {
        let mut head = self.head.subscribe();
        let known = head.wait_for(|head| !matches!(head, Head::Opening | Head::Open(Some(0)))).await;
        match known.as_deref() {
            Ok(Head::Broken(fault)) => Err(fault.clone()),
            Ok(Head::Open(total)) => Ok(*total),
            Ok(Head::Verified(total)) => Ok(Some(*total)),
            Ok(Head::Opening) | Err(_) => Ok(None), // the sender lives in self
        }
    }

    /// Waits until the digest matched and answers the length in bytes. Cancel-safe.
    ///
    /// # Errors
    /// The fault that broke the fill.
    pub async fn verified(&self) -> Result<u64, Fault> {
        let mut head = self.head.subscribe();
        match head.wait_for(|head| matches!(head, Head::Verified(_) | Head::Broken(_))).await.as_deref() {
            Ok(Head::Broken(fault)) => Err(fault.clone()),
            Ok(Head::Verified(total)) => Ok(*total),
            _ => Ok(0),
        }
    }

    /// A reader of the whole content (`span` is `None`) or of a part of it. A whole, and a part from 0 to the
    /// end, is held back by its last byte until the digest matched.
    #[must_use]
    pub fn follow(self: &Arc<Self>, span: Option<Span>) -> Follower {
        let total = self.plan().total();
        let hold = span.is_none_or(|span| span.from == 0 && total.is_none_or(|total| span.to >= total));
        Follower::new(self.clone(), self.staged.clone(), Seat(self.seats.fetch_add(1, Ordering::Relaxed)), span, hold)
    }

    pub(super) fn staged(&self) -> &Arc<Staged> {
        &self.staged
    }

    pub(super) fn readable(&self, at: u64, hold: bool, seat: Seat, cx: &Context<'_>) -> Poll<Result<u64, Fault>> {
        self.plan().readable(at, hold, seat, cx)
    }

    pub(super) fn total(&self) -> Option<u64> {
        self.plan().total()
    }

    pub(super) fn verified_now(&self) -> bool {
        matches!(self.plan().phase(), Phase::Verified)
    }

    pub(super) fn is_broken(&self) -> bool {
        matches!(self.plan().phase(), Phase::Broken(_))
    }

    pub(super) fn hole(&self) -> Option<(u64, Option<u64>)> {
        self.plan().hole()
    }

    pub(super) fn progress(&self) -> u64 {
        self.plan().progress()
    }

    pub(super) fn leave(&self, at: u64, seat: Seat) {
        self.plan().leave(at, seat);
    }

    pub(super) fn land(&self, span: Span) {
        let woken = self.plan().land(span);
        woken.into_iter().for_each(Waker::wake);
    }

    /// A source is open and has said this length, or none.
    pub(super) fn opened(&self, total: Option<u64>) -> Result<(), LengthChanged> {
        if let Some(total) = total {
            let woken = self.plan().learn_total(total)?;
            woken.into_iter().for_each(Waker::wake);
        }
        self.head.send_if_modified(|head| {
            let news = matches!(head, Head::Opening) || matches!((&head, total), (Head::Open(None), Some(_)));
            if news {
                *head = Head::Open(total);
            }
            news
        });
        Ok(())
    }

    pub(super) fn verify(&self, total: u64) {
        let unasked = Fault::new(Retry::Again, NotAsked);
        self.settle(&unasked);
        self.end(Phase::Verified, Head::Verified(total));
    }

    pub(super) fn break_off(&self, fault: &Fault) {
        self.settle(fault);
        self.end(Phase::Broken(fault.clone()), Head::Broken(fault.clone()));
    }

    /// Nobody waits for ever for a lead that was not asked.
    fn settle(&self, fault: &Fault) {
        for lead in self.leads().iter() {
            lead.settle(fault);
        }
    }

    fn end(&self, phase: Phase, head: Head) {
        let woken = self.plan().end(phase);
        self.head.send_replace(head);
        woken.into_iter().for_each(Waker::wake);
    }

    /// The lead of the same principal at the same place, if one takes part.
    pub(super) fn lead_of(&self, caller: &Caller) -> Option<Lead> {
        // Only the first one is being asked, or was: another's opening might never come.
        let leads = self.leads();
        let same = |lead: &&Lead| lead.caller.place == caller.place && lead.caller.principal == caller.principal;
        let asked = |(position, lead): &(usize, &Lead)| *position == 0 || lead.opened.borrow().is_some();
        leads.iter().enumerate().filter(asked).map(|(_, lead)| lead).find(same).cloned()
    }

    /// Another source that can continue when the present one ends.
    pub(super) fn add(&self, lead: Lead) {
        const ENOUGH: usize = 16; // a thousand joiners need not all be able to lead
        let mut leads = self.leads();
        if leads.len() < ENOUGH {
            leads.push(lead);
        }
    }

    /// The source to ask now.
    pub(super) fn first_lead(&self) -> Option<Lead> {
        self.leads().first().cloned()
    }

    /// The source failed for good; the next one is first now.
    pub(super) fn drop_first_lead(&self, fault: &Fault) {
        let mut leads = self.leads();
        if !leads.is_empty() {
            let failed = leads.remove(0);
            drop(leads);
            failed.settle(fault);
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leads(&self) -> MutexGuard<'_, Vec<Lead>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

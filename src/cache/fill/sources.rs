//! The sources of a fill: the first one is asked, the others continue when it ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::cache::{Caller, Fault, FaultKind, Reach, Retry};

/// A thousand joiners need not all be able to lead.
const ENOUGH: usize = 16;

/// A source and how it opened, on behalf of whom.
#[derive(Clone)]
pub(crate) struct FillSource {
    pub(crate) caller: Caller,
    /// The one that came last of those that ask in the same name.
    spare: Option<Caller>,
    opened: watch::Sender<Option<Result<Reach, Fault>>>,
    /// The registry has refused its principal since: what it proved proves nothing any more.
    is_doubted: Arc<AtomicBool>,
    /// Its opening is younger than this.
    begun: Instant,
}

/// How the caller's own source opens: its proof that it may read.
#[derive(Clone)]
pub struct Opening(watch::Receiver<Option<Result<Reach, Fault>>>);

/// A fill ended before the caller's source was asked.
#[derive(Debug, thiserror::Error)]
#[error("the caller's own request was not made, or its answer proved nothing")]
struct NotAsked;

/// What those are told whose source was not asked.
pub(crate) fn not_asked() -> Fault {
    Fault::new(Retry::Again, NotAsked).of(FaultKind::NotAsked)
}

/// Whether the fill has said nothing of the caller's right, neither yes nor no.
pub(crate) fn says_nothing(fault: &Fault) -> bool {
    fault.kind == FaultKind::NotAsked
}

impl Opening {
    /// Waits for the outcome: how far it reaches as a yes, if the bytes are those of the digest. Cancel-safe.
    ///
    /// # Errors
    /// What the source answered instead of bytes.
    pub async fn outcome(mut self) -> Result<Reach, Fault> {
        match self.0.wait_for(Option::is_some).await.map(|seen| seen.clone()) {
            Ok(Some(outcome)) => outcome,
            // The fill ended before it needed this source: nothing was proven, and nothing refused.
            _ => Err(not_asked()),
        }
    }
}

impl FillSource {
    pub(crate) fn of(caller: &Caller) -> Self {
        Self {
            caller: caller.clone(),
            spare: None,
            opened: watch::Sender::new(None),
            is_doubted: Arc::default(),
            begun: Instant::now(),
        }
    }

    /// To wait for how it opens.
    pub(crate) fn opening(&self) -> Opening {
        Opening(self.opened.subscribe())
    }

    /// It has answered with bytes.
    pub(crate) fn succeeded(&self, reach: Reach) {
        self.opened.send_replace(Some(Ok(reach)));
    }

    /// It has answered with bytes, and not as one that knows the content.
    pub(crate) fn proves_nothing(&self) {
        self.failed(&not_asked());
    }

    /// Whether it has answered, with bytes or without.
    pub(crate) fn has_answered(&self) -> bool {
        self.opened.borrow().is_some()
    }

    fn failed(&self, fault: &Fault) {
        self.opened.send_if_modified(|opened| opened.is_none().then(|| *opened = Some(Err(fault.clone()))).is_some());
    }

    /// Whether its opening is the caller's own proof, or denial: for as long as a proof is believed.
    fn speaks_for(&self, caller: &Caller) -> bool {
        self.is_of(caller) && self.caller.asker() == caller.asker() && self.begun.elapsed() < caller.trust.lives.life
    }

    fn is_of(&self, caller: &Caller) -> bool {
        self.caller.place == caller.place && self.caller.principal == caller.principal
    }

    fn is(&self, other: &Self) -> bool {
        self.opened.same_channel(&other.opened)
    }
}

/// All of them, in the order in which they are asked.
pub(crate) struct Sources(Mutex<Vec<FillSource>>);

impl Sources {
    pub(crate) fn new(first: FillSource) -> Self {
        Self(Mutex::new(vec![first]))
    }

    /// The source of the same principal at the same place, asked in the same name, if one takes part that is not doubted.
    /// The caller's own credentials are kept beside: the source's may expire before it has delivered all.
    pub(crate) fn of(&self, caller: &Caller) -> Option<FillSource> {
        let is_good = |source: &&FillSource| source.speaks_for(caller) && !source.is_doubted.load(Ordering::Acquire);
        // Only the first one is being asked, or was: another's opening might never come.
        let sources = self.lock();
        let asked = sources.iter().enumerate().filter(|(position, source)| *position == 0 || source.has_answered());
        let found = asked.map(|(_, source)| source).find(is_good).cloned();
        drop(sources);
        found.iter().for_each(|source| self.keep_spare(source, caller));
        found
    }

    /// The registry has refused `caller`. Its source may go on, and proves nothing.
    pub(crate) fn doubt(&self, caller: &Caller) {
        let sources = self.lock();
        sources
            .iter()
            .filter(|source| source.is_of(caller))
            .for_each(|source| source.is_doubted.store(true, Ordering::Release));
    }

    /// Another one that can continue when the present one ends.
    pub(crate) fn add(&self, source: FillSource) {
        let mut sources = self.lock();
        if sources.len() < ENOUGH {
            sources.push(source);
        }
    }

    /// Another caller of the same asks in the same name, perhaps with credentials that live longer.
    fn keep_spare(&self, source: &FillSource, caller: &Caller) {
        let mut sources = self.lock();
        sources.iter_mut().filter(|known| known.is(source)).for_each(|known| known.spare = Some(caller.clone()));
    }

    /// Whether its name can be asked in with other credentials, which came since; they are used from now on.
    pub(crate) fn renew(&self, source: &FillSource) -> bool {
        let mut sources = self.lock();
        let Some(known) = sources.iter_mut().find(|known| known.is(source)) else { return false };
        let spare = known.spare.take();
        spare.map(|spare| known.caller = spare).is_some()
    }

    /// Whether anybody else can be asked.
    pub(crate) fn has_another(&self, than: &FillSource) -> bool {
        self.lock().iter().any(|known| !known.is(than))
    }

    /// The one to ask now.
    pub(crate) fn first(&self) -> Option<FillSource> {
        self.lock().first().cloned()
    }

    /// One failed for good; another one is first now.
    pub(crate) fn drop_one(&self, source: &FillSource, fault: &Fault) {
        self.lock().retain(|known| !known.is(source));
        source.failed(fault);
    }

    /// The fill ends: a source that was not asked is told so.
    pub(crate) fn fail(&self, fault: &Fault) {
        self.lock().iter().for_each(|source| source.failed(fault));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<FillSource>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

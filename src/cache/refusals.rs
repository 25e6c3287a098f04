//! Hears refusals: one says nothing of the repository, and ends a right only if what is known to be there is refused, too.
//!
//! Many registries answer 403, or 401, for whatever is absent. So after a refusal the registry is asked, in the same name,
//! for what the right was last proven by ([`Rights::witnesses`]). If that is given, all stands; if it is refused, the right
//! ends, and what was proven in fills under way with it.
//! Threat: a flood of made-up references, each of which would cost two more requests. Defence: one question for a right at a
//! time, and pauses that double between them, except for what is known to be there itself. A refusal in a pause is heeded
//! when that ends.
//! Never: a right that goes on because the registry does not answer: it ends with its life, as any right does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::caller::Caller;
use super::hint::described;
use super::rights::asked_at::AskedAt;
use super::rights::place::Place;
use super::rights::principal::Principal;
use super::rights::rights::Rights;
use super::source::{Fault, Said, Subject};
use crate::host::{Backoff, Flights, TaskGroup};

const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// When the pauses begin anew.
const FORGOTTEN: Duration = Duration::from_secs(600);
const CAPACITY: u64 = 100_000;
/// How long a refused client waits for the other answer at most, so that its own refusal comes in time.
const WAIT: Duration = Duration::from_secs(2);

/// Hears refusals. One for all lookups.
pub(crate) struct Refusals {
    rights: Arc<Rights>,
    asked: Flights<(Place, Principal), ()>,
    tasks: TaskGroup,
    /// When each right was last found to stand, or could not be asked about, and what was refused then.
    stood: moka::sync::Cache<(Place, Principal), Stood>,
}

#[derive(Clone)]
struct Stood {
    at: Instant,
    pause: Backoff,
    refused: Subject,
    /// Something was refused since.
    is_owed: Arc<AtomicBool>,
}

impl Refusals {
    pub(crate) fn new(rights: Arc<Rights>, tasks: TaskGroup) -> Self {
        let stood = moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_live(FORGOTTEN).build();
        Self { rights, asked: Flights::among(tasks.clone()), tasks, stood }
    }

    /// The registry's answer to the caller's GET was `fault`. What it ends has ended when this does, unless the registry
    /// takes long to say. Cancel-safe: a question goes on.
    ///
    /// A token that has expired is refused without a word about rights. To callers that may not know that something is
    /// there, many registries say that it is not; of who has credentials that counts as the truth.
    pub(crate) async fn heed(self: &Arc<Self>, caller: &Caller, subject: &Subject, fault: &Fault) {
        let is_no = match fault.said {
            Said::Denied => !caller.trust.lapsed,
            Said::Forbidden => true,
            Said::Missing => caller.principal == Principal::Anonymous && !matches!(subject, Subject::Tag(..)),
            Said::Nothing | Said::Challenged | Said::Refused => false,
        };
        if !is_no {
            return;
        }
        let is_there = self.rights.is_there(caller, subject).await;
        if fault.said == Said::Missing && !is_there {
            return;
        }
        let refused = AskedAt::now();
        let witnesses = self.rights.witnesses(caller, subject).await;
        if witnesses.is_empty() {
            self.rights.end(caller, refused);
            return;
        }
        let right = (caller.place.clone(), caller.principal.clone());
        let stood = self.stood.get(&right).filter(|stood| stood.rests(subject, is_there));
        let asking = {
            let (refusals, asker, refused) = (self.clone(), caller.clone(), subject.clone());
            async move {
                let (asking, since) = (refusals.clone(), asker.source.fresh_since());
                let ask = || async move { asking.ask(&asker, &refused, &witnesses).await };
                refusals.asked.run(right, since, ask).await;
            }
        };
        match stood {
            None => drop(tokio::time::timeout(WAIT.min(caller.trust.deadline / 2), asking).await),
            Some(stood) if stood.is_owed.swap(true, Ordering::AcqRel) => {}
            Some(stood) => drop(self.tasks.spawn_until_stop(async move {
                tokio::time::sleep_until(stood.at + stood.pause.pause()).await;
                asking.await;
            })),
        }
    }

    /// Asks for what is known to be there, until something of it is given, or all of it is refused.
    async fn ask(&self, caller: &Caller, refused: &Subject, witnesses: &[Subject]) {
        let right = (caller.place.clone(), caller.principal.clone());
        let mut denied = None;
        for witness in witnesses {
            let asked = AskedAt::now();
            let told = described(&*caller.source, witness, caller.trust.deadline);
            match tokio::time::timeout(caller.trust.deadline, told).await {
                Ok(Err(fault)) if matches!(fault.said, Said::Denied | Said::Forbidden | Said::Missing) => {
                    denied = Some(asked);
                }
                Ok(Ok(_) | Err(_)) | Err(_) => {
                    denied = None;
                    break;
                }
            }
        }
        // Also where the right ends: refusals that follow are asked about no more often.
        if let Some(asked) = denied {
            self.rights.end(caller, asked);
        }
        let pause = self.stood.get(&right).map_or(BACKOFF, |stood| stood.pause.grown());
        let is_owed = Arc::default();
        self.stood.insert(right, Stood { at: Instant::now(), pause, refused: refused.clone(), is_owed });
    }
}

impl Stood {
    /// Whether nothing is asked for the sake of this refusal.
    fn rests(&self, refused: &Subject, is_there: bool) -> bool {
        self.at.elapsed() < self.pause.pause() && (!is_there || self.refused == *refused)
    }
}

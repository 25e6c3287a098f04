//! Asks the registry once for all that ask the same at the same time.
//!
//! The first caller leads: its question runs in a task of its own, which goes on when its callers leave. The others are
//! told what it is told, with two exceptions. A question that began before the registry went away, or missed its deadline,
//! is joined by nobody who comes later: it may never be answered. And a failure that may be the leader's alone, such as a
//! token that has expired, is no answer to the others: each asks for itself then.

use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use super::caller::Caller;
use super::source::{Fault, Retry, Said};
use crate::host::{Coalesced, Flights, TaskGroup};

/// A question to the registry, on behalf of one caller.
pub(crate) trait Inquiry: Clone + Send + Sync + 'static {
    /// What makes two questions the same: their callers may be given the same answer.
    type Key: Eq + Hash + Clone + Send + 'static;
    /// What the registry says.
    type Answer: Clone + Send + Sync + 'static;

    /// What makes it the same as another one.
    fn key(&self) -> Self::Key;

    /// On whose behalf it is asked.
    fn caller(&self) -> &Caller;

    /// The answer, if an earlier question has brought it meanwhile: that one notes what it learned before it makes room
    /// for this one.
    fn look_again(&self) -> impl Future<Output = Option<Self::Answer>> + Send;

    /// Asks the registry, and notes what that learns.
    fn ask(&self) -> impl Future<Output = Result<Self::Answer, Fault>> + Send;

    /// Whether a failure may be the leader's alone.
    fn is_the_leaders(fault: &Fault) -> bool {
        is_the_leaders(fault)
    }
}

/// Whether a failure may be the leader's alone, of callers that ask in one name: its token may have expired.
pub(crate) fn is_the_leaders(fault: &Fault) -> bool {
    fault.said == Said::Denied
}

/// The leader's task has ended without an answer, as when the proxy stops.
#[derive(Debug, thiserror::Error)]
#[error("the question was broken off inside this proxy")]
struct Stopping;

/// The questions of one kind that are being asked now.
pub(crate) struct Together<I: Inquiry>(Flights<I::Key, Result<I::Answer, Fault>>);

impl<I: Inquiry> Together<I> {
    /// None yet.
    pub(crate) fn new(tasks: TaskGroup) -> Self {
        Self(Flights::among(tasks))
    }

    /// The answer, and whether it was this caller that led. Cancel-safe: what was begun goes on.
    pub(crate) async fn ask(&self, inquiry: &I) -> Coalesced<Result<I::Answer, Fault>> {
        match self.join(inquiry).await {
            Coalesced::Joined(Err(fault)) if I::is_the_leaders(&fault) => Coalesced::Led(inquiry.ask().await),
            landed => landed,
        }
    }

    /// The same, where each asking is waited for no longer than `wait`.
    pub(crate) async fn ask_within(&self, wait: Duration, inquiry: &I) -> Coalesced<Result<I::Answer, Fault>> {
        let (caller, begun) = (inquiry.caller(), Instant::now());
        match caller.within(wait, begun, self.join(inquiry)).await {
            Ok(Coalesced::Joined(Err(fault))) if I::is_the_leaders(&fault) => {
                Coalesced::Led(caller.within(wait, begun, inquiry.ask()).await.flatten())
            }
            Ok(landed) => landed,
            Err(late) => Coalesced::Led(Err(late)),
        }
    }

    async fn join(&self, inquiry: &I) -> Coalesced<Result<I::Answer, Fault>> {
        let leader = inquiry.clone();
        let asking = || async move {
            match leader.look_again().await {
                Some(answer) => Ok(answer),
                None => leader.ask().await,
            }
        };
        let landed = self.0.run(inquiry.key(), inquiry.caller().source.fresh_since(), asking).await;
        landed.unwrap_or_else(|| Coalesced::Led(Err(Fault::new(Retry::Again, Stopping))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;
    use crate::cache::caller::NoAnswer;
    use crate::cache::rights::place::Place;
    use crate::cache::rights::principal::Principal;
    use crate::cache::rights::trust::Trust;
    use crate::cache::silent::Silent;

    /// A question that takes a second, and whose answer says how often it was asked before.
    #[derive(Clone)]
    struct Asked {
        caller: Caller,
        number: Arc<AtomicUsize>,
        /// What each asking is told, the last one over and over.
        said: &'static [Said],
        known: Option<usize>,
    }

    impl Inquiry for Asked {
        type Key = ();
        type Answer = usize;

        fn key(&self) {}

        fn caller(&self) -> &Caller {
            &self.caller
        }

        async fn look_again(&self) -> Option<usize> {
            self.known
        }

        async fn ask(&self) -> Result<usize, Fault> {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let number = self.number.fetch_add(1, Ordering::SeqCst);
            match self.said.get(number).or(self.said.last()) {
                Some(said) => Err(Fault { said: *said, ..Fault::new(Retry::Never, Stopping) }),
                None => Ok(number),
            }
        }
    }

    fn asked(said: &'static [Said], changed: Option<Instant>) -> (Asked, Arc<Silent>) {
        let place = Place { registry: "quay.io".into(), repository: "a".parse().unwrap() };
        let registry = Arc::new(Silent { changed, ..Silent::default() });
        let caller = Caller::new(place, Principal::Anonymous, registry.clone(), Trust::default());
        (Asked { caller, number: Arc::default(), said, known: None }, registry)
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_ask_the_same_are_told_what_the_first_is_told() {
        let (together, (question, _)) = (Together::new(TaskGroup::new()), asked(&[], None));
        let landed = join_all((0..10).map(|_| together.ask(&question))).await;
        assert_eq!(landed.iter().filter(|one| matches!(one, Coalesced::Led(Ok(0)))).count(), 1);
        assert_eq!(landed.iter().filter(|one| matches!(one, Coalesced::Joined(Ok(0)))).count(), 9);
        let known = Asked { known: Some(7), ..question.clone() };
        assert!(matches!(together.ask(&known).await, Coalesced::Led(Ok(7))), "an earlier question has brought it");
        assert!(matches!(together.ask(&question).await, Coalesced::Led(Ok(1))), "the next one asks anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_is_the_leaders_alone_and_another_failure_is_everybodys() {
        for (said, askings) in [(Said::Denied, 3), (Said::Forbidden, 1), (Said::Missing, 1), (Said::Nothing, 1)] {
            let said: &[Said] = Box::leak(Box::new([said]));
            let (together, (question, _)) = (Together::new(TaskGroup::new()), asked(said, None));
            let landed = join_all((0..3).map(|_| together.ask(&question))).await;
            assert!(landed.iter().all(|one| matches!(one, Coalesced::Led(Err(_)) | Coalesced::Joined(Err(_)))));
            assert_eq!(question.number.load(Ordering::SeqCst), askings, "{said:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_joins_what_began_before_an_outage() {
        let (together, (before, _)) = (Together::new(TaskGroup::new()), asked(&[], None));
        let (first, later) = tokio::join!(together.ask(&before), async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let (mut after, registry) = asked(&[], Some(Instant::now()));
            after.number = before.number.clone();
            (together.ask(&after).await, registry)
        });
        assert!(matches!(first, Coalesced::Led(Ok(0))), "those that wait for it are told");
        assert!(matches!(later.0, Coalesced::Led(Ok(1))), "a later caller asks anew");
    }

    #[tokio::test(start_paused = true)]
    async fn each_asking_is_waited_for_until_its_deadline_which_is_noted() {
        let late = |landed: Coalesced<Result<usize, Fault>>| matches!(landed, Coalesced::Led(Err(fault)) if fault.cause.is::<NoAnswer>());
        let (together, (question, registry)) = (Together::new(TaskGroup::new()), asked(&[], None));
        assert!(late(together.ask_within(Duration::from_millis(900), &question).await));
        assert_eq!(registry.missed.load(Ordering::SeqCst), 1);
        // The one that was begun goes on, and is joined.
        assert!(matches!(together.ask_within(Duration::from_millis(200), &question).await, Coalesced::Joined(Ok(0))));
        let (together, (refused, registry)) = (Together::new(TaskGroup::new()), asked(&[Said::Denied], None));
        let wait = Duration::from_millis(1500);
        let (_, joined) = tokio::join!(together.ask(&refused), together.ask_within(wait, &refused));
        assert!(
            matches!(joined, Coalesced::Led(Err(fault)) if fault.said == Said::Denied),
            "its own asking has its own time"
        );
        assert_eq!(registry.missed.load(Ordering::SeqCst), 0);
    }
}

//! The state of one registry: there, taken for away, or away for certain.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use http::uri::PathAndQuery;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::hosts::{Hosts, Taken};
use super::part::{Failed, Part};
use crate::oci::Authority;
use crate::upstream::sign::Sign;
use crate::upstream::{Endpoint, Error};

/// The first probe comes soon: a single connection may have been refused by chance.
pub(super) const SOON: Duration = Duration::from_millis(250);
pub(super) const FIRST: Duration = Duration::from_secs(1);
pub(super) const LONGEST: Duration = Duration::from_secs(30);
/// An outage so soon after another is the same one, and is probed as seldom.
pub(super) const SAME: Duration = Duration::from_secs(60);

/// The state of one registry. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Outage(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    /// The endpoints that decide: it is away when none of them answers.
    homes: Vec<Endpoint>,
    /// Its mirrors, which are no part of it.
    mirrors: Vec<Endpoint>,
    state: Mutex<State>,
    phase: watch::Sender<Phase>,
    /// Rung when something is wanted that only the registry has.
    pub(super) wanted: Arc<Notify>,
}

/// How far it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It is there.
    Closed,
    /// Something failed: it is taken for away.
    Open,
    /// A probe has failed, too.
    Confirmed,
}

#[derive(Debug)]
struct State {
    changed: Instant,
    opened: Option<Instant>,
    closed: Option<Instant>,
    hosts: Hosts,
    down: Vec<Part>,
    pause: Duration,
}

impl Outage {
    /// A registry that is there. `homes` are the endpoints that decide, `mirrors` the others.
    #[must_use]
    pub fn new(homes: Vec<Endpoint>, mirrors: Vec<Endpoint>) -> Self {
        let state = State {
            changed: Instant::now(),
            opened: None,
            closed: None,
            hosts: Hosts::default(),
            down: Vec::new(),
            pause: SOON,
        };
        let (state, phase) = (Mutex::new(state), watch::Sender::new(Phase::Closed));
        Self(Arc::new(Inner { homes, mirrors, state, phase, wanted: Arc::default() }))
    }

    /// Whether it is away.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self.0.phase.borrow() != Phase::Closed
    }

    /// Whether it is away, or was so shortly ago.
    #[must_use]
    pub fn was_open_within(&self, time: Duration) -> bool {
        self.is_open() || self.state().closed.is_some_and(|closed| closed.elapsed() < time)
    }

    /// Ends when it is away. Cancel-safe.
    pub async fn opened(&self) {
        let _ = self.0.phase.subscribe().wait_for(|phase| *phase != Phase::Closed).await; // the sender lives in `self`
    }

    /// Ends when it is away for certain: a probe had no answer either. Cancel-safe.
    pub async fn confirmed(&self) {
        let _ = self.0.phase.subscribe().wait_for(|phase| *phase == Phase::Confirmed).await;
    }

    /// Ends when it was away and is back. Cancel-safe.
    pub async fn recovered(&self) {
        let (mut phase, before) = (self.0.phase.subscribe(), self.state().closed);
        while self.state().closed == before {
            let _ = phase.changed().await; // the sender lives in `self`
        }
    }

    /// When it was last found to be away or back: what was asked earlier may never be answered.
    #[must_use]
    pub fn changed(&self) -> Instant {
        self.state().changed
    }

    /// When it was last found to be away: a connection of before may lead nowhere.
    pub(in crate::upstream) fn opened_at(&self) -> Option<Instant> {
        self.state().opened
    }

    /// Somebody wants what only the registry has: the probe does not wait for long then.
    pub(in crate::upstream) fn want(&self) {
        self.0.wanted.notify_one();
    }

    /// When asking again may help.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        self.state().pause.max(FIRST)
    }

    /// Whether `endpoint` is part of it.
    pub(in crate::upstream) fn covers(&self, endpoint: &Endpoint) -> bool {
        !self.0.mirrors.contains(endpoint)
    }

    /// An exchange with an endpoint or a token service that began at `begun` ended. Answers whether that opened
    /// the state: then a probe is to be started.
    pub(in crate::upstream) fn note(
        &self,
        endpoint: &Endpoint,
        target: Option<&PathAndQuery>,
        begun: Instant,
        outcome: Result<StatusCode, &Error>,
    ) -> bool {
        let part = || self.part(endpoint, target);
        self.judge(endpoint.authority(), part, target, begun, Sign::of(outcome))
    }

    /// The same of a host that the registry redirected to.
    pub(in crate::upstream) fn note_elsewhere(
        &self,
        host: &Authority,
        begun: Instant,
        outcome: Result<StatusCode, &Error>,
    ) -> bool {
        self.judge(host, || Part::Elsewhere(host.clone(), 0), None, begun, Sign::of(outcome))
    }

    /// A deadline passed without an answer to what was asked at `begun`.
    pub(in crate::upstream) fn missed(
        &self,
        endpoint: &Endpoint,
        target: Option<&PathAndQuery>,
        begun: Instant,
    ) -> bool {
        self.judge(endpoint.authority(), || self.part(endpoint, target), target, begun, Sign::Down)
    }

    fn part(&self, endpoint: &Endpoint, target: Option<&PathAndQuery>) -> Part {
        let own = self.0.homes.iter().find(|home| home.authority() == endpoint.authority());
        match (own, target) {
            (Some(home), _) => Part::Home(home.clone()),
            (None, target) => {
                let target = target.cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
                Part::Realm(endpoint.clone(), target, 0)
            }
        }
    }

    fn judge(
        &self,
        host: &Authority,
        part: impl FnOnce() -> Part,
        target: Option<&PathAndQuery>,
        begun: Instant,
        sign: Sign,
    ) -> bool {
        let mut state = self.state();
        if matches!(sign, Sign::Nothing | Sign::Odd) || self.is_open() || begun < state.changed {
            return false;
        }
        match state.hosts.hear(host, target, begun, sign) {
            Taken::Well => {
                state.down.retain(|part| !matches!(part, Part::Home(home) if home.authority() == host));
                return false;
            }
            Taken::Unknown => return false,
            Taken::Away => {}
        }
        let part = part();
        if !state.down.contains(&part) {
            state.down.push(part.clone());
        }
        let is_down = |home: &Endpoint| state.down.iter().any(|part| matches!(part, Part::Home(down) if down == home));
        if matches!(part, Part::Home(_)) && !self.0.homes.iter().all(is_down) {
            return false; // another endpoint may still answer for it
        }
        let again = state.changed.elapsed() < SAME && state.pause > SOON;
        state.pause = if again { state.pause } else { SOON };
        state.changed = Instant::now();
        state.opened = Some(state.changed);
        self.0.phase.send_replace(Phase::Open);
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to wait before the next probe.
    pub(super) fn pause(&self) -> Duration {
        self.state().pause
    }

    /// What a probe is to ask: each home, and whatever else has failed.
    pub(super) fn parts(&self) -> (Vec<Endpoint>, Vec<Part>) {
        let others = self.state().down.iter().filter(|part| !matches!(part, Part::Home(_))).cloned().collect();
        (self.0.homes.clone(), others)
    }

    /// What came of a probe: which homes answered, and which other parts did not. Answers whether this closed the
    /// state.
    pub(super) fn probed(&self, answered: &[Endpoint], failed: Vec<(Part, Failed)>) -> bool {
        let mut state = self.state();
        let homes = self.0.homes.iter().filter(|home| !answered.contains(home)).cloned().map(Part::Home);
        let others: Vec<Part> = failed.into_iter().filter_map(|(part, how)| part.after(how)).collect();
        let is_back = !answered.is_empty() && others.is_empty();
        state.down = homes.chain(others).collect();
        state.pause = (state.pause * 2).clamp(FIRST, LONGEST);
        if !is_back {
            self.0.phase.send_replace(Phase::Confirmed);
            return false;
        }
        state.changed = Instant::now();
        state.closed = Some(state.changed);
        state.hosts.forget();
        self.0.phase.send_replace(Phase::Closed);
        true
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    pub(in super::super) fn endpoint(host: &str) -> Endpoint {
        Endpoint::of_host(&Authority::parse(host, 443).unwrap())
    }

    pub(in super::super) fn quay() -> (Outage, Endpoint) {
        let home = endpoint("quay.io");
        (Outage::new(vec![home.clone()], vec![endpoint("mirror.test")]), home)
    }

    pub(in super::super) fn refused() -> Error {
        let to = Authority::parse("quay.io", 443).unwrap();
        Error::ConnectTimeout { to, after: FIRST }
    }

    const OK: Result<StatusCode, &Error> = Ok(StatusCode::OK);
    const ERROR: Result<StatusCode, &Error> = Ok(StatusCode::BAD_GATEWAY);

    #[tokio::test(start_paused = true)]
    async fn the_first_missed_deadline_opens_it_for_all_and_nobody_else_waits() {
        let (outage, home) = quay();
        let (missed, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let began = Instant::now();
        let callers = (0..100).map(|number| {
            let (outage, home, missed, asked) = (outage.clone(), home.clone(), missed.clone(), asked.clone());
            async move {
                tokio::time::sleep(Duration::from_millis(200 * number)).await;
                if outage.is_open() {
                    return;
                }
                asked.fetch_add(1, Ordering::Relaxed);
                let begun = Instant::now();
                let silence = std::future::pending::<()>();
                tokio::select! {
                    () = silence => {}
                    () = outage.opened() => {}
                    () = tokio::time::sleep(Duration::from_secs(10)) => {
                        missed.fetch_add(1, Ordering::Relaxed);
                        outage.missed(&home, None, begun);
                    }
                }
            }
        });
        futures_util::future::join_all(callers).await;
        assert_eq!(missed.load(Ordering::Relaxed), 1);
        assert!(asked.load(Ordering::Relaxed) <= 51, "who came after 10 s has asked nobody");
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_opens_it_and_single_errors_throttles_and_refusals_do_not() {
        let (outage, home) = quay();
        for _ in 0..10 {
            assert!(!outage.note(&home, None, Instant::now(), ERROR));
            assert!(!outage.note(&home, None, Instant::now(), ERROR));
            assert!(!outage.note(&home, None, Instant::now(), OK));
        }
        for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::UNAUTHORIZED, StatusCode::NOT_FOUND] {
            for _ in 0..10 {
                outage.note(&home, None, Instant::now(), Ok(status));
            }
        }
        assert!(!outage.is_open());
        let one = PathAndQuery::from_static("/v2/a/blobs/x");
        for _ in 0..10 {
            assert!(!outage.note(&home, Some(&one), Instant::now(), ERROR), "one thing, however often it is asked for");
        }
        for (path, opens) in [("/v2/a/blobs/y", false), ("/v2/a/blobs/z", true)] {
            tokio::time::advance(FIRST).await;
            assert_eq!(outage.note(&home, Some(&PathAndQuery::from_static(path)), Instant::now(), ERROR), opens);
        }
        assert!(outage.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_hears_of_an_outage_that_came_and_went_while_nobody_looked() {
        let (outage, home) = quay();
        let mut recovered = std::pin::pin!(outage.recovered());
        assert!(futures_util::poll!(recovered.as_mut()).is_pending());
        tokio::time::advance(FIRST).await;
        assert!(outage.note(&home, None, Instant::now(), Err(&refused())));
        assert!(outage.probed(std::slice::from_ref(&home), Vec::new()));
        recovered.await;
        assert_eq!(outage.opened_at(), Some(outage.changed()));
        let mut again = std::pin::pin!(outage.recovered());
        assert!(futures_util::poll!(again.as_mut()).is_pending(), "that was before");
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_answered_somebody_since_is_slow_and_not_away() {
        let (outage, home) = quay();
        let begun = Instant::now();
        tokio::time::advance(FIRST).await;
        outage.note(&home, None, Instant::now(), OK);
        assert!(!outage.missed(&home, None, begun));
        tokio::time::advance(FIRST).await;
        assert!(outage.missed(&home, None, Instant::now()));
    }
}

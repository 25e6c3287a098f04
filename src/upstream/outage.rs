//! Whether a registry is away: one state for its host, its token service and the hosts that it redirects to.
//!
//! The first missed deadline, refused connection or unknown name opens it for all; while it is open nobody asks
//! and nobody waits. A probe asks, alone and ever more seldom, and closes it. What was asked before a change of
//! state says nothing about the time after it; and a host that answered somebody since is slow, not away.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::StatusCode;
use http::uri::PathAndQuery;
use tokio::sync::watch;
use tokio::time::Instant;

use super::sign::Sign;
use super::{Endpoint, Error};
use crate::oci::Authority;

/// The first probe comes soon: a single connection may have been refused by chance.
const SOON: Duration = Duration::from_millis(250);
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// An outage so soon after another is the same one, and is probed as seldom.
const SAME: Duration = Duration::from_secs(60);
/// So many answers of 5xx in a row are an outage; fewer may be about one thing that was asked.
const STORM: u32 = 3;
/// After so many probes in vain a redirect's host holds the registry back no longer: its own answers count more.
/// Nor does a token service that answers, if only with errors: they may be about what it was asked.
const PATIENCE: u32 = 3;
/// So many hosts are remembered at most: a registry chooses where it redirects.
const HOSTS: usize = 64;

/// The state of one registry. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Outage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The endpoints that decide: it is away when none of them answers.
    homes: Vec<Endpoint>,
    /// Its mirrors, which are no part of it.
    mirrors: Vec<Endpoint>,
    state: Mutex<State>,
    phase: watch::Sender<Phase>,
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
    closed: Option<Instant>,
    hosts: HashMap<Authority, Word>,
    down: Vec<Part>,
    pause: Duration,
}

/// What a host has said lately.
#[derive(Clone, Debug, Default)]
struct Word {
    well: Option<Instant>,
    errors: u32,
    /// What the last error was about: the same thing asked again is no further sign.
    about: Option<PathAndQuery>,
}

/// How a probe failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// By an answer of 5xx.
    Error,
    /// By none.
    Silence,
}

/// What does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The registry itself.
    Home(Endpoint),
    /// Its token service, how it was asked, and how many probes it has answered with an error.
    Realm(Endpoint, PathAndQuery, u32),
    /// A host that it redirected to, and how many probes it has missed.
    Elsewhere(Authority, u32),
}

impl Outage {
    /// A registry that is there. `homes` are the endpoints that decide, `mirrors` the others.
    #[must_use]
    pub fn new(homes: Vec<Endpoint>, mirrors: Vec<Endpoint>) -> Self {
        let state =
            State { changed: Instant::now(), closed: None, hosts: HashMap::new(), down: Vec::new(), pause: SOON };
        Self(Arc::new(Inner { homes, mirrors, state: Mutex::new(state), phase: watch::Sender::new(Phase::Closed) }))
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

    /// When asking again may help.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        self.state().pause.max(FIRST)
    }

    /// Whether `endpoint` is part of it.
    pub(super) fn covers(&self, endpoint: &Endpoint) -> bool {
        !self.0.mirrors.contains(endpoint)
    }

    /// An exchange with an endpoint or a token service that began at `begun` ended. Answers whether that opened
    /// the state: then a probe is to be started.
    pub(super) fn note(
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
    pub(super) fn note_elsewhere(&self, host: &Authority, begun: Instant, outcome: Result<StatusCode, &Error>) -> bool {
        self.judge(host, || Part::Elsewhere(host.clone(), 0), None, begun, Sign::of(outcome))
    }

    /// A deadline passed without an answer to what was asked at `begun`.
    pub(super) fn missed(&self, endpoint: &Endpoint, target: Option<&PathAndQuery>, begun: Instant) -> bool {
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
        let now = Instant::now();
        let mut state = self.state();
        if sign == Sign::Nothing || self.is_open() || begun < state.changed {
            return false;
        }
        if state.hosts.len() >= HOSTS && !state.hosts.contains_key(host) {
            state.hosts.clear();
        }
        let word = state.hosts.entry(host.clone()).or_default();
        if sign == Sign::Well {
            *word = Word { well: Some(now), ..Word::default() };
            if self.0.homes.iter().any(|home| home.authority() == host) {
                state.down.retain(|part| !matches!(part, Part::Home(home) if home.authority() == host));
            }
            return false;
        }
        if matches!(sign, Sign::Error | Sign::Broken) && (target.is_none() || word.about.as_ref() != target) {
            word.errors += 1;
            word.about = target.cloned();
        }
        let is_storm = sign == Sign::Down || word.errors >= STORM;
        if !is_storm || word.well.is_some_and(|well| well >= begun) {
            return false;
        }
        let part = part();
        if !state.down.contains(&part) {
            state.down.push(part.clone());
        }
        let is_down = |home: &Endpoint| state.down.iter().any(|part| matches!(part, Part::Home(down) if down == home));
        if matches!(part, Part::Home(_)) && !self.0.homes.iter().all(is_down) {
            return false; // another endpoint may still answer for it
        }
        let again = now.duration_since(state.changed) < SAME && state.pause > SOON;
        state.pause = if again { state.pause } else { SOON };
        state.changed = now;
        self.0.phase.send_replace(Phase::Open);
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the one probe works on.
    pub(super) fn probe(&self) -> Probe {
        Probe { inner: Arc::downgrade(&self.0), since: Instant::now() }
    }
}

/// The one who asks while the state is open. Ends with the state's last holder.
#[derive(Debug)]
pub(super) struct Probe {
    inner: Weak<Inner>,
    since: Instant,
}

impl Probe {
    /// How long to wait before the next try; `None` where nobody cares any more.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.outage().map(|outage| outage.state().pause)
    }

    /// What is to be asked: each home, and whatever else has failed.
    pub(super) fn parts(&self) -> (Vec<Endpoint>, Vec<Part>) {
        let Some(outage) = self.outage() else { return (Vec::new(), Vec::new()) };
        let others = outage.state().down.iter().filter(|part| !matches!(part, Part::Home(_))).cloned().collect();
        (outage.0.homes.clone(), others)
    }

    /// What came of it: which homes answered, and which other parts did not. Answers how long the registry was
    /// away, if this closed the state.
    pub(super) fn done(&self, answered: &[Endpoint], failed: Vec<(Part, Failed)>) -> Option<Duration> {
        let outage = self.outage()?;
        let mut state = outage.state();
        let homes = outage.0.homes.iter().filter(|home| !answered.contains(home)).cloned().map(Part::Home);
        let others = failed.into_iter().filter_map(|part| match part {
            (Part::Elsewhere(host, vain), _) => (vain + 1 < PATIENCE).then_some(Part::Elsewhere(host, vain + 1)),
            (Part::Realm(endpoint, target, vain), Failed::Error) => {
                (vain + 1 < PATIENCE).then_some(Part::Realm(endpoint, target, vain + 1))
            }
            (part, _) => Some(part),
        });
        let others: Vec<Part> = others.collect();
        let is_back = !answered.is_empty() && others.is_empty();
        state.down = homes.chain(others).collect();
        state.pause = (state.pause * 2).clamp(FIRST, LONGEST);
        if !is_back {
            outage.0.phase.send_replace(Phase::Confirmed);
            return None;
        }
        state.changed = Instant::now();
        state.closed = Some(state.changed);
        state.hosts.clear();
        outage.0.phase.send_replace(Phase::Closed);
        Some(self.since.elapsed())
    }

    fn outage(&self) -> Option<Outage> {
        self.inner.upgrade().map(Outage)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn endpoint(host: &str) -> Endpoint {
        Endpoint::of_host(&Authority::parse(host, 443).unwrap())
    }

    fn quay() -> (Outage, Endpoint) {
        let home = endpoint("quay.io");
        (Outage::new(vec![home.clone()], vec![endpoint("mirror.test")]), home)
    }

    fn refused() -> Error {
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
    async fn a_host_that_answered_somebody_since_is_slow_and_not_away() {
        let (outage, home) = quay();
        let begun = Instant::now();
        tokio::time::advance(FIRST).await;
        outage.note(&home, None, Instant::now(), OK);
        assert!(!outage.missed(&home, None, begun));
        tokio::time::advance(FIRST).await;
        assert!(outage.missed(&home, None, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_mirror_is_no_part_of_it_and_a_second_endpoint_answers_for_the_first() {
        let (one, two, mirror) = (endpoint("one.test"), endpoint("two.test"), endpoint("mirror.test"));
        let outage = Outage::new(vec![one.clone(), two.clone()], vec![mirror.clone()]);
        assert!(outage.covers(&one) && outage.covers(&endpoint("auth.test")) && !outage.covers(&mirror));
        let refused = refused();
        assert!(!outage.note(&one, None, Instant::now(), Err(&refused)));
        assert!(!outage.note(&one, None, Instant::now(), Err(&refused)));
        assert!(outage.note(&two, None, Instant::now(), Err(&refused)));
        let probe = outage.probe();
        assert!(probe.done(&[], Vec::new()).is_none());
        assert!(probe.done(&[two], Vec::new()).is_some(), "one of them is enough");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_service_holds_it_open_and_a_redirects_host_only_for_a_while() {
        let (outage, home) = quay();
        let (auth, refused) = (endpoint("auth.test"), refused());
        let target = PathAndQuery::from_static("/token?service=quay.io");
        assert!(outage.note(&auth, Some(&target), Instant::now(), Err(&refused)));
        let probe = outage.probe();
        let (homes, parts) = probe.parts();
        assert_eq!((homes, parts.clone()), (vec![home.clone()], vec![Part::Realm(auth, target, 0)]));
        let silent = |parts: Vec<Part>| parts.into_iter().map(|part| (part, Failed::Silence)).collect();
        for _ in 0..10 {
            assert!(probe.done(std::slice::from_ref(&home), silent(probe.parts().1)).is_none());
        }
        for closes in [false, false, true] {
            let ill = probe.parts().1.into_iter().map(|part| (part, Failed::Error)).collect();
            assert_eq!(
                probe.done(std::slice::from_ref(&home), ill).is_some(),
                closes,
                "its errors may be of one scope"
            );
        }
        tokio::time::advance(SAME).await;
        let cdn = Authority::parse("cdn.test", 443).unwrap();
        assert!(outage.note_elsewhere(&cdn, Instant::now(), Err(&refused)));
        let probe = outage.probe();
        for closes in [false, false, true] {
            let (_, parts) = probe.parts();
            assert_eq!(probe.done(std::slice::from_ref(&home), silent(parts)).is_some(), closes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn probes_grow_rare_and_what_was_asked_before_a_change_says_nothing() {
        let (outage, home) = quay();
        let early = Instant::now();
        tokio::time::advance(FIRST).await;
        let error = refused();
        assert!(outage.note(&home, None, Instant::now(), Err(&error)));
        let probe = outage.probe();
        let pauses: Vec<u128> = (0..8)
            .map(|_| {
                let pause = probe.pause().unwrap();
                probe.done(&[], Vec::new());
                pause.as_millis()
            })
            .collect();
        assert_eq!(pauses, [250, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert!(probe.done(std::slice::from_ref(&home), Vec::new()).is_some());
        assert!(!outage.note(&home, None, early, Err(&error)), "asked before the registry came back");
        tokio::time::advance(FIRST).await;
        assert!(outage.note(&home, None, Instant::now(), Err(&error)));
        assert_eq!(probe.pause(), Some(LONGEST), "the same outage");
        probe.done(std::slice::from_ref(&home), Vec::new());
        tokio::time::advance(SAME).await;
        assert!(outage.note(&home, None, Instant::now(), Err(&error)));
        assert_eq!(probe.pause(), Some(SOON));
    }

    #[tokio::test]
    async fn a_probe_ends_with_the_registry() {
        let (outage, _) = quay();
        let probe = outage.probe();
        assert!(probe.pause().is_some());
        drop(outage);
        assert!(probe.pause().is_none());
    }
}

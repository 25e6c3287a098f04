//! The state of one registry: which of its parts are there, suspected, or away for certain.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use http::StatusCode;
use http::uri::PathAndQuery;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::info;

use super::cause::OutageCause;
use super::hosts::Assessment;
use super::named::NamedNow;
use super::part::{OutagePart, is_telling};
use super::parts::{OutageStanding, State};
use super::ward::{Cause, FIRST, Probed, Ward, WardPhase};
use crate::host::Period;
use crate::oci::Authority;
use crate::upstream::http::evidence::Evidence;
use crate::upstream::{Endpoint, Error};

/// After so many probes in vain a redirect's host is barred no longer: what is asked of it counts more.
const PATIENCE: u32 = 3;
/// A token service that was given up, and is away again, is not given up once more before that.
const LATER: Duration = Duration::from_secs(10 * 60);

/// The state of one registry. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Outage(pub(crate) Arc<Inner>);

/// What was known of an outage when a request began.
#[derive(Clone, Copy, Debug)]
pub struct OutageSeen {
    was_open: bool,
    was_home_away: bool,
}

#[derive(Debug)]
pub(crate) struct Inner {
    /// The endpoints that decide: it is away when none of them answers.
    homes: Vec<Endpoint>,
    /// Its mirrors, which are no part of it.
    mirrors: Vec<Endpoint>,
    /// The registry's configured name.
    name: OnceLock<Arc<str>>,
    state: Mutex<State>,
    standing: watch::Sender<OutageStanding>,
}

impl Outage {
    /// A registry that is there. `homes` are the endpoints that decide, `mirrors` the others.
    #[must_use]
    pub fn new(homes: Vec<Endpoint>, mirrors: Vec<Endpoint>) -> Self {
        let state = State::new();
        let (state, standing) = (Mutex::new(state), watch::Sender::default());
        Self(Arc::new(Inner { homes, mirrors, name: OnceLock::new(), state, standing }))
    }

    /// The same, under the name that the configuration has for it.
    #[must_use]
    pub fn named(self, name: &Arc<str>) -> Self {
        let _ = self.0.name.set(Arc::clone(name)); // the first name stays
        self
    }

    /// The registry's configured name; without one, its first host.
    pub(crate) fn name(&self) -> String {
        let host = || self.0.homes.first().map(|home| home.authority().short(443).to_string()).unwrap_or_default();
        self.0.name.get().map_or_else(host, ToString::to_string)
    }

    /// Whether it is away, or its token service is: then this proxy hands out the tokens.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let standing = *self.0.standing.borrow();
        standing.is_home_away() || standing.realm_away
    }

    /// Whether the registry itself is away, by a probe of the proxy: what it said last is believed for longer then.
    #[must_use]
    pub fn is_home_away(&self) -> bool {
        self.0.standing.borrow().is_home_away()
    }

    /// Its unreachable hosts, each in words, for people.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let state = self.state();
        let home = self.0.homes.first().filter(|_| state.home.phase == WardPhase::Away);
        let home = home.map(|home| (home.authority(), &state.home));
        let away: Vec<_> = home.into_iter().chain(state.others_away()).collect();
        let words = |(host, ward): &(&Authority, &Ward)| {
            let since = Duration::from_secs(ward.since.unwrap_or(ward.changed).elapsed().as_secs());
            let why = ward.why.as_ref().map(|cause| format!(": {}", cause.words)).unwrap_or_default();
            format!("{} is unreachable, for {} now{why}", host.short(443), Period(since))
        };
        away.iter().map(words).collect()
    }

    /// Whether it is away, or was so shortly ago.
    #[must_use]
    pub fn was_open_within(&self, time: Duration) -> bool {
        let is_recent = |ward: &Ward| ward.left.is_some_and(|left| left.elapsed() < time);
        let state = self.state();
        is_recent(&state.home) || state.realms_watched().any(is_recent) || {
            drop(state);
            self.is_open()
        }
    }

    /// Ends when it is away. Cancel-safe.
    pub async fn opened(&self) {
        self.wait(|standing| standing.is_home_away() || standing.realm_away).await;
    }

    /// Ends when the registry itself is away. Cancel-safe.
    pub async fn gone(&self) {
        self.wait(OutageStanding::is_home_away).await;
    }

    /// What is known now, for a request that begins.
    #[must_use]
    pub fn seen(&self) -> OutageSeen {
        OutageSeen { was_open: self.is_open(), was_home_away: self.is_home_away() }
    }

    /// Whether it has come since, or reached the registry itself since: a request that failed meanwhile is answered as
    /// those that come after it.
    #[must_use]
    pub fn is_news_after(&self, seen: OutageSeen) -> bool {
        (!seen.was_open && self.is_open()) || (!seen.was_home_away && self.is_home_away())
    }

    /// Ends when it has come since, or reached the registry itself since. Cancel-safe.
    pub async fn news_after(&self, seen: OutageSeen) {
        let OutageSeen { was_open, was_home_away } = seen;
        tokio::select! {
            () = self.opened(), if !was_open => {}
            () = self.gone(), if was_open && !was_home_away => {}
            else => std::future::pending().await,
        }
    }

    /// Ends when no probe asks whether the registry or its token service is silent. Soon, and cancel-safe.
    pub async fn settled(&self) {
        self.wait(|standing| !standing.held).await;
    }

    /// Whether the registry itself is away, once whatever probe asks has told. Cancel-safe.
    pub async fn is_gone(&self) -> bool {
        self.wait(|standing| !standing.held && standing.home != WardPhase::Suspect).await;
        self.is_home_away()
    }

    async fn wait(&self, until: impl FnMut(&OutageStanding) -> bool) {
        let _ = self.0.standing.subscribe().wait_for(until).await; // the sender lives in `self`
    }

    /// Ends when `host` was found to be there after silence. Cancel-safe.
    pub(crate) async fn recovered(&self, host: &Authority) {
        let answered = || self.look(host, |ward| ward.answered).flatten();
        let (mut standing, before) = (self.0.standing.subscribe(), answered());
        while answered() == before {
            let _ = standing.changed().await; // the sender lives in `self`
        }
    }

    /// When it was last found to be away or back: what was asked earlier may never be answered.
    #[must_use]
    pub fn changed(&self) -> Instant {
        self.state().home.changed
    }

    /// When `host` was last found to be silent: a connection of before may lead nowhere.
    pub(crate) fn opened_at(&self, host: &Authority) -> Option<Instant> {
        self.look(host, |ward| ward.opened).flatten()
    }

    /// When asking again may help.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        let state = self.state();
        let realms =
            state.realms_watched().filter(|ward| ward.phase == WardPhase::Away).map(|ward| ward.backoff.pause()).max();
        realms.filter(|_| state.home.phase != WardPhase::Away).unwrap_or(state.home.backoff.pause()).max(FIRST)
    }

    /// Takes the registry itself for suspect, as it was away under another configuration. Answers whose probe is to be
    /// started.
    pub(crate) fn doubt(&self) -> Option<OutagePart> {
        let mut state = self.state();
        let is_new = state.home.suspect(Cause::Silence);
        self.publish(state);
        is_new.then_some(OutagePart::Home)
    }

    /// Whether `endpoint` can be down while others answer for the registry: then no outage watches it.
    pub(crate) fn may_be_down_alone(&self, endpoint: &Endpoint) -> bool {
        self.0.mirrors.contains(endpoint) || (self.0.homes.len() > 1 && self.0.homes.contains(endpoint))
    }

    /// Whether `endpoint` is part of it.
    pub(crate) fn covers(&self, endpoint: &Endpoint) -> bool {
        !self.0.mirrors.contains(endpoint)
    }

    /// Whether `host` may be asked now, for a request that `bears` credentials or not; else when again. Waits for the
    /// probe of a part that may be silent, which has a short deadline. Cancel-safe.
    pub(crate) async fn admit(&self, host: &Authority, bears: bool) -> Result<(), Duration> {
        let is_home = self.is_home(host);
        let is_held = || {
            let mut state = self.state();
            state.home.is_held() || state.ward(host, is_home).is_some_and(|ward| ward.is_held())
        };
        if is_held() {
            let mut standing = self.0.standing.subscribe();
            while is_held() {
                let _ = standing.changed().await; // the sender lives in `self`
            }
        }
        let mut state = self.state();
        // Where the registry itself is away, no token for it and nothing that it redirects to is of use.
        if !is_home && state.home.is_barred() {
            state.home.wanted.notify_one();
            return Err(state.home.backoff.pause().max(FIRST));
        }
        if let Some(ward) = state.ward(host, is_home).filter(|ward| ward.phase == WardPhase::Away) {
            ward.wanted.notify_one();
            return if ward.take_trial() { Ok(()) } else { Err(ward.backoff.pause().max(FIRST)) };
        }
        let realm = state.realms_watched().find(|ward| ward.phase == WardPhase::Away).filter(|_| is_home && !bears);
        match realm {
            None => Ok(()),
            Some(realm) => {
                realm.wanted.notify_one();
                Err(realm.backoff.pause().max(FIRST))
            }
        }
    }

    /// A registry's challenge names its token service.
    pub(crate) fn heard_realm(&self, url: &str) {
        self.state().realms.note(url);
    }

    /// Whether a request for `path` at `host` may be one for a token, as far as the registry has said where they are.
    #[must_use]
    pub fn is_token_path(&self, host: &Authority, path: &str) -> bool {
        self.state().realms.is_one(host, path)
    }

    /// An exchange with an endpoint or a token service that began at `begun` ended. Answers whose probe is to be
    /// started, if that made anything suspect.
    pub(crate) fn note(
        &self,
        endpoint: &Endpoint,
        target: Option<&PathAndQuery>,
        begun: Instant,
        outcome: Result<StatusCode, &Error>,
    ) -> Option<OutagePart> {
        self.judge(self.part(endpoint), endpoint, target, begun, Evidence::of(outcome), outcome.err())
    }

    /// The same of a host that the registry redirected to.
    pub(crate) fn note_elsewhere(
        &self,
        host: &Authority,
        begun: Instant,
        outcome: Result<StatusCode, &Error>,
    ) -> Option<OutagePart> {
        if self.is_home(host) {
            return None;
        }
        let part = OutagePart::Elsewhere(host.clone());
        self.judge(part, &Endpoint::of_host(host), None, begun, Evidence::of(outcome), outcome.err())
    }

    /// A deadline passed without an answer to what was asked at `begun`.
    pub(crate) fn missed(
        &self,
        endpoint: &Endpoint,
        target: Option<&PathAndQuery>,
        begun: Instant,
    ) -> Option<OutagePart> {
        self.judge(self.part(endpoint), endpoint, target, begun, Evidence::Down, None)
    }

    fn part(&self, endpoint: &Endpoint) -> OutagePart {
        if self.is_home(endpoint.authority()) { OutagePart::Home } else { OutagePart::Realm(endpoint.clone()) }
    }

    pub(super) fn is_home(&self, host: &Authority) -> bool {
        self.0.homes.iter().any(|home| home.authority() == host)
    }

    fn judge(
        &self,
        part: OutagePart,
        endpoint: &Endpoint,
        target: Option<&PathAndQuery>,
        begun: Instant,
        evidence: Evidence,
        error: Option<&Error>,
    ) -> Option<OutagePart> {
        let mut state = self.state();
        let host = endpoint.authority();
        let counts = match (&part, evidence) {
            (_, Evidence::Nothing | Evidence::Odd) => false,
            (_, Evidence::Well) => true,
            (OutagePart::Home, Evidence::Error | Evidence::Broken | Evidence::Garbled) => target.is_none_or(is_telling),
            // Its errors may be about what it was asked, which clients make up.
            (OutagePart::Realm(_), Evidence::Error | Evidence::Broken | Evidence::Garbled)
            | (OutagePart::Elsewhere(_), Evidence::Error) => false,
            (OutagePart::Realm(_), Evidence::Down) => {
                target.is_none_or(|target| state.realms.is_one(host, target.path()))
            }
            (OutagePart::Home | OutagePart::Elsewhere(_), _) => true,
        };
        let is_home = part == OutagePart::Home;
        if !counts || state.ward(host, is_home).is_some_and(|ward| begun < ward.changed) {
            return None;
        }
        let assessed = state.hosts.hear(host, target, begun, evidence);
        if assessed == Assessment::Well && is_home {
            state.down.retain(|home| home.authority() != host);
            if state.home.phase == WardPhase::Away {
                state.home.end(); // one that was let through to see
                self.publish(state);
            }
            return None;
        }
        // A redirect's host that was given up, which nobody probes.
        if assessed == Assessment::Well
            && let Some(ward) = state.ward(host, is_home).filter(|ward| ward.phase == WardPhase::Well)
            && ward.told.take().is_some()
        {
            info!(registry = self.name(), address = %host, "a host that the registry needs is reachable again");
        }
        if assessed != Assessment::Away || (is_home && !state.are_all_down(&self.0.homes, host)) {
            return None; // another endpoint may still answer for it
        }
        let cause = if evidence == Evidence::Down { Cause::Silence } else { Cause::Errors };
        let ward = if is_home { &mut state.home } else { state.watch(&part, host)? };
        let is_new = ward.suspect(cause);
        if is_new {
            ward.why = error.map(|error| OutageCause::of(endpoint, error));
        }
        self.publish(state);
        is_new.then_some(part)
    }

    /// What a probe came to. Answers whether the part is there.
    pub(crate) fn probed(&self, part: &OutagePart, probed: Probed, answered: &[Endpoint]) -> bool {
        let mut state = self.state();
        let is_home = *part == OutagePart::Home;
        if is_home {
            state.down = self.0.homes.iter().filter(|home| !answered.contains(home)).cloned().collect();
        }
        let Some(ward) = state.ward_of(part) else { return true };
        let is_there = ward.probed(probed, is_home) || {
            let is_given_up = matches!(part, OutagePart::Elsewhere(_)) && ward.vain >= PATIENCE;
            if is_given_up {
                ward.give_up();
            }
            is_given_up
        };
        if is_there {
            if is_home {
                state.down.clear();
            }
            state.hosts.forget();
        }
        self.publish(state);
        is_there
    }

    /// What the registry says now of a token service that does not answer. Answers whether it is given up: nobody needs one
    /// that no challenge names, and where a ping does not tell, a question is let through once in a while to hear.
    pub(crate) fn give_up(&self, part: &OutagePart, named: NamedNow) -> bool {
        let mut state = self.state();
        let (OutagePart::Realm(endpoint), Some(ward)) = (part, state.ward_of(part)) else { return false };
        let (given_up, vain) = (ward.given_up, ward.vain);
        let is_due = given_up.is_none_or(|at| at.elapsed() >= LATER);
        let is_named_again = given_up.is_some_and(|at| state.realms.is_named_since(endpoint.authority(), at));
        let is_given_up = match named {
            NamedNow::Named => false,
            NamedNow::Others => is_due || !is_named_again,
            NamedNow::Unsaid => is_due && vain >= PATIENCE,
        };
        if !is_given_up {
            return false;
        }
        if let Some(ward) = state.ward_of(part) {
            ward.give_up();
        }
        self.publish(state);
        true
    }

    /// The endpoints that decide.
    pub(crate) fn homes(&self) -> &[Endpoint] {
        &self.0.homes
    }

    /// By which path a token service is asked whether it is there.
    pub(crate) fn realm_path(&self, host: &Authority) -> String {
        self.state().realms.path(host)
    }

    /// Which suspicion of `part` this is.
    pub(crate) fn number(&self, part: &OutagePart) -> u64 {
        self.state().ward_of(part).map_or(0, |ward| ward.number)
    }

    /// How long to wait before the next probe; `None` where the suspicion is over.
    pub(crate) fn pause(&self, part: &OutagePart, number: u64) -> Option<(Duration, Arc<Notify>)> {
        let mut state = self.state();
        let ward = state.ward_of(part).filter(|ward| ward.number == number && ward.phase != WardPhase::Well)?;
        Some((ward.backoff.pause(), Arc::clone(&ward.wanted)))
    }

    fn look<T>(&self, host: &Authority, seen: impl FnOnce(&Ward) -> T) -> Option<T> {
        let is_home = self.is_home(host);
        self.state().ward(host, is_home).map(|ward| seen(ward))
    }

    fn publish(&self, state: MutexGuard<'_, State>) {
        let standing = state.standing();
        // Under the lock, so that the last one is the latest; a reader takes no lock then.
        self.0.standing.send_replace(standing);
        drop(state);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

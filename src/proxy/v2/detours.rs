//! Judges the rules again where a registry redirected to a repository of another configured registry.
//!
//! Threat: a client that may not read `internal/app` reads it through another registry that redirects to it, or finds what
//! others have read so. Defence: detours are noted before anything is made of an answer; a request that reads is
//! judged by those of its repository before it is dispatched, again before its answer leaves, and while its body flows if
//! a new one turned up. Where there are no rules nothing of this is done but the noting.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::Bytes;
use http::Uri;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::cache::{Detour, Place};
use crate::oci::{Authority, Host, Repository};
use crate::proxy::clients::clearance::Clearance;
use crate::proxy::clients::rules::DEFAULT;
use crate::proxy::clients::{Action, Judgement, Named};
use crate::proxy::policy::Policy;
use crate::proxy::registry::registry::Registry;
use crate::proxy::respond::{self, Failure};
use crate::proxy::served::{Served, ServedAnswer};
use crate::proxy::state::Proxy;
use crate::wire::{Body, BodyError};

/// Registries of the presets that are known to redirect to another one, where everybody may read: a rule that allows the
/// first allows that. A rule that denies it denies it.
const KNOWN: [(&str, &str, &str); 2] =
    [("registry.k8s.io", "-docker.pkg.dev", "k8s-artifacts-prod/images/"), ("k8s.gcr.io", "registry.k8s.io", "")];

/// One request that reads a repository, where there are rules.
pub(crate) struct DetourCheck {
    proxy: Arc<Proxy>,
    clearance: Clearance,
    path: Uri,
    place: Place,
    /// The number of detours that were known when it was judged last.
    judged: u64,
}

impl DetourCheck {
    /// Judges by what is known before anybody is asked. `None` where there is nothing to judge.
    ///
    /// # Errors
    /// The refusal, which has been noted in the audit log.
    pub(crate) async fn of(
        proxy: &Arc<Proxy>,
        policy: &Policy,
        clearance: &Clearance,
        (registry, authority, path): (&Registry, &Authority, &Uri),
    ) -> Result<Option<Self>, Failure> {
        let Some(repository) = clearance.is_read_of() else { return Ok(None) };
        let place = Place { registry: registry.origin(authority), repository: repository.clone() };
        let judged = proxy.cache.detours().changes();
        let detours = proxy.cache.detours().of(&place).await.ok_or_else(respond::unknown_detours)?;
        let check = Self { proxy: proxy.clone(), clearance: clearance.clone(), path: path.clone(), place, judged };
        check.judge(policy, &detours)?;
        Ok(Some(check))
    }

    /// Judges again if anything was learnt since.
    fn again(&mut self) -> Result<(), Failure> {
        let detours = self.proxy.cache.detours();
        let changes = detours.changes();
        if changes != self.judged {
            self.judge(&self.proxy.policy(), &detours.hot(&self.place))?;
            self.judged = changes;
        }
        Ok(())
    }

    fn judge(&self, policy: &Policy, detours: &[Detour]) -> Result<(), Failure> {
        for detour in detours {
            if let Some(rule) = self.denies(policy, detour) {
                let led = match detour {
                    Detour::To(host, Some(repository)) => format!("{}/{repository}", host.short(443)),
                    Detour::To(host, None) => host.short(443).to_string(),
                    Detour::Everywhere => "too many repositories".to_owned(),
                };
                let reason = format!("the registry redirects to {led}");
                self.clearance.note_detour(&policy.clients, &self.path, rule.clone(), reason);
                return Err(respond::no_entry(&rule).told());
            }
        }
        Ok(())
    }

    /// The rule that denies what the detour led to, at any registry that may be there.
    fn denies(&self, policy: &Policy, detour: &Detour) -> Option<Arc<str>> {
        let Detour::To(host, led) = detour else { return Some(DEFAULT.into()) };
        policy.registries.iter().filter(|registry| registry.origin(host) != self.place.registry).find_map(|registry| {
            let mut names = registry.prefixes_at(host).filter_map(|prefix| within(led.as_ref(), prefix));
            names.find_map(|repository| {
                let named = repository.as_ref().map_or(Named::Any, Named::One);
                let intent = self.clearance.intent(registry.name(), host, named, Action::Pull);
                match policy.clients.rules.judge(&intent) {
                    Judgement::Denied(rule) if *rule == *DEFAULT && self.is_known(host, led.as_ref()) => None,
                    Judgement::Denied(rule) => Some(rule),
                    Judgement::Allowed(_) => None,
                }
            })
        })
    }

    fn is_known(&self, host: &Authority, led: Option<&Repository>) -> bool {
        let Host::Name(name) = &host.host else { return false };
        let is = |(from, to, below): &(&str, &str, &str)| {
            *from == &*self.place.registry
                && name.ends_with(to)
                && led.is_some_and(|led| led.as_str().starts_with(below))
        };
        KNOWN.iter().any(is)
    }

    /// The answer, if nothing was learnt meanwhile that bars the client; its body breaks off if that happens later.
    ///
    /// # Errors
    /// As [`DetourCheck::of`].
    pub(crate) fn over(mut self, answered: Result<Served, Failure>) -> Result<Served, Failure> {
        self.again()?;
        let served = answered?;
        let ServedAnswer::Message(response) = served.answer else { return Ok(served) };
        let wrap = |body: Body| if body.is_end_stream() { body } else { Body::wrap(Checked { body, check: self }) };
        Ok(Served { answer: response.map(wrap).into(), ..served })
    }
}

/// The registry's own name for what its endpoint calls `led`, where that lies below the endpoint's prefix.
fn within(led: Option<&Repository>, prefix: &str) -> Option<Option<Repository>> {
    match led {
        Some(led) if !prefix.is_empty() => {
            let name = led.as_str().strip_prefix(prefix)?.strip_prefix('/')?;
            Some(name.parse().ok())
        }
        led => Some(led.cloned()),
    }
}

struct Checked {
    body: Body,
    check: DetourCheck,
}

impl HttpBody for Checked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        // A detour is noted before the first byte that came by it: what is here was judged, or is now.
        Poll::Ready(match self.check.again() {
            Ok(()) => frame,
            Err(refusal) => Some(Err(BodyError::new(refusal.message))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

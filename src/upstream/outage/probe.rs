//! The one who asks while a registry is away, ever more seldom, until it is back; sooner where somebody wants something.

use std::sync::{Arc, Weak};
use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use http::{Method, Request};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use super::part::{Failed, Part};
use super::state::{FIRST, Inner, Outage};
use crate::host::asked_anew;
use crate::upstream::{Endpoint, Error, Upstream};
use crate::wire::Body;

/// How long an answer may take. One who falls silent may be back before that: then it answers what is asked anew.
const WAIT: Duration = Duration::from_secs(5);
const ANEW: Duration = Duration::from_secs(1);
const NAME: HeaderValue = HeaderValue::from_static(concat!("pullthrough/", env!("CARGO_PKG_VERSION")));

/// The one probe of an open state. Ends with the state's last holder.
#[derive(Debug)]
pub(in crate::upstream) struct Probe {
    inner: Weak<Inner>,
    since: Instant,
}

impl Probe {
    /// Of a state that has opened just now.
    pub(in crate::upstream) fn of(outage: &Outage) -> Self {
        Self { inner: Arc::downgrade(&outage.0), since: Instant::now() }
    }

    /// Asks until the state is closed or forgotten. `upstream` is the plain way, which no outage bars.
    pub(in crate::upstream) async fn run(self, upstream: Upstream) {
        let (homes, _) = self.parts();
        let registry = homes.first().map(Endpoint::name).unwrap_or_default();
        warn!(
            registry,
            "the registry is away: what is cached is served, and it is asked now and then whether it is back"
        );
        while let Some((pause, wanted)) = self.pause() {
            tokio::time::sleep(pause.min(FIRST)).await;
            // Whoever wants something meanwhile has it asked at once, so that it is back for them within a second.
            let _ = tokio::time::timeout(pause.saturating_sub(FIRST), wanted.notified()).await;
            let Ok((answered, failed)) = self.ask(&upstream).await else { continue };
            if let Some(away) = self.done(&answered, failed) {
                info!(registry, seconds = away.as_secs(), "the registry is back");
                return;
            }
        }
    }

    /// Asks each part once: who answered, and who did not.
    async fn ask(&self, upstream: &Upstream) -> Result<(Vec<Endpoint>, Vec<(Part, Failed)>), NotAsked> {
        let (homes, parts) = self.parts();
        let mut answered = Vec::new();
        for home in homes {
            if answers(upstream, &home, Method::GET, "/v2/", self.since).await?.is_ok() {
                answered.push(home);
            }
        }
        let mut failed = Vec::new();
        for part in parts {
            if let Err(how) = is_back(upstream, &part, self.since).await? {
                failed.push((part, how));
            }
        }
        Ok((answered, failed))
    }

    /// How long to wait before the next try; `None` where nobody cares any more.
    fn pause(&self) -> Option<(Duration, Arc<Notify>)> {
        self.outage().map(|outage| (outage.pause(), Arc::clone(&outage.0.wanted)))
    }

    fn parts(&self) -> (Vec<Endpoint>, Vec<Part>) {
        self.outage().map(|outage| outage.parts()).unwrap_or_default()
    }

    /// What came of one round. Answers how long the registry was away, if this closed the state.
    fn done(&self, answered: &[Endpoint], failed: Vec<(Part, Failed)>) -> Option<Duration> {
        self.outage()?.probed(answered, failed).then(|| self.since.elapsed())
    }

    fn outage(&self) -> Option<Outage> {
        self.inner.upgrade().map(Outage)
    }
}

/// Nobody was asked, for want of file descriptors here: that says nothing of the registry.
struct NotAsked;

async fn is_back(upstream: &Upstream, part: &Part, since: Instant) -> Result<Result<(), Failed>, NotAsked> {
    match part {
        Part::Home(_) => Ok(Ok(())), // asked already
        // Without credentials: that it answers is enough.
        Part::Realm(endpoint, target, _) => answers(upstream, endpoint, Method::GET, target.as_str(), since).await,
        Part::Elsewhere(host, _) => answers(upstream, &Endpoint::of_host(host), Method::HEAD, "/", since).await,
    }
}

/// Whether it says anything but that it cannot, over a connection that is younger than the outage.
async fn answers(
    upstream: &Upstream,
    endpoint: &Endpoint,
    method: Method,
    target: &str,
    since: Instant,
) -> Result<Result<(), Failed>, NotAsked> {
    let request = || Request::builder().method(&method).uri(target).header(USER_AGENT, NAME).body(Body::empty());
    if request().is_err() {
        return Ok(Ok(())); // what cannot be asked bars nobody
    }
    let knock = || upstream.knock(endpoint, request().unwrap_or_default(), since);
    Ok(match tokio::time::timeout(WAIT, asked_anew(knock, || tokio::time::sleep(ANEW))).await {
        Ok(Ok(response)) if response.status().is_server_error() && response.status().as_u16() != 501 => {
            Err(Failed::Error)
        }
        // What is forbidden, here or by a parent, never will be asked.
        Ok(Ok(_) | Err(Error::Forbidden(_))) => Ok(()),
        Ok(Err(Error::Parent { source, .. })) if source.is_final() => Ok(()),
        Ok(Err(error)) if error.is_ours() => return Err(NotAsked),
        Ok(Err(_)) | Err(_) => Err(Failed::Silence),
    })
}

#[cfg(test)]
mod tests {
    use http::uri::PathAndQuery;

    use super::*;
    use crate::oci::Authority;
    use crate::upstream::outage::state::tests::{endpoint, quay, refused};
    use crate::upstream::outage::state::{LONGEST, SAME, SOON};

    #[tokio::test(start_paused = true)]
    async fn a_mirror_is_no_part_of_it_and_a_second_endpoint_answers_for_the_first() {
        let (one, two, mirror) = (endpoint("one.test"), endpoint("two.test"), endpoint("mirror.test"));
        let outage = Outage::new(vec![one.clone(), two.clone()], vec![mirror.clone()]);
        assert!(outage.covers(&one) && outage.covers(&endpoint("auth.test")) && !outage.covers(&mirror));
        let refused = refused();
        assert!(!outage.note(&one, None, Instant::now(), Err(&refused)));
        assert!(!outage.note(&one, None, Instant::now(), Err(&refused)));
        assert!(outage.note(&two, None, Instant::now(), Err(&refused)));
        let probe = Probe::of(&outage);
        assert!(probe.done(&[], Vec::new()).is_none());
        assert!(probe.done(&[two], Vec::new()).is_some(), "one of them is enough");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_service_holds_it_open_and_a_redirects_host_only_for_a_while() {
        let (outage, home) = quay();
        let (auth, refused) = (endpoint("auth.test"), refused());
        let target = PathAndQuery::from_static("/token?service=quay.io");
        assert!(outage.note(&auth, Some(&target), Instant::now(), Err(&refused)));
        let probe = Probe::of(&outage);
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
        let probe = Probe::of(&outage);
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
        let probe = Probe::of(&outage);
        let pauses: Vec<u128> = (0..8)
            .map(|_| {
                let (pause, _) = probe.pause().unwrap();
                probe.done(&[], Vec::new());
                pause.as_millis()
            })
            .collect();
        assert_eq!(pauses, [250, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert!(probe.done(std::slice::from_ref(&home), Vec::new()).is_some());
        assert!(!outage.note(&home, None, early, Err(&error)), "asked before the registry came back");
        tokio::time::advance(FIRST).await;
        assert!(outage.note(&home, None, Instant::now(), Err(&error)));
        let pause = |probe: &Probe| probe.pause().map(|(pause, _)| pause);
        assert_eq!(pause(&probe), Some(LONGEST), "the same outage");
        probe.done(std::slice::from_ref(&home), Vec::new());
        tokio::time::advance(SAME).await;
        assert!(outage.note(&home, None, Instant::now(), Err(&error)));
        assert_eq!(pause(&probe), Some(SOON));
    }

    #[tokio::test]
    async fn a_probe_ends_with_the_registry() {
        let (outage, _) = quay();
        let probe = Probe::of(&outage);
        assert!(probe.pause().is_some());
        drop(outage);
        assert!(probe.pause().is_none());
    }
}

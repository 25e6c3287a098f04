//! Finds out whether several machines pull from behind the only address that is seen: behind NAT, `clients.allow` lets
//! everybody in who is behind it.
//!
//! Numbers tell nothing: one node makes a thousand connections in a day, ten behind a gateway make thirty in a
//! rollout. What one machine does not do is run two versions of one client at the same time, or pull a layer again
//! and again: it has it. Loopback is never told of, nor an address that is not alone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::header::{RANGE, USER_AGENT};
use http::{Method, Request};
use tracing::warn;

use crate::oci::{Digest, Route};

/// Events further apart are no evidence: a client that was upgraded, an image that was deleted.
const WINDOW: Duration = Duration::from_secs(600);
/// No single machine needs the same whole layer so often within that time.
const OFTEN: u32 = 5;
/// At most so many are remembered.
const AGENTS: usize = 32;
const LAYERS: usize = 4096;

/// The evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SharedBy {
    /// Two versions of one client.
    Clients(String, String),
    /// A layer that was pulled so often.
    Layer(Digest),
}

/// Looks for evidence until there is some, or until several addresses are known.
#[derive(Debug, Default)]
pub(crate) struct SharedAddress {
    is_settled: AtomicBool,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    address: IpAddr,
    /// By the client's name.
    agents: HashMap<String, (String, Instant)>,
    layers: HashMap<Digest, (u32, Instant)>,
}

impl SharedAddress {
    /// Warns once if an answered pull of `client` shows that several machines share its address.
    pub(crate) fn look<B>(&self, client: IpAddr, route: &Route, request: &Request<B>) {
        let headers = request.headers();
        let is_whole = *request.method() == Method::GET && !headers.contains_key(RANGE);
        let layer = if let Route::Blob(_, digest) = route { Some(digest).filter(|_| is_whole) } else { None };
        let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        if let Some(evidence) = self.pulled(client, agent, layer, Instant::now()) {
            warn!(
                %client, ?evidence,
                "several machines share this client address (NAT, a container network, a port published by a userland proxy), and no other address pulls: clients.allow cannot tell them apart; require passwords with clients.htpasswd"
            );
        }
    }

    /// A pull of `client`, by a program that calls itself `agent`, of a `layer` if it takes one whole. Answers once
    /// by what it is known that others are behind that address.
    fn pulled(&self, client: IpAddr, agent: Option<&str>, layer: Option<&Digest>, now: Instant) -> Option<SharedBy> {
        if client.is_loopback() || self.is_settled.load(Ordering::Relaxed) {
            return None;
        }
        // Of pulls at the same moment one is enough: nobody waits here.
        let Ok(mut seen) = self.seen.try_lock() else { return None };
        let seen = seen.get_or_insert_with(|| Seen { address: client, agents: HashMap::new(), layers: HashMap::new() });
        let is_alone = seen.address == client;
        let evidence = is_alone.then(|| seen.evidence(agent, layer, now)).flatten();
        if is_alone && evidence.is_none() {
            return None;
        }
        (seen.agents, seen.layers) = (HashMap::new(), HashMap::new());
        let was_settled = self.is_settled.swap(true, Ordering::Relaxed);
        evidence.filter(|_| !was_settled)
    }
}

impl Seen {
    fn evidence(&mut self, agent: Option<&str>, layer: Option<&Digest>, now: Instant) -> Option<SharedBy> {
        let by_agent = agent.and_then(|agent| self.agent(agent, now));
        by_agent.or_else(|| layer.and_then(|layer| self.layer(layer, now)))
    }

    fn agent(&mut self, agent: &str, now: Instant) -> Option<SharedBy> {
        let (name, version) = client_of(agent)?;
        if let Some((known, at)) = self.agents.get_mut(name) {
            if known != version && now.duration_since(*at) < WINDOW {
                return Some(SharedBy::Clients(format!("{name}/{known}"), format!("{name}/{version}")));
            }
            (*known, *at) = (version.to_owned(), now);
        } else if self.agents.len() < AGENTS {
            self.agents.insert(name.to_owned(), (version.to_owned(), now));
        }
        None
    }

    fn layer(&mut self, layer: &Digest, now: Instant) -> Option<SharedBy> {
        if self.layers.len() >= LAYERS {
            self.layers.retain(|_, (_, since)| now.duration_since(*since) < WINDOW);
        }
        if self.layers.len() >= LAYERS && !self.layers.contains_key(layer) {
            return None;
        }
        let (times, since) = self.layers.entry(*layer).or_insert((0, now));
        if now.duration_since(*since) >= WINDOW {
            (*times, *since) = (0, now);
        }
        *times += 1;
        (*times >= OFTEN).then_some(SharedBy::Layer(*layer))
    }
}

/// A container client's name and all else that it says of its machine, such as its kernel; but not who uses its
/// interface. Libraries and browsers tell no machines apart.
fn client_of(agent: &str) -> Option<(&str, &str)> {
    const CLIENTS: [&str; 8] =
        ["docker", "containerd", "containers", "cri-o", "buildkit", "podman", "skopeo", "nerdctl"];
    let own = agent.split(" UpstreamClient(").next()?.trim();
    let (name, version) = own.split_once('/')?;
    CLIENTS.iter().any(|client| client.eq_ignore_ascii_case(name)).then_some((name, version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    const DOCKER: &str = "docker/27.1 go/go1.22 git-commit/a kernel/6.8.0-45 os/linux arch/amd64";
    const OTHER: &str = "docker/27.1 go/go1.22 git-commit/a kernel/6.8.0-47 os/linux arch/amd64";

    struct Office {
        shared_address: SharedAddress,
        start: Instant,
    }

    impl Office {
        fn new() -> Self {
            Self { shared_address: SharedAddress::default(), start: Instant::now() }
        }

        fn at(&self, seconds: u64, client: &str, agent: &str, layer: Option<&[u8]>) -> Option<SharedBy> {
            let layer = layer.map(|bytes| Digest::of(Algorithm::Sha256, bytes));
            let now = self.start + Duration::from_secs(seconds);
            self.shared_address.pulled(client.parse().unwrap(), Some(agent), layer.as_ref(), now)
        }
    }

    #[test]
    fn two_machines_behind_one_address_are_told_by_their_second_pull() {
        let office = Office::new();
        assert_eq!(office.at(0, "172.17.0.1", DOCKER, None), None);
        let versions = [DOCKER, OTHER].map(str::to_owned);
        let expected = Some(SharedBy::Clients(versions[0].clone(), versions[1].clone()));
        assert_eq!(office.at(1, "172.17.0.1", OTHER, None), expected);
        assert_eq!(office.at(2, "172.17.0.1", DOCKER, None), None, "once");
    }

    #[test]
    fn machines_that_are_alike_are_told_by_a_layer_that_is_pulled_again_and_again() {
        let office = Office::new();
        let told: Vec<u64> = (0..9).filter(|at| office.at(*at, "10.0.0.1", DOCKER, Some(b"layer")).is_some()).collect();
        assert_eq!(told, [u64::from(OFTEN) - 1]);
    }

    #[test]
    fn one_node_with_several_programs_and_a_thousand_pulls_is_not_told_of() {
        let office = Office::new();
        let through = format!("{DOCKER} UpstreamClient(Docker-Client/27.1 \\(linux\\))");
        let agents =
            [DOCKER, &through, "containerd/v2.0", "buildkit/v0.12", "Go-http-client/1.1", "Go-http-client/2.0", "x"];
        for number in 0..1000_u64 {
            let layer = number.to_be_bytes();
            let agent = agents[usize::try_from(number).unwrap() % agents.len()];
            assert_eq!(office.at(number, "10.0.0.1", agent, Some(&layer)), None, "{number}");
        }
        let office = Office::new();
        for hour in 0..100 {
            let agent = if hour < 50 { DOCKER } else { OTHER };
            assert_eq!(office.at(hour * 3600, "10.0.0.1", agent, Some(b"nightly")), None, "upgraded once, {hour}");
        }
    }

    #[test]
    fn neither_loopback_nor_one_of_several_addresses_is_told_of() {
        let pull =
            |office: &Office, at: u64, client| office.at(at, client, [DOCKER, OTHER][at as usize % 2], Some(b"x"));
        let laptop = Office::new();
        assert!((0..100).all(|at| pull(&laptop, at, "127.0.0.1").is_none() && pull(&laptop, at, "::1").is_none()));
        let fleet = Office::new();
        assert_eq!(pull(&fleet, 0, "10.0.0.1"), None);
        assert_eq!(pull(&fleet, 1, "10.0.0.2"), None);
        assert!((2..100).all(|at| pull(&fleet, at, "10.0.0.1").is_none()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let office = Office::new();
        for number in 0..2 * LAYERS as u64 {
            assert_eq!(office.at(0, "10.0.0.1", &format!("docker/{}", 1), Some(&number.to_be_bytes())), None);
        }
        let seen = office.shared_address.seen.lock().unwrap();
        assert!(seen.as_ref().is_some_and(|seen| seen.layers.len() == LAYERS));
    }
}

//! Pulls through the proxy in process: every claim about the cache is an equality on what the upstream saw.

mod audited;
mod authorization;
mod bound;
mod coded;
mod credentials;
mod damage;
mod detours;
mod doorkeeping;
mod doors;
mod few_streams;
mod fills;
mod followed;
mod forgotten;
mod framing;
mod guesses;
mod head_hint;
mod held;
mod identity;
mod judged;
mod killed;
mod lanes;
mod lists;
mod local_tokens;
mod manifests;
mod model;
mod oracle;
mod outage;
mod outage_parts;
mod pages;
mod parking;
mod plain;
mod prefetch;
mod printed;
mod private;
mod pushes;
mod pushes_bounds;
mod pushes_cut;
mod pushes_tags;
mod ranges;
mod recovery;
mod referrers;
mod refusals;
mod reloads;
mod rest;
mod resuming;
mod secrets;
mod shapes;
mod storms;
mod suspicion;
mod tags;
mod together;
mod unfitting;
mod vanity;
mod without_head;
mod words;

use crate::support::client::{Session, Whole};
use crate::support::{Plan, Proxy, Registry};

pub(crate) const QUAY: &str = "quay.io:443";

/// A proxy before one registry that is quay.io, without authentication.
async fn quay() -> (Registry, Proxy) {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").start().await;
    (registry, proxy)
}

/// Bytes that look like a layer: no run of equal chunks, so that a shifted part shows.
pub(crate) fn layer(length: usize, seed: u64) -> Vec<u8> {
    let dice = crate::support::Dice::seeded(seed);
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| dice.below(u64::MAX).to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}

async fn get(session: &mut Session, path: &str, headers: &[(&str, &str)]) -> Whole {
    session.ask("GET", path, headers).await
}

//! Counts what all clients have together, and what was refused.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tracing::warn;

use super::exceeded::Exceeded;
use super::settings::Limits;
use crate::host::{Count, LogThrottle};

/// The limits and counts of all clients together.
pub(crate) struct ClientTotals {
    pub(crate) limits: ArcSwap<Limits>,
    pub(crate) connections: Count,
    pub(crate) streams: Count,
    /// Read for each request, and so beside the limits.
    pub(crate) streams_most: AtomicUsize,
    pub(crate) streams_each: AtomicUsize,
    pub(crate) buffers_each: AtomicUsize,
    pub(crate) tunnels: Count,
    /// Milliseconds, as the sweep counts them.
    pub(crate) now: AtomicU64,
    pub(crate) refused: [(AtomicU64, LogThrottle); Exceeded::LABELS.len()],
    /// Streams given up, and when that was said.
    pub(crate) given_up: (AtomicU64, LogThrottle),
}

impl ClientTotals {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits: ArcSwap::from_pointee(limits),
            connections: Count::default(),
            streams: Count::default(),
            streams_most: limits.streams.into(),
            streams_each: limits.streams_each.into(),
            buffers_each: limits.buffers_each.into(),
            tunnels: Count::default(),
            now: 0.into(),
            refused: Default::default(),
            given_up: Default::default(),
        }
    }

    pub(crate) fn adopt(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
        self.streams_most.store(limits.streams, Ordering::Relaxed);
        self.streams_each.store(limits.streams_each, Ordering::Relaxed);
        self.buffers_each.store(limits.buffers_each, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, client: IpAddr, refusal: Exceeded) -> Exceeded {
        let (count, said) = &self.refused[refusal.place()];
        count.fetch_add(1, Ordering::Relaxed);
        if said.is_due() {
            warn!(%client, reason = refusal.label(), "refused, like everything above the same limit: {refusal}");
        }
        refusal
    }
}

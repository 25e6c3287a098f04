//! A registry for tests that answers nothing, and counts the deadlines that it misses.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::source::{Fault, Flow, Origins, Proof, Source, Subject, Want, Whole};
use crate::oci::Digest;

/// The registry.
#[derive(Default)]
pub(crate) struct Silent {
    /// Since when its answers are fresh.
    pub(crate) changed: Option<Instant>,
    pub(crate) missed: AtomicUsize,
}

impl Source for Silent {
    fn open<'a>(&'a self, _: &'a Digest, _: Want) -> BoxFuture<'a, Result<Flow, Fault>> {
        Box::pin(std::future::pending())
    }

    fn prove<'a>(&'a self, _: &'a Subject) -> BoxFuture<'a, Result<Proof, Fault>> {
        Box::pin(std::future::pending())
    }

    fn whole<'a>(&'a self, _: &'a Subject, _: Origins) -> BoxFuture<'a, Result<Whole, Fault>> {
        Box::pin(std::future::pending())
    }

    fn decides(&self) -> bool {
        true
    }

    fn fresh_since(&self) -> Option<Instant> {
        self.changed
    }

    fn missed(&self, _: Instant) {
        self.missed.fetch_add(1, Ordering::SeqCst);
    }
}

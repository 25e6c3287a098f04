//! A caller that waits for a fill: as long as there is one, the fill goes on.

use std::sync::Arc;

use crate::cache::fill::fill::Fill;
use crate::cache::fill::sources::FillSource;
use crate::cache::fill::status::Ending;
use crate::cache::{Caller, Fault};
use crate::oci::Digest;

/// A caller's share in a fill. Cloning it is another waiter.
pub struct Waiter {
    fill: Arc<Fill>,
    caller: Caller,
}

impl Waiter {
    /// Joins; `None` if the fill has ended without success.
    pub(crate) fn of(fill: &Arc<Fill>, caller: &Caller) -> Option<Self> {
        fill.enter().then(|| Self { fill: fill.clone(), caller: caller.clone() })
    }

    /// What is being filled.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        self.fill.digest()
    }

    /// Waits until the content's length is known, in bytes; `None` when the upstream does not say it and the
    /// end is not there yet. An empty content answers once its digest matched. Cancel-safe.
    ///
    /// # Errors
    /// The fault that broke the fill.
    pub async fn length(&self) -> Result<Option<u64>, Fault> {
        self.fill.status().length().await
    }

    /// Whether no source has answered yet.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        self.fill.status().is_opening()
    }

    /// Waits until the digest matched and answers the length in bytes. Cancel-safe.
    ///
    /// # Errors
    /// The fault that broke the fill.
    pub async fn verified(&self) -> Result<u64, Fault> {
        self.fill.status().verified().await
    }

    /// How many bytes have landed.
    #[must_use]
    pub fn landed(&self) -> u64 {
        self.fill.progress()
    }

    /// Its caller has proven meanwhile that it may read: its source can continue the fill from here on.
    pub fn take_part(&self) {
        self.fill.sources().add(FillSource::of(&self.caller));
    }

    /// How the fill will end, without waiting for it as a waiter does.
    pub fn ending(&self) -> Ending {
        self.fill.status().ending()
    }

    pub(crate) fn fill(&self) -> &Arc<Fill> {
        &self.fill
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }
}

impl Clone for Waiter {
    fn clone(&self) -> Self {
        // Whoever is in may bring others, even into a fill that has just ended: they learn of its end.
        self.fill.enter_with_another();
        Self { fill: self.fill.clone(), caller: self.caller.clone() }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.fill.exit();
    }
}

//! A source for whoever holds a token of ours: it asks as nobody.
//!
//! What the registry denies to nobody says nothing of the holder, so it takes away no right and no last known
//! answer; where there is none, the registry's own 401 reaches the client.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::ask::Ask;
use crate::cache::{Fault, Flow, Proof, Said, Source, Want, Whole};
use crate::proxy::answer;

/// Asks without the caller's credentials.
pub(crate) struct TokenHolder(pub(crate) Arc<Ask>);

impl Source for TokenHolder {
    fn open(&self, want: Want) -> BoxFuture<'_, Result<Flow, Fault>> {
        Box::pin(async move { self.0.open(want).await.map_err(softened) })
    }

    fn decides(&self) -> bool {
        self.0.decides()
    }

    fn without_mirrors(&self) -> Option<Arc<dyn Source>> {
        self.0.asking_no_mirror().map(|ask| -> Arc<dyn Source> { Arc::new(Self(Arc::new(ask))) })
    }

    fn prove(&self) -> BoxFuture<'_, Result<Proof, Fault>> {
        Box::pin(async move { self.0.prove().await.map_err(softened) })
    }

    fn whole(&self) -> BoxFuture<'_, Result<Whole, Fault>> {
        Box::pin(async move { self.0.whole().await.map_err(softened) })
    }

    fn is_away(&self) -> bool {
        self.0.is_away()
    }

    fn is_gone(&self) -> BoxFuture<'_, bool> {
        self.0.is_gone()
    }

    fn is_throttle(&self, fault: &Fault) -> bool {
        self.0.is_throttle(fault)
    }

    fn absence(&self) -> Option<Fault> {
        self.0.absence()
    }

    fn fresh_since(&self) -> Option<Instant> {
        self.0.fresh_since()
    }

    fn is_lent(&self) -> bool {
        true
    }

    fn missed(&self, begun: Instant) {
        self.0.missed(begun);
    }
}

/// Many registries say 404 to whoever may not know that something is there.
fn softened(fault: Fault) -> Fault {
    match fault.said {
        Said::Challenged | Said::Denied | Said::Forbidden | Said::Missing => Fault { said: Said::Nothing, ..fault },
        Said::Refused if answer::is_missing(&fault) => Fault { said: Said::Nothing, ..fault },
        Said::Nothing | Said::Refused => fault,
    }
}

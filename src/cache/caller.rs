//! A principal at a place, and what asks upstream on its behalf: the subject of every question that leaves the cache.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::rights::place::Place;
use super::rights::principal::Principal;
use super::rights::reader::PlaceReader;
use super::rights::trust::Trust;
use super::source::{Fault, Origins, Retry, Source};
use crate::store::Learned;

/// Who asks at which place, and what asks upstream on its behalf. Cheap to clone.
#[derive(Clone)]
pub struct Caller {
    /// Where the thing asked for is.
    pub place: Place,
    /// Whose credentials it carries.
    pub principal: Principal,
    /// Asks upstream in this place, with these credentials.
    pub source: Arc<dyn Source>,
    /// How long what the registry said of rights is believed.
    pub trust: Trust,
    /// What the source carries of the caller's own credentials.
    pub carried: Carried,
    /// Which endpoints it may be served by.
    pub origins: Origins,
}

/// What a source carries of its caller's own credentials, where the principal does not say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Carried {
    /// All of them.
    #[default]
    Own,
    /// None, and it takes the registry's challenge for an answer: a source that gets a token by itself is never answered
    /// by that.
    Bare,
    /// Fewer than the caller has, so that a no says nothing of the caller. A caller that is asked for with its own is
    /// never answered by what such a source was told.
    Reduced,
}

/// In whose name a source asks: only callers that ask in the same one may be given the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asker {
    principal: Principal,
    carried: Carried,
}

/// The registry took longer than a client waits.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the registry has not answered within {:.1} s", .0.as_secs_f64())]
pub struct NoAnswer(pub Duration);

/// Wants to read: known by name at once, and able to ask upstream, which costs something only once it is needed.
pub trait Requester: Sync {
    /// Who wants to read, and where.
    fn reader(&self) -> PlaceReader<'_>;

    /// The same with what asks upstream.
    fn caller(&self) -> &Caller;
}

impl Requester for Caller {
    fn reader(&self) -> PlaceReader<'_> {
        Self::reader(self)
    }

    fn caller(&self) -> &Caller {
        self
    }
}

impl Caller {
    /// A caller that asks with all of its own credentials, wherever the registry may be asked.
    #[must_use]
    pub fn new(place: Place, principal: Principal, source: Arc<dyn Source>, trust: Trust) -> Self {
        Self { place, principal, source, trust, carried: Carried::Own, origins: Origins::Any }
    }

    /// Whose right is in question. What is public is looked up anew.
    pub(crate) fn reader(&self) -> PlaceReader<'_> {
        PlaceReader { place: &self.place, principal: &self.principal, trust: &self.trust, public: None }
    }

    /// The same, asking the registry itself and no mirror, so that an answer to GET proves its right, too.
    pub(crate) fn without_mirrors(&self) -> Self {
        Self { origins: Origins::Registry, ..self.clone() }
    }

    /// Whether the registry itself answers what it asks for by digest, so that success proves its right. A mirror's
    /// does not: then it has to be proven first.
    pub(crate) fn decides(&self) -> bool {
        self.origins == Origins::Registry || self.source.decides()
    }

    /// Whether it is asked for with fewer credentials than it has.
    pub(crate) fn is_reduced(&self) -> bool {
        self.carried == Carried::Reduced
    }

    /// The source of an answer to it, for what is remembered of the content.
    pub(crate) fn learns(&self) -> Learned {
        if self.trust.forgeable { Learned::WithCredentials } else { self.principal.learns() }
    }

    /// By what it is told from others that ask for the same at the same time.
    pub(crate) fn asker(&self) -> Asker {
        Asker { principal: self.principal.clone(), carried: self.carried }
    }

    /// Waits for `answer` for so long, of a registry that was asked at `begun`. A deadline that was missed is noted.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub(crate) async fn within<T>(
        &self,
        wait: Duration,
        begun: Instant,
        answer: impl Future<Output = T>,
    ) -> Result<T, Fault> {
        tokio::time::timeout(wait, answer).await.map_err(|_| {
            self.source.missed(begun);
            Fault::new(Retry::Again, NoAnswer(wait))
        })
    }

    /// What the registry says of the caller's right. One that might read lately (`lapsed`), and would be served on that,
    /// waits for it no longer than its deadline.
    pub(crate) async fn in_time<T>(
        &self,
        lapsed: bool,
        asking: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let asking = Box::pin(asking);
        if !lapsed {
            return asking.await;
        }
        self.within(self.trust.deadline, Instant::now(), asking).await?
    }
}

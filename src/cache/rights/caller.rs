//! Who asks, where, and through what: the subject of every lookup.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::{GrantsConfig, Lives, Principal, Source};
use crate::oci::Repository;
use crate::store::Learned;

/// A repository at one registry. The registry is the origin's own name, never a pattern that covers it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The registry's name, such as `docker.io`.
    pub registry: Arc<str>,
    /// The repository in it.
    pub repository: Repository,
}

/// Who asks at which place, and what asks upstream on its behalf. Cheap to clone.
#[derive(Clone)]
pub struct Caller {
    /// Where the thing asked for is.
    pub place: Place,
    /// Whose credentials it carries.
    pub principal: Principal,
    /// Asks upstream for this very thing, with these credentials.
    pub source: Arc<dyn Source>,
    /// How long what the registry said of rights is believed.
    pub trust: Trust,
}

/// In whose name a caller's source asks: only who asks in the same one may be given the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asker {
    principal: Principal,
    is_lent: bool,
    is_bare: bool,
}

impl Caller {
    /// The same, asking the registry itself and no mirror.
    pub(crate) fn without_mirrors(&self) -> Self {
        let source = self.source.without_mirrors().unwrap_or_else(|| self.source.clone());
        Self { source, ..self.clone() }
    }

    /// Whose word an answer to it is, for what is remembered of the content.
    pub(crate) fn learns(&self) -> Learned {
        if self.trust.forgeable { Learned::WithCredentials } else { self.principal.learns() }
    }

    /// By what it is told from others who ask for the same at the same time.
    pub(crate) fn asker(&self) -> Asker {
        Asker { principal: self.principal.clone(), is_lent: self.source.is_lent(), is_bare: self.source.is_bare() }
    }
}

/// How far the registry's earlier word goes for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    /// For how long.
    pub lives: Lives,
    /// How long the registry is waited for, before its earlier word stands in for it.
    pub deadline: Duration,
    /// The registry is known to be away: its earlier word stands in at once.
    pub away: bool,
    /// The caller's token has expired: a no to it says nothing of whoever obtained it.
    pub lapsed: bool,
    /// Anybody on the way to the registry may have spoken in its name: its word opens nothing at another one.
    pub forgeable: bool,
}

impl Default for Trust {
    /// As without any configuration, at a registry that is there.
    fn default() -> Self {
        Self {
            lives: GrantsConfig::default().lives(),
            deadline: Duration::from_secs(10),
            away: false,
            lapsed: false,
            forgeable: false,
        }
    }
}

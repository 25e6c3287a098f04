//! Who asks, where, and through what: the subject of every lookup.

use std::sync::Arc;

use super::{Principal, Source};
use crate::oci::Repository;

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
}

//! Names a repository at one registry.

use std::sync::Arc;

use crate::oci::Repository;

/// A repository at one registry. The registry is the origin's own name, never a pattern that covers it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The registry's name, such as `docker.io`.
    pub registry: Arc<str>,
    /// The repository in it.
    pub repository: Repository,
}

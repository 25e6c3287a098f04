//! Names the part of the cache that a question or a purge is about.

use crate::oci::{Digest, Repository, Tag};
use crate::store::catalog::key::key;

/// The images that are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All images.
    Everything,
    /// The images of a registry.
    Registry(String),
    /// The images of a repository.
    Repository(String, Repository),
    /// One tag.
    Tag(String, Repository, Tag),
    /// A digest in a repository.
    Here(String, Repository, Digest),
    /// A digest in any repository.
    Digest(Digest),
}

impl Scope {
    /// Registry, repository, tag and digest, each if it restricts the scope.
    pub(crate) fn columns(&self) -> (Option<&str>, Option<&str>, Option<&str>, Option<Vec<u8>>) {
        match self {
            Self::Everything => (None, None, None, None),
            Self::Registry(registry) => (Some(registry), None, None, None),
            Self::Repository(registry, name) => (Some(registry), Some(name.as_str()), None, None),
            Self::Tag(registry, name, tag) => (Some(registry), Some(name.as_str()), Some(tag.as_str()), None),
            Self::Here(registry, name, one) => (Some(registry), Some(name.as_str()), None, Some(key(one))),
            Self::Digest(one) => (None, None, None, Some(key(one))),
        }
    }
}

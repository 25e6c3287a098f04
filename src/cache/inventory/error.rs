//! Says why a command on the cache's content failed.

use crate::oci::{BadImageName, Digest};
use crate::store;

/// A command that failed.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The name names nothing.
    #[error("that name cannot be read")]
    Name(#[from] BadImageName),
    /// The command needs a name.
    #[error("this command needs a name: an image, a repository, a registry or a digest")]
    Nameless,
    /// Nothing of that name is here.
    #[error("the cache holds nothing called {name}: {hint}")]
    Unknown {
        /// The name.
        name: String,
        /// What is there instead, or where to look.
        hint: String,
    },
    /// Several digests begin so.
    #[error("{prefix} is the beginning of {first} and of others: give more digits")]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// One of them.
        first: Digest,
    },
    /// A command on one image got a name for many.
    #[error("{name} is not one image: name one, such as {example}")]
    Many {
        /// The name.
        name: String,
        /// How one would be named.
        example: String,
    },
    /// All that would go is pinned.
    #[error("{name} is pinned: take the pin away (pullthrough cache unpin), or remove it with --force")]
    Pinned {
        /// The name.
        name: String,
    },
    /// There is no pin to take away.
    #[error("{name} is not pinned: {hint}")]
    NotPinned {
        /// The name.
        name: String,
        /// What is.
        hint: String,
    },
    /// The store.
    #[error("the cache cannot be read or changed")]
    Store(#[from] store::Error),
}

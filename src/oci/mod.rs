//! Defines the terms of the OCI distribution protocol as pure values: parsed once, printed exactly, no I/O.
//!
//! Flow: a path becomes a [`Route`] and a query a [`Query`], which print as the text that is sent upstream; the route holds
//! a [`Repository`] and a [`Reference`] (a [`Tag`] or a [`Digest`]). An `Accept` header becomes an [`Accept`] class. The
//! bytes of a manifest become a [`Listing`].
//! Scope: the parts of the protocol that need no socket and no file.
//! Never: guess. Text that servers could read in two ways is an error ([`BadPath`], [`BadQuery`]).
//! Reading: OCI distribution-spec v1.1, sections "Pull" and "Endpoints"; OCI image-spec, "Descriptor".

mod authority;
mod authorization;
mod challenge;
mod descriptor;
mod digest;
mod document;
mod error;
mod glob;
mod image;
mod manifest;
mod media_type;
mod name;
mod pattern;
mod request;
mod text;

pub use authority::{Authority, BadAuthority, Host};
pub use authorization::Authorization;
pub use challenge::bearer::Bearer;
pub use challenge::challenge::Challenge;
pub use descriptor::Descriptor;
pub use digest::{Algorithm, BadDigest, Digest, Hasher};
pub use document::document;
pub use error::{Code, error_body};
pub use glob::{BadRepositoryPattern, RepositoryPattern};
pub use image::{BadImageName, DigestPrefix, ImageName};
pub use manifest::{Listing, MANIFEST_LIMIT, kept_type};
pub use media_type::{Enclosed, Look, MediaType};
pub use name::{BadName, Reference, Repository, Tag};
pub use pattern::{BadPattern, HostPattern};
pub use request::accept::{Accept, OtherTypes};
pub use request::path::{BadPath, PlainPath};
pub use request::query::{BadQuery, Query};
pub use request::route::Route;
pub use text::parsed;

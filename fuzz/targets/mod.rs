//! Fuzz targets: bytes from outside, the code that reads them, and what must hold whatever they are.
//!
//! Each target is one function here. libFuzzer runs it (`fuzz/fuzz_targets`), and `cargo test` runs it over the corpora and
//! over changes to them (`replay`). Those that look into a room are compiled as a part of it, so that nothing is made
//! public for them. `fuzz/README.md` says how to run them and how to add one.

mod authority;
mod catalog;
mod challenge;
mod extents;
mod folder;
mod htpasswd;
mod image;
mod manifest;
pub(crate) mod naive;
mod query;
mod range;
#[cfg(test)]
mod replay;
mod route;

pub use authority::authority;
pub use catalog::catalog;
pub use challenge::challenge;
pub use extents::extents;
pub(crate) use folder::Folder;
pub use htpasswd::htpasswd;
pub use image::image;
pub use manifest::{accept, manifest};
pub use query::query;
pub use range::range;
pub use route::route;

pub use crate::config::fuzzing::config;
pub use crate::proxy::fuzzing::{
    authorization, bearers, content_range, door, first_bytes, hello, inside, naming, proxy_header, token_request,
};
pub use crate::store::fuzzing::landed;
pub use crate::upstream::fuzzing::{dns, docker_config, location, token_answer};

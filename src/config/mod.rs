//! From a file, the environment and flags to [`Settings`], or to every mistake at once.
//!
//! Flow: [`ConfigSources`] say where to read. The text becomes a tree (`tree`); the tree becomes the rooms' own
//! `Config` structs (`decode`), and each key that does not fit is noted, cut out and left behind, so that the
//! next one is found too. Variables and flags are laid over the tree and judged the same way
//! (`environment`; those of docker-registry-proxy: `predecessor`). What each value
//! alone cannot say is judged at the end: presets and patterns (`registries`), endpoints and their files
//! (`endpoints`), parent proxies (`parents`), held credentials (`credentials`), users and rules (`guests`), numbers and conflicts (`check`). `locate` finds the line of a key.
//! Scope: reads the configuration file and opens the certificate files that it names; creates nothing.
//! Never: a default that is written here. Each room has its own, in its `Config`.
//! Reading: README.md, "Configuration"; examples/pullthrough.yaml has every key with its default.

mod base;
mod decode;
mod environment;
mod file;
#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/targets/config.rs"]
pub(crate) mod fuzzing;
mod judge;
mod load;
mod mistakes;
mod predecessor;
mod presets;
mod settings;
mod source;
mod tree;

pub use load::{load, reload};
pub use mistakes::mistake::{Mistake, Mistakes, ValueSource};
pub use settings::{Settings, check_sealed};
pub use source::{ConfigSources, Overrides};

//! Turns a file, the environment and flags into [`Settings`], or reports every mistake at once.
//!
//! Flow: [`ConfigSources`] say where to read. The text becomes a tree (`tree`), and the tree becomes the `Config` structs
//! of the rooms (`decode`): each key that does not fit is reported and cut out, so that the next one is found too.
//! Variables and flags are laid over the tree and decoded the same way (`environment`; those of docker-registry-proxy:
//! `predecessor`). `judge` then checks what no single value shows. `mistakes` collects the mistakes and their places.
//! Scope: reads the configuration file and the files that it names; creates nothing.
//! Never: define a default here. Each room has its own, in its `Config`.
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

pub use load::{load, logs_json, reload};
pub use mistakes::mistake::{Mistake, Mistakes, ValueSource};
pub use settings::{DRAIN, Settings, check_root, check_sealed};
pub use source::{ConfigSources, Overrides};

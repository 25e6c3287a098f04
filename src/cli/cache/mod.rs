//! Implements `pullthrough cache`: lists, shows, counts, removes, pins and verifies the contents of the cache.
//!
//! Flow: a command becomes an [`Order`](crate::cache::Order); `run` sends it to the running server or carries it out on
//! the folder itself; each event is printed as it arrives, as text (`text`) or as JSON.
//! Never: hold the whole answer; a list may have 100,000 lines.

mod command;
mod format;
mod progress;
mod run;
mod text;

pub(super) use self::run::{ask_server, carry_out};
pub use command::{CacheCommand, run};
pub(super) use format::{ago, count, size};

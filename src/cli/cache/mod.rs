//! `pullthrough cache`: lists, shows, counts, removes, pins and verifies what the cache holds.
//!
//! Flow: a command becomes an [`Order`](crate::cache::Order); `reach` has it carried out, by the running server or
//! on the folder itself; what comes back is printed as it comes, for people (`people`) or as JSON.
//! Never: hold the whole answer; a list may have 100,000 lines.

mod command;
mod format;
mod progress;
mod run;
mod text;

pub(super) use self::run::carry_out;
pub use command::{CacheCommand, run};
pub(super) use format::{ago, count, size};

//! The machine and the units people use for it: sizes, times, percentages; limits, folders, free space; secrets
//! and the files that hold them.
//!
//! Scope: thin faces over the operating system and over the libraries that parse units. Nothing here knows
//! what a registry is.

mod later;
mod os;
mod secret;
mod units;
mod watched;

pub use later::Later;
pub use os::{FreeSpace, free_space, hostname, raise_file_limit};
pub use secret::Secret;
pub use units::{Percent, Period, Size};
pub use watched::WatchedFile;

//! The machine and the units people use for it: sizes, times, percentages; limits and how they are divided, folders, free
//! space; secrets and the files that hold them; files that change, the service manager, and the ciphers that the
//! processor is quick at; one asking for all who ask the same, and one that is asked anew.
//!
//! Scope: thin faces over the operating system, the runtime and the libraries that parse units. Nothing here knows
//! what a registry is.

mod address;
mod beside;
mod budget;
mod buffers;
mod changes;
mod cipher;
mod flight;
mod later;
mod limit;
mod memory;
mod os;
mod secret;
mod seldom;
pub mod service;
mod spare;
mod units;
mod watched;

pub use address::reached_at;
pub use beside::asked_anew;
pub use budget::Budget;
pub use buffers::{BUFFERS, Buffers};
pub use changes::Changes;
pub use cipher::{crypto, has_aes};
pub use flight::{Flights, Landed};
pub use later::Later;
pub use limit::{Count, Limit, Taken};
pub use memory::memory_limit;
pub use os::{FreeSpace, free_space, has_free_file, hostname, is_exhausted, open_file_limit, raise_file_limit};
pub use secret::Secret;
pub use seldom::Seldom;
pub use spare::Spare;
pub use units::{Percent, Period, Size};
pub use watched::WatchedFile;

//! The machine and the units people use for it: sizes, times, percentages; limits and how they are divided, folders, free
//! space; secrets and the files that hold them; files that change, the service manager, and the ciphers that the
//! processor is quick at; one asking for all who ask the same, and one that is asked anew; which request a task works for.
//!
//! Scope: thin faces over the operating system, the runtime and the libraries that parse units. Nothing here knows
//! what a registry is.

mod address;
mod changes;
mod cipher;
mod flight;
mod hedge;
mod limits;
mod os;
mod request_id;
mod reserved;
mod secret;
mod seldom;
pub mod service;
mod units;
mod watched;

pub use address::reached_at;
pub use changes::Changes;
pub use cipher::{crypto, has_aes};
pub use flight::{Flights, Landed};
pub use hedge::asked_anew;
pub use limits::budget::Budget;
pub use limits::buffers::{BUFFERS, Buffers};
pub use limits::limit::{Count, Limit, Taken};
pub use limits::memory::memory_limit;
pub use limits::spare::Spare;
pub use os::{FreeSpace, free_space, has_free_file, hostname, is_exhausted, open_file_limit, raise_file_limit};
pub use request_id::{Entered, RequestId, carried, carried_over};
pub use reserved::Reserved;
pub use secret::Secret;
pub use seldom::Seldom;
pub use units::{Percent, Period, Size};
pub use watched::WatchedFile;

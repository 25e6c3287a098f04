//! Wraps the machine: its limits, files, ciphers and service manager, and the units that people write.
//!
//! Flow: every room above calls it directly. `units` parses sizes, times and percentages; `limits` divides files and
//! memory; `secret`, `watched` and `changes` hold secrets and notice changed files; `flight` coalesces equal requests and
//! `hedge` repeats a slow one; `backoff` and `deadline` pause and give up; `log` helps
//! to write lines; `service` notifies the service manager.
//! Scope: thin layers over the operating system, the runtime and the libraries that parse units.
//! Never: know what a registry is.
//! Reading: sd_notify(3), getrlimit(2), statvfs(3).

mod address;
mod backoff;
mod changes;
mod cipher;
mod deadline;
mod flight;
mod hedge;
mod limits;
mod log;
mod os;
mod reserved;
mod secret;
pub mod service;
mod units;
mod watched;

pub use address::{network, reached_at};
pub use backoff::Backoff;
pub use changes::Changes;
pub use cipher::{crypto, has_aes};
pub use deadline::{Overdue, watched, within, within_since};
pub use flight::{Coalesced, Flights};
pub use hedge::asked_anew;
pub use limits::budget::Budget;
pub use limits::buffers::{BUFFERS, Buffers};
pub use limits::limit::{Count, Limit, Taken};
pub use limits::memory::memory_limit;
pub use limits::spare::Spare;
pub use log::chain::chain;
pub use log::request_id::{RequestId, RequestScope, carried, carried_over};
pub use log::seldom::Seldom;
pub use os::{FreeSpace, free_space, has_free_file, hostname, is_exhausted, open_file_limit, raise_file_limit};
pub use reserved::Reserved;
pub use secret::Secret;
pub use units::{Percent, Period, Size};
pub use watched::WatchedFile;

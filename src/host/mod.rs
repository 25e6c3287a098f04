//! Wraps the machine: its limits, files, ciphers and service manager, and the units that people write.
//!
//! Flow: every room above calls it directly. `units` parses sizes, times and percentages; `limits` divides files and
//! memory; `secret`, `mac`, `watched` and `changes` hold secrets and notice changed files; tasks/ runs background work, coalesces
//! equal requests and repeats a slow one; `backoff` and `deadline` pause and give up; `service` notifies the service manager.
//! Scope: thin layers over the operating system, the runtime and the libraries that parse units.
//! Never: know what a registry is.
//! Reading: sd_notify(3), getrlimit(2), statvfs(3).

mod address;
mod backoff;
mod chain;
mod changes;
mod cipher;
mod deadline;
mod limits;
mod log_throttle;
mod mac;
mod os;
mod reserved;
mod secret;
pub mod service;
mod tasks;
mod units;
mod watched;

pub use address::{network, own_addresses, reached_at};
pub use backoff::Backoff;
pub use chain::chain;
pub use changes::Changes;
pub use cipher::{crypto, has_aes};
pub use deadline::{Overdue, watched, within, within_since};
pub use limits::budget::Budget;
pub use limits::buffers::{BUFFERS, Buffers};
pub use limits::limit::{Count, Limit, Taken};
pub use limits::memory::memory_limit;
pub use limits::spare::Spare;
pub use log_throttle::LogThrottle;
pub use mac::MacKey;
pub use os::{FreeSpace, free_space, has_free_file, hostname, is_exhausted, open_file_limit, raise_file_limit};
pub use reserved::Reserved;
pub use secret::Secret;
pub use tasks::flight::{Coalesced, Flights};
pub use tasks::group::TaskGroup;
pub use tasks::hedge::asked_anew;
pub use tasks::request_id::{RequestId, RequestScope, carried, carried_over};
pub use units::{Percent, Period, Size};
pub use watched::WatchedFile;

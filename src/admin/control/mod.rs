//! The control socket: what changes the cache's content, for whoever owns the cache folder.
//!
//! Flow: a server that has the folder's lock opens `control.sock` in it ([`Control`]); a command finds it there
//! ([`ControlClient`]), sends an [`Order`](crate::cache::Order) as `POST /v1/cache/COMMAND` and reads what is told, a line
//! of JSON each. Where nobody answers, the command opens the folder itself.
//! Scope: HTTP/1.1 over a Unix socket. What the commands do is the cache's.
//! Never: listen where another user can connect: the socket's mode is 0600, and the peer's uid (SO_PEERCRED) must be
//! root's or the server's, since a mode does not hold on every file system.
//! Reading: unix(7), "SO_PEERCRED".

mod address;
mod answer;
mod client;
mod protocol;
mod socket;

pub use client::{ControlClient, ControlError};
pub use socket::{CannotOpen, Control};

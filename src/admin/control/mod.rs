//! Serves the control socket, on which the owner of the cache directory inspects and changes the cache.
//!
//! Flow: a server that holds the folder's lock opens `control.sock` in it ([`Control`]); a command finds it there
//! ([`ControlClient`]), sends an [`Order`](crate::cache::Order) as `POST /v1/cache/COMMAND` and reads the events, one
//! line of JSON each. If nobody answers, the command opens the folder itself.
//! Scope: HTTP/1.1 over a Unix socket. The cache carries out the commands.
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

//! The admin door: metrics for Prometheus, and nothing that changes state.
//!
//! Flow: a connection is HTTP/1.1; its Host is checked, its path answered.
//! Scope: read-only. What changes state goes over a socket in the cache folder that only the owner can open.
//! Never: answer a request whose Host is a name that somebody else's DNS may have pointed here: a web page
//! could read it then (DNS rebinding).
//! Reading: OpenMetrics 1.0.

mod door;

pub use door::serve;

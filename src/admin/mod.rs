//! What operators ask of a server: metrics by the admin door, and changes by the control socket.
//!
//! Flow: a connection is HTTP/1.1; its Host is checked, its path answered.
//! Scope: the TCP port is read-only. What changes state goes over a socket in the cache folder that only its owner
//! can use (`control`).
//! Never: answer a request whose Host is a name that somebody else's DNS may have pointed here: a web page
//! could read it then (DNS rebinding).
//! Reading: OpenMetrics 1.0.

pub mod control;
mod http;

pub use self::http::serve;

//! Serves operators: metrics on the admin port, and commands on the control socket.
//!
//! Flow: a connection is HTTP/1.1; its Host is checked and its path answered (`http`). Commands that change state go over
//! a socket in the cache directory that only its owner can use (`control`).
//! Scope: the TCP port is read-only.
//! Never: answer a request whose Host is a name that a foreign DNS zone may have pointed here: a web page could then read
//! the answer (DNS rebinding). The exceptions are the proxy's pages that are for everybody: `/healthz`, `/readyz`, `/ca.crt`.
//! Reading: OpenMetrics 1.0.

pub mod control;
mod http;

pub use self::http::serve;

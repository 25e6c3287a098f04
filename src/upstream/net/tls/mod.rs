//! TLS towards upstreams is always verified.
//!
//! Flow: `handshake` has the system's roots and what the configuration of a host adds; `verifier` judges the certificate that
//! is presented.
//! Scope: clients of upstreams. The TLS that clients of the proxy see belongs to `proxy::door`.
//! Never: an option that turns verification off; a certificate that is trusted at another host than its `ca_file` is for.
//! Reading: RFC 5280 (6), RFC 8446 (4.4), RFC 9525 (6).

pub(crate) mod handshake;
pub(crate) mod verifier;

pub(crate) use handshake::{Roots, WrongDate, handshake_failed, server_name};

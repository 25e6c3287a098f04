//! The parents: proxies that upstreams are reached through, in their order, by their health.
//!
//! Flow: `upstream.proxy` ([`ProxyConfig`]) becomes [`Parents`]; for a host they answer the hops to try ([`Hop`]), healthy
//! ones first. A [`Parent`] is dialled, over TLS where its URL says https, and asked for a tunnel by CONNECT (`tunnel`);
//! what stands behind its 200 is as good as a connection to the host. Each outcome is noted (`health`): a parent that cannot
//! be reached is skipped for a while; a host that it cannot reach says nothing of the parent itself.
//! Scope: up to the host's first byte. `egress` decides which host goes where.
//! Never: a user or a password in an error or a log; a name resolved that a parent resolves; `Proxy-Authorization`
//! to anybody but the parent that it is for.
//! Reading: RFC 9110 sections 7.6.3 (Via), 9.3.6 (CONNECT), 11.7.2 (Proxy-Authorization), RFC 9112 section 3.2.

pub(crate) mod config;
pub(crate) mod error;
pub(crate) mod health;
pub(crate) mod parents;
pub(crate) mod peer;
pub(crate) mod tunnel;

pub use config::{HopConfig, ParentConfig, ProxyConfig};
pub use error::{ParentError, Unreached};
pub(crate) use parents::{Hop, Parents};
pub(crate) use peer::Parent;

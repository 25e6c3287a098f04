//! Decides who may use the proxy and for what, and writes down what they did.
//!
//! Flow: credentials for the proxy itself are read from a header ([`Offer`]) and verified against an htpasswd file
//! ([`Logins`]), with `throttle` against guessing; what a client asks is read once (`clearance`) and judged by the
//! configured rules ([`Rules`]); each manifest pulled and each request refused becomes an audit line ([`Audit`]).
//! Passwords that this proxy judges in a registry's place are paced too (`guesses`). `shared_address` warns where
//! several machines come from one address.
//! Scope: people and machines on our side of the proxy. Who may read what at a registry is the registry's word and the
//! cache's grants.
//! Never: a password in a log, an error or memory longer than needed; a hash computed on the network task; an audit
//! line lost without being counted and reported.
//! Reading: RFC 7617 (Basic), RFC 9110 section 11.7 (Proxy-Authorization), htpasswd(1).

pub(crate) mod audit;
pub(crate) mod clearance;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod guesses;
pub(crate) mod htpasswd;
pub(crate) mod offer;
pub(crate) mod password;
pub(crate) mod refused;
pub(crate) mod rule_config;
pub(crate) mod rules;
pub(crate) mod shared_address;
pub(crate) mod throttle;

pub use audit::error::AuditError;
pub use audit::line::{AuditLine, AuditOutcome};
pub use audit::log::Audit;
pub use client::{Client, Clients};
pub(crate) use guesses::{Guess, Guesses};
pub use htpasswd::{BadLine, Users};
pub use offer::{BadOffer, Offer};
pub use password::{Admission, LoginError, Logins};
pub use rule_config::{Action, AuditConfig, Effect, RuleConfig};
pub use rules::{Intent, Judgement, Named, Rules};

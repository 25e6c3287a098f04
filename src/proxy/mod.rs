//! Doors and requests: what comes in is told apart, judged, and answered.
//!
//! Flow: [`Proxy::serve`] takes a connection; its first bytes say TLS, HTTP/1.1 or HTTP/2 (`connection`, `http`), and how much its client may have is `limit`'s. A
//! CONNECT is judged (`verdict`) and refused, tunnelled (`tunnel`) or intercepted: TLS is taken off with a
//! leaf of the local CA (`intercept`), and each request inside is routed (`request`) to a pull (`pull`, which
//! joins the cache with upstream requests, `ask`), or passed on untouched (`forward`). Who asks is told by
//! `identity` (a bearer by the credential that obtained it, `bearers`), and `access` sends a request in a name:
//! the caller's, nobody's, or that of credentials that the proxy holds. Facts become answers
//! in `respond`; `content` sends bytes; `record` writes the access line. Requests for the proxy itself are
//! `own`.
//! Scope: everything that a client sees. Configuration may change under it at any time ([`Policy`]).
//! Never: serve a host other than the one that CONNECT named; send one host's credentials to another.
//! Reading: RFC 9110 sections 7.6 and 9.3.6 (CONNECT), RFC 9112 section 3.2 (request target).

mod access;
mod answer;
mod ask;
mod bearers;
mod clients_config;
mod config;
mod connect;
mod connection;
mod content;
mod errand;
mod faults;
mod first_bytes;
mod forward;
#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/targets/proxy/mod.rs"]
pub(crate) mod fuzzing;
mod gateway;
mod guesses;
mod guests;
mod hello;
mod http;
mod identity;
mod intercept;
mod legs;
mod lent;
mod limit;
mod listen_config;
mod listing;
mod lobby;
mod outages;
mod own;
mod ping;
mod policy;
mod pull;
mod push;
mod realm;
mod record;
mod refused;
mod registry;
mod request;
mod respond;
mod said;
mod site;
mod source;
mod state;
mod tunnel;
mod verdict;
mod verified;
mod who;
mod wish;

pub use access::Access;
pub use clients_config::ClientsConfig;
pub use config::{Auth, Prefetch, Push, RegistryConfig, RegistrySettings, TunnelConfig, TunnelDefault};
pub use guests::{
    Action, Admission, Audit, AuditConfig, AuditError, AuditLine, AuditOutcome, BadLocalToken, BadOffer, Effect,
    Errand, Flaw, Holder, House, Judgement, KeyError, LOCAL_TOKEN_LIFE, LOCAL_TOKEN_PATH, LocalTokens, LoginError,
    Logins, Named, Offer, RuleConfig, Rules, Users, Visitor,
};
pub use limit::Limits;
pub use listen_config::ListenConfig;
pub use policy::Policy;
pub use registry::{BadRegistry, Registry, Whose};
pub use state::Proxy;
pub use verdict::{Refusal, Verdict};

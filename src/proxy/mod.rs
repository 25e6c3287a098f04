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

mod answer;
mod auth;
mod clients;
mod context;
mod door;
mod faults;
mod forward;
#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/targets/proxy/mod.rs"]
pub(crate) mod fuzzing;
mod limit;
mod policy;
mod pull;
mod record;
mod registry;
mod respond;
mod served;
mod state;
mod tokens;
mod v2;

pub use crate::upstream::Authenticated;
pub use clients::config::ClientsConfig;
pub use clients::{
    Action, Admission, Audit, AuditConfig, AuditError, AuditLine, AuditOutcome, BadLine, BadOffer, Client, Clients,
    Effect, Intent, Judgement, LoginError, Logins, Named, Offer, RuleConfig, Rules, Users,
};
pub use door::config::ListenConfig;
pub use limit::Limits;
pub use policy::Policy;
pub use registry::config::{Auth, Prefetch, Push, RegistryConfig, RegistrySettings, TunnelConfig, TunnelDefault};
pub use registry::registry::{BadRegistry, Registry, Whose};
pub use registry::verdict::{Refusal, Verdict};
pub use state::Proxy;
pub use tokens::local::{BadLocalToken, Holder, KeyError, LOCAL_TOKEN_LIFE, LOCAL_TOKEN_PATH, LocalTokens};

//! Serves clients: takes their connections, judges what they ask, and answers it.
//!
//! Flow: [`Proxy::serve`] takes a connection (`door`), whose share of the process `limit` bounds. A CONNECT is refused,
//! tunnelled, or intercepted with a leaf of the local CA. Each request inside an intercepted connection goes to
//! `v2`, which checks its form, has the rules judge it (`clients`), and sends it on: to a pull (`pull`, where cache
//! and upstream meet), to the answers about credentials (`auth`: ping, tokens, logins), or upstream as it is
//! (`forward`). A `Context` is the registry as one request sees it; `Policy` is what the configuration says now.
//! A request that names a registry in another way than by its host is resolved by `naming` and made one to that host by
//! `mirror`.
//! What comes back is a `Served`, which stays facts until it is rendered at the end; `respond` and `faults` have the
//! proxy's own words, `record` writes the access line.
//! Scope: everything that a client sees. Imports run door, mirror, v2, pull and auth, context, state, policy, clients, naming,
//! tokens, registry; respond, record and limit lie below.
//! Never: serve a host other than the one that CONNECT named; send one host's credentials to another.
//! Reading: RFC 9110 sections 7.6 and 9.3.6 (CONNECT), RFC 9112 section 3.2 (request target).

mod answer;
mod asked;
mod auth;
mod clients;
mod context;
mod door;
mod faults;
mod forward;
#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/targets/proxy/mod.rs"]
pub(crate) mod fuzzing;
mod labels;
mod limit;
mod mirror;
mod naming;
mod policy;
mod pull;
mod record;
mod registry;
mod respond;
mod served;
mod site;
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
pub use naming::config::{MirrorConfig, MirrorMember, MirrorMembers, MirrorTls};
pub use naming::name::{MirrorName, MirrorTarget};
pub use naming::names::{MirrorNames, UnknownMeaning};
pub use policy::{Mirror, Policy};
pub use registry::config::{Auth, Prefetch, Push, RegistryConfig, RegistrySettings, TunnelConfig, TunnelDefault};
pub use registry::registry::{BadRegistry, Registry, Whose};
pub use registry::verdict::{Refusal, Verdict};
pub use site::{Arrival, Door};
pub use state::Proxy;
pub use tokens::local::{BadLocalToken, Holder, KeyError, LOCAL_TOKEN_LIFE, LOCAL_TOKEN_PATH, LocalTokens};

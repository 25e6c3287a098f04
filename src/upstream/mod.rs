//! The way to real registries: endpoints, addresses that may be dialled, verified TLS, redirects.
//!
//! Flow: a request for an [`Endpoint`] takes the way that the configuration has for it (an `address`, a CA
//! file, a client certificate), over a pooled connection or a new one: resolve, judge every address by the
//! [`Rules`], dial the judged ones in a race, TLS, HTTP. [`Upstream::send`] is one exchange,
//! [`Upstream::fetch`] follows redirects, [`Upstream::dial`] is a tunnel's raw connection. What is sent on behalf
//! of one registry makes up its [`Outage`]; while that is open, only a probe asks.
//! Scope: everything between "this endpoint" and bytes. It knows nothing of caches, tags or grants.
//! Never: an address that was not judged; TLS that is not verified; plain HTTP that the configuration does not name, and
//! credentials over it (`plain`); credentials on a redirect to another host; our own environment's proxy variables; a query string in an error or a log.
//! Reading: RFC 8305 (Happy Eyeballs), RFC 6890 (special-purpose addresses), RFC 6052 and 8215 (NAT64),
//! RFC 9110 section 15.4 (redirection), RFC 3986 section 5 (relative references).

mod address;
mod answers;
mod bandwidth;
mod bound;
mod client;
mod config;
mod credentials;
mod dial;
mod downloads;
mod endpoint;
mod error;
mod exchange;
mod family;
mod fit;
mod forwarded;
#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/targets/upstream.rs"]
pub(crate) mod fuzzing;
mod health;
mod idle;
mod interim;
mod line;
mod link;
mod location;
mod names;
mod outage;
mod parent;
mod plain;
mod quota;
mod reach;
mod redirect;
mod resolver;
mod roads;
mod rules;
mod sign;
mod sockets;
mod target;
mod tls;
mod token;
mod upload;
mod way;

pub use address::Kind;
pub use answers::{answers_held, collect};
pub use client::Upstream;
pub use config::{Config, Several};
pub use credentials::{Credential, CredentialConfig, CredentialError, Held, Keyring, Picked};
pub use dial::exhaustions;
pub use downloads::{Downloads, downloads_used};
pub use endpoint::{BadEndpoint, Endpoint};
pub use error::{Error, Retry, Side};
pub use family::Family;
pub use line::Line;
pub use names::NameKind;
pub use outage::Outage;
pub use parent::{HopConfig, ParentConfig, ParentError, ProxyConfig};
pub use quota::{LONGEST_WAIT, Quota, Quotas, Stretch, retry_after, wait_out};
pub use reach::{EndpointConfig, HostConfig};
pub use redirect::FinalHop;
pub use resolver::{BadNameserver, Nameserver, ResolveError};
pub use rules::{Forbidden, Rules, Why};
pub use sockets::{sockets_refused, sockets_used};
pub use target::{BadTarget, Target};
pub use token::{NoRandom, Realm, TokenAsk, TokenError, Tokens};

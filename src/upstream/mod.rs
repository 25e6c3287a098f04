//! Reaches real registries: endpoints, addresses that may be dialled, verified TLS, redirects.
//!
//! Flow: a request for an [`Endpoint`] goes over the pool that the configuration gives it (an `address`, a CA file, a client
//! certificate; `http`), on a pooled connection or a new one (`net`): resolve, judge every address by the [`AddressRules`],
//! dial the judged ones in a race, TLS, HTTP. [`Upstream::send`] is one exchange, [`Upstream::fetch`] follows redirects,
//! [`Upstream::dial`] is a tunnel's raw connection. [`Authenticated`] sends in a name (`auth`), with `credentials` where the
//! proxy holds some. What is sent on behalf of one registry makes up its [`Outage`]; while that is open, only a probe asks.
//! Scope: everything between "this endpoint" and bytes. It knows nothing of caches, tags or grants.
//! Never: an address that was not judged; TLS that is not verified; plain HTTP that the configuration does not name, or
//! credentials over it; credentials on a redirect to another host; our own environment's proxy variables; a query string in
//! an error or a log.
//! Reading: RFC 8305 (Happy Eyeballs), RFC 6890 (special-purpose addresses), RFC 6052 and 8215 (NAT64),
//! RFC 9110 section 15.4 (redirection), RFC 3986 section 5 (relative references).

mod auth;
mod client;
mod config;
mod credentials;
mod endpoint;
mod error;
#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/targets/upstream.rs"]
pub(crate) mod fuzzing;
mod heads;
mod http;
mod net;
mod outage;
mod reach;
mod reason;
mod recheck;
mod side;

pub use self::http::answers::{AnswerRoom, answer_room, answers_held, collect};
pub(crate) use self::http::location::led_to;
pub(crate) use self::http::plain::is_told_by_authorization;
pub use self::http::redirect::FinalHop;
pub(crate) use self::http::redirect::LedTo;
pub use self::http::sending::expect::{expects, waiting};
pub(crate) use auth::ask_as::AskAs;
pub(crate) use auth::ask_error::AskError;
pub use auth::authenticated::Authenticated;
pub(crate) use auth::authenticated::is_foreign;
pub(crate) use auth::challenge::{challenges, wants_a_token};
pub(crate) use auth::quota::mend_retry_after;
pub use auth::quota::{LONGEST_WAIT, Quota, Quotas, Stretch, retry_after, wait_out};
pub(crate) use auth::sending::Sending;
pub(crate) use auth::token::TokenDocument;
pub use auth::token::{NoTokenKey, Realm, TokenAsk, TokenError, Tokens};
pub use client::{AskedOf, Upstream};
pub use config::{Config, Several};
pub use credentials::{Credential, CredentialConfig, CredentialError, Held, Keyring, Picked};
pub(crate) use credentials::{DockerConfig, Lead};
pub use endpoint::{BadEndpoint, Endpoint};
pub use error::Error;
pub(crate) use heads::HeadKind;
pub use net::address::AddressKind;
pub use net::dial::exhaustions;
pub use net::downloads::{Downloads, downloads_used};
pub use net::ends::is_own_connection;
pub use net::family::Family;
pub use net::names::NameKind;
pub use net::parent::{HopConfig, ParentConfig, ParentError, ProxyConfig, Unreached};
pub use net::resolver::{BadNameserver, Nameserver, ResolveError};
pub use net::rules::{AddressRules, Forbidden, Why};
pub use net::sockets::{sockets_refused, sockets_used};
pub use net::stream::EgressStream;
pub use net::target::{BadTarget, Target};
pub use outage::{Outage, OutageSeen};
pub use reach::{EndpointConfig, HostConfig};
pub use reason::FailureReason;
pub use side::{RetryAdvice, Side};

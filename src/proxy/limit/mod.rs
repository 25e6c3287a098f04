//! Bounds how much of this process one client may have at a time, and all clients together.
//!
//! Flow: a connection takes a [permit](limiter::ConnectionPermit) when it is accepted ([`Limiter::enter`]) and keeps
//! it until its socket is closed; beyond the limit it is served for a moment by `door::overload` ([`Limiter::wait`]), where only requests
//! for the proxy itself are answered. Where few permits are left, idle connections of the client with the most are
//! asked to end. Each request is a [`Stream`] from its head until the last byte of its answer has left this process:
//! [`Stream::admit`] checks the limits once, and [`Outgoing`] counts the answer's bytes on their way out. A tunnel
//! is a stream, too. The [`sweep`](sweep) ends a stream of HTTP/2 whose client takes nothing of it; the system ends
//! a connection whose peer takes nothing (`TCP_USER_TIMEOUT`).
//! Scope: counting, refusing and giving up. `respond` decides what a refusal looks like.
//! Never: refuse what is under way; hold back health, readiness, metrics, the CA's certificate or the control socket.
//! Reading: RFC 6585 section 4 (429), RFC 9113 section 5.2 (flow control), tcp(7).

mod bounded;
pub(crate) mod connection;
mod exceeded;
pub(crate) mod limiter;
mod outgoing;
mod settings;
mod stream;
mod sweep;
mod totals;
mod traffic;
pub(crate) mod usage;
mod waiting;

pub(crate) use bounded::Bounded;
pub(crate) use connection::{Connection, ConnectionOrder, Tasks};
pub(crate) use exceeded::Exceeded;
pub(crate) use limiter::Limiter;
pub(crate) use outgoing::Outgoing;
pub use settings::Limits;
pub(crate) use stream::Stream;
pub(crate) use sweep::keep_sweeping;
pub(crate) use usage::{Tunnel, Usage};

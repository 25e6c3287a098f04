//! How much of this process one client may have at a time, and all of them.
//!
//! Flow: a connection takes a [`ConnectionPermit`](limiter::ConnectionPermit) when it is accepted ([`Limiter::enter`]) and keeps it until its socket is
//! closed; beyond the limit it gets one in the lobby ([`Limiter::wait`]), where only questions to the proxy itself are answered.
//! Where few places are left, idle connections of whoever has most are asked to end. Each
//! request is a [`Stream`] from its head until the last byte of its answer has left this process: what it may is asked
//! once ([`Stream::admit`]), and its answer's bytes are counted on their way out ([`Outgoing`]). A tunnel is a stream,
//! too. A stream of HTTP/2 whose client takes nothing of it is ended by the [`sweep`](sweep); a connection whose peer
//! takes nothing is ended by the system (`TCP_USER_TIMEOUT`, set where it is accepted).
//! Scope: counting, refusing and giving up. What a refusal becomes is `respond`'s.
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
pub(crate) use usage::Usage;

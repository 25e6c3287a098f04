//! Implements the parts of HTTP that both sides of the proxy need: bodies, headers, ranges, framing, streams.
//!
//! Scope: HTTP messages, and the streams of bytes below them, without knowledge of registries or of the cache.
//! Never: holds a whole body in memory, unless a caller sets a limit.
//! Reading: RFC 9112 sections 3 (Request Line) and 6 (Message Body); RFC 9110 sections 7.6.1 (Connection), 7.6.3 (Via),
//! 14 (Range Requests).

mod body;
mod client_socket;
mod coalesce;
mod ended;
mod form;
mod framing;
mod guarded;
mod header;
mod metered;
mod multipart;
mod noted;
mod proxy_header;
mod range;
mod received;
mod rewind;

pub use body::{Body, BodyError, TooLong, TooSlow, collect, collect_within};
pub use client_socket::ClientSocket;
pub use coalesce::Coalesce;
pub use ended::Ended;
pub use form::{FIELDS, Malformed, ends_here, has_long_field, malformed};
pub use framing::{data_only, frame, is_unexpected};
pub use guarded::Guarded;
pub use header::{Pseudonym, end_to_end, via, without_overrides};
pub use metered::Metered;
pub use multipart::Multipart;
pub use noted::Noted;
#[cfg(any(test, fuzzing))]
pub(crate) use proxy_header::parse_header;
pub use proxy_header::{SpokenFor, read_header};
pub use range::{Asked, RangeSpec, Span};
pub use received::{Received, Takes};
pub use rewind::Rewind;

//! What both sides of the proxy say on the wire: bodies, hop-by-hop headers, ranges, bytes read ahead,
//! frames gathered, bytes that wait for clients counted.
//!
//! Scope: HTTP as messages, without knowing who is asked for what.
//! Never: hold a whole body in memory, except where a caller names a limit.
//! Reading: RFC 9110 sections 7.6.1 (Connection), 7.6.3 (Via), 14 (Range Requests).

mod body;
mod bounded;
mod buffers;
mod framing;
mod gather;
mod guarded;
mod header;
mod multipart;
mod range;
mod rewind;

pub use body::{Body, BodyError, TooLong, TooSlow, collect, collect_within};
pub use bounded::Bounded;
pub use buffers::{BUFFERS, Buffers};
pub use framing::{frame, is_unexpected};
pub use gather::Gather;
pub use guarded::Guarded;
pub use header::{Pseudonym, end_to_end, has_one_host, via, without_overrides};
pub use multipart::Multipart;
pub use range::{Asked, Part, Span};
pub use rewind::Rewind;

//! Knows tokens: those that token services issued through us, and our own.
//!
//! Flow: a request for a token is read once (`request`); `bearers` remembers which credential obtained which bearer;
//! `local` mints and validates tokens of our own, for while a registry's token service is away.
//! Scope: values and tables. Nothing here sends a request or knows a connection.
//! Never: keep a token or a password; what is kept is MACs under a key that dies with the process.
//! Reading: distribution-spec, "Token Request" and "Token Response"; RFC 6749 section 6.

pub(crate) mod bearers;
pub(crate) mod local;
pub(crate) mod request;

//! Challenges to authenticate: parsed from the headers of registries, and printed for clients.
//!
//! Flow: [`header`] splits a header into schemes and parameters, which become a [`challenge::Challenge`]; a token service's
//! is a [`bearer::Bearer`].
//! Scope: the texts. Which challenge is answered, and by what, is decided by the rooms above.
//! Never: believe what stands behind a break of the grammar; print a value that could end its header.
//! Reading: RFC 9110, 11.6.1; RFC 6750, 3; distribution-spec, "Token Authentication".

pub(crate) mod bearer;
pub(crate) mod challenge;
pub(crate) mod header;

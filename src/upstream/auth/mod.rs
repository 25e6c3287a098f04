//! This room sends requests in a name: the caller's, nobody's, or that of credentials that the proxy holds.
//!
//! Flow: `ask_as` names in whose name a registry is asked. `authenticated` has the request sent (`sending`), answers a 401 once with a
//! token (`token`) or a password (`challenge`), and remembers the challenge for the next request. A registry behind a redirect is
//! asked with the token that it gives to anybody. A 429 moves the load to the next held
//! credential, else it is waited out for a moment; `quota` keeps what registries say about their pull limits.
//! Scope: from a name to an answer. Which name is used, and who may read what it brings, is decided by the proxy and the cache.
//! Never: a held credential to a realm that is neither the registry's host nor listed; a credential by a challenge that a
//! redirect's host sent; a second try after a second 401.
//! Reading: distribution-spec "Token Authentication", RFC 9110 (10.2.3, 11), RFC 6750.

pub(crate) mod ask_as;
pub(crate) mod ask_error;
pub(crate) mod authenticated;
pub(crate) mod challenge;
pub(crate) mod quota;
pub(crate) mod sending;
pub(crate) mod token;

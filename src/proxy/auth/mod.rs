//! Answers what a client asks about credentials, and tells whose each request is.
//!
//! Flow: `identity` tells the principal of a request and in whose name the registry is asked. A ping is answered by the
//! registry or by us (`ping`; `own_word` tells a registry's 200 from a page). A request for a token goes to the
//! registry's own service, whose answer is remembered (`token_relay`), or to the proxy's (`token_service`), to which
//! `challenge` sends clients while the registry is away or the proxy holds credentials. `login` has the registry
//! verify a client's own credentials, and `guesses` paces passwords that this proxy answers for.
//! Scope: rights are the registry's word and the cache's grants; a local token is a claim that they judge.
//! Never: give out a 200 to a ping that the registry did not give to nobody; let a password go where no TLS is.
//! Reading: distribution-spec, "Token Authentication"; RFC 6749 sections 4.3.2 and 6; RFC 6750.

pub(crate) mod challenge;
pub(crate) mod guesses;
pub(crate) mod identity;
pub(crate) mod login;
pub(crate) mod own_word;
pub(crate) mod ping;
pub(crate) mod token_relay;
pub(crate) mod token_service;

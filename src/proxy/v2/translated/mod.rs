//! Translates a registry's answers for a mirror's client, who knows the mirror alone.
//!
//! Flow: `answer` takes what is about to leave: a 401 gets our own challenge, and headers that speak for the registry's host as a
//! whole are left out. `place` finds out where a reference of an answer leads; `links` and `answer` print it as the client's
//! own URL. `upload` seals the URL of an upload that has no name in the protocol, and opens it when the client comes back.
//! Scope: heads of answers at a mirror. Bodies, errors included, pass as they are, but for the name in a list of tags (`listed`).
//! Never: send a mirror's client to a registry, its token service or a CDN, except to upload where the registry itself says so;
//! ask a registry for a path that it did not give out.
//! Reading: RFC 9110 (10.2.2, 11.6.1), RFC 8288 (3), distribution-spec "Pushing a blob in chunks" and "Listing Tags".

pub(crate) mod answer;
pub(crate) mod links;
pub(crate) mod listed;
pub(crate) mod place;
pub(crate) mod upload;

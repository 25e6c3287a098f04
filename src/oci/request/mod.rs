//! Parses the path, the query and the `Accept` of a request, so that no server can read another request in them.
//!
//! Flow: a path becomes a [`route::Route`]: an endpoint of the distribution-spec, or any other path in canonical form
//! ([`path::PlainPath`]). A query or a form becomes a [`query::Query`]. Both decode escapes with `percent`, and print the
//! one spelling that is sent upstream. An `Accept` header becomes a class and the types beyond it (`accept`).
//! Scope: pure values. Whether a client may send the request is decided in the proxy.
//! Never: guess. Text that two servers could read in two ways is an error.
//! Reading: OCI distribution-spec v1.1, "Endpoints"; RFC 3986, sections 2.1 and 6.2.2; the URL Standard on
//! application/x-www-form-urlencoded.

pub(crate) mod accept;
pub(crate) mod path;
pub(crate) mod percent;
pub(crate) mod query;
pub(crate) mod route;

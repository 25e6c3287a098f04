//! Answers one request of the registry protocol inside an intercepted connection.
//!
//! Flow: `dispatch` checks form and host, has `clients::clearance` read and judge the request, and routes it: to
//! `auth`, to a push (`push`, which reads the request by `upload`), to a listing (`lists`, by `listing`), or upstream as it
//! is. What may be cached is read
//! through `read`, which answers again from the cache if the registry is found to be away meanwhile. `endpoint` says where
//! a request goes that is not pulled. What a mirror's client gets is `translated` at the end.
//! Scope: requests to registries and their token services, whatever their method.
//! Never: forward a request that servers could read in two ways; print upstream what the rules did not judge.
//! Reading: OCI distribution-spec, "Endpoints"; RFC 9110 section 15.5.20 (421).

pub(crate) mod detours;
pub(crate) mod dispatch;
pub(crate) mod endpoint;
pub(crate) mod listing;
pub(crate) mod lists;
pub(crate) mod push;
pub(crate) mod read;
pub(crate) mod reader;
pub(crate) mod translated;
pub(crate) mod upload;

//! Answers requests that name a registry in another way than by its host: the mirror's, on any port.
//!
//! Flow: `answer` has the naming resolve the request, makes of it the request that the registry itself would get (`inner`),
//! and hands that to `v2` with its site. Several registries behind one name are asked in order (`group`).
//! Scope: from the client's names to the registry's. What comes back is translated behind the site, where it is made.
//! Never: ask a registry that the configuration does not have; send the mirror's own passwords upstream; ask the next
//! registry of a group because the one before it is unreachable.
//! Reading: distribution-spec, "Registry Proxying".

pub(crate) mod answer;
pub(crate) mod catalog;
pub(crate) mod group;
pub(crate) mod inner;

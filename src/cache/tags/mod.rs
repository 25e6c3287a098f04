//! Finds what tags mean, and remembers it.
//!
//! Flow: [`Tags`](tags::Tags) takes a [`TagQuestion`](tags::TagQuestion) and looks at the last known answers (`memory`). One that is
//! fresh is served to readers that may have it. Else the registry is asked (`answer`), by HEAD where that is enough, and what
//! it says is learned: the tag, the caller's right, and the manifest where it came along. Where the registry is silent, the
//! last known answer stands in.
//! Writes of tags that pass through are known while they are under way (`writes`): an answer from before one is not learned.
//! Scope: from a tag to a digest. The manifest of that digest is found by manifests/.
//! Never: share an answer between classes of Accept while the registry can be asked; keep what is no manifest.
//! Reading: RFC 9111 sections 4.2 (freshness) and 4.3 (validation); distribution-spec, "Pulling manifests".

pub(crate) mod answer;
pub(crate) mod freshness;
pub(crate) mod memory;
pub(crate) mod tags;
pub(crate) mod writes;

//! Finds manifests by digest, and keeps them.
//!
//! Flow: [`Manifests`](manifests::Manifests) serves what is kept ([`ManifestStore`](store::ManifestStore): hot ones in memory,
//! all of them on disk) to readers that may have it. Else the caller's right is proven by HEAD, or by the GET that fetches
//! the whole manifest, once for each registry however many ask. `whole` tells by the bytes what came.
//! Scope: manifests and indexes, of at most 16 MiB. Blobs stream and are fills.
//! Never: keep bytes that do not match their digest, or that are no manifest; serve a manifest that was not verified, except
//! a signed schema 1, which the client verifies.
//! Reading: distribution-spec, "Pulling manifests"; OCI image-spec, "Image Manifest" and "Image Index".

pub(crate) mod manifests;
pub(crate) mod store;
pub(crate) mod whole;

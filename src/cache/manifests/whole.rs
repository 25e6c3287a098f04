//! Tells what a manifest is by its bytes, and what is none.

use crate::cache::source::{Fault, Retry, Whole};
use crate::oci::{Digest, Listing, MediaType};

/// The answer is no manifest, but a page of a server that answers everything with 200.
#[derive(Debug, thiserror::Error)]
#[error("the upstream answered with something that is no manifest ({0})")]
pub(crate) struct NoManifest(String);

impl NoManifest {
    /// As a failure: the registry itself has not spoken, so nothing is said of the manifest.
    pub(crate) fn fault(media_type: Option<&str>) -> Fault {
        Fault::new(Retry::Again, Self(media_type.unwrap_or("without a type").to_owned()))
    }
}

/// The bytes do not match their digest.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's manifest has the digest {found}, not {wanted}")]
pub(crate) struct WrongManifest {
    pub(crate) wanted: Digest,
    pub(crate) found: Digest,
}

impl Whole {
    /// With the type that the bytes say, where the registry said none or none that manifests have (`text/plain`).
    pub(crate) fn typed(self) -> Self {
        let is_said = self.media_type.as_deref().is_some_and(|said| MediaType::parse(said).is_some());
        let own = if is_said { None } else { Listing::of(&self.bytes).media_type };
        Self { media_type: own.map(|own| own.as_str().to_owned()).or(self.media_type), ..self }
    }

    /// Signed schema 1 has a digest that is not that of its bytes: it is left to the registry and the client.
    pub(crate) fn is_schema1(&self) -> bool {
        is_schema1(self.media_type.as_deref()) || Listing::of(&self.bytes).media_type.is_some_and(MediaType::is_schema1)
    }
}

/// What the bytes themselves say, for registries that send no `Content-Type`.
pub(crate) fn media_type_of(bytes: &[u8]) -> String {
    Listing::of(bytes).media_type.map_or("application/json", MediaType::as_str).to_owned()
}

/// Whether the registry says that it is schema 1.
pub(crate) fn is_schema1(media_type: Option<&str>) -> bool {
    media_type.and_then(MediaType::parse).is_some_and(MediaType::is_schema1)
}

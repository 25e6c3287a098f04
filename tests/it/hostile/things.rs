//! What a cell's registry holds: contents that no other cell has, so that nothing is shared between cells.

use pullthrough::oci::{Algorithm, Digest};
use serde_json::json;

use crate::support::MANIFEST;

/// The one repository.
pub(super) const REPOSITORY: &str = "team/app";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const LENGTH: usize = 40_000;

/// Bytes under their digest.
#[derive(Clone, Debug)]
pub(super) struct Thing {
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
}

/// The contents of one registry.
#[derive(Clone, Debug)]
pub(super) struct Things {
    /// The manifest of the tag `new`, and its layer: nobody has pulled them before.
    pub(super) manifest: Thing,
    pub(super) layer: Thing,
    /// The manifest of the tag `kept`, and its layer: their owner has pulled them, with credentials.
    pub(super) kept: Thing,
    pub(super) kept_layer: Thing,
}

impl Thing {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { digest: Digest::of(Algorithm::Sha256, &bytes), bytes }
    }
}

impl Things {
    pub(super) fn of(name: &str) -> Self {
        let layer = |seed: &str| Thing::of(format!("{name} {seed} ").bytes().cycle().take(LENGTH).collect());
        let manifest = |layer: &Thing| {
            let described = json!({"mediaType": LAYER, "digest": layer.digest.to_string(), "size": LENGTH});
            let text = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": [described]});
            Thing::of(text.to_string().into_bytes())
        };
        let (new, kept) = (layer("new"), layer("kept"));
        Self { manifest: manifest(&new), layer: new, kept: manifest(&kept), kept_layer: kept }
    }

    pub(super) fn all(&self) -> [&Thing; 4] {
        [&self.manifest, &self.layer, &self.kept, &self.kept_layer]
    }

    /// What is under `/v2/REPOSITORY/NOUN/REFERENCE`.
    pub(super) fn find(&self, noun: &str, reference: &str) -> Option<&Thing> {
        let (manifests, layers) = ([&self.manifest, &self.kept], [&self.layer, &self.kept_layer]);
        match (noun, reference) {
            ("manifests", "new") => Some(&self.manifest),
            ("manifests", "kept") => Some(&self.kept),
            ("manifests", digest) => manifests.into_iter().find(|thing| thing.digest.to_string() == digest),
            ("blobs", digest) => layers.into_iter().find(|thing| thing.digest.to_string() == digest),
            _ => None,
        }
    }
}

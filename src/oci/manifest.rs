//! Reads the digests that a manifest lists from its bytes, which are never changed.

use serde::Deserialize;

use super::{Digest, MediaType, document};

/// The largest accepted manifest, in bytes. containerd refuses more than 4 MiB and the specification
/// asks registries to take that much; ggcr takes 100 MiB, but nobody is known to make such.
pub const MANIFEST_LIMIT: usize = 16 << 20;

/// The digests that a manifest or an index lists, and its own media type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// `mediaType`, or what `schemaVersion` and the shape imply. `None`: not a manifest of a known shape.
    pub media_type: Option<MediaType>,
    /// In an index: the manifests for its platforms.
    pub manifests: Vec<Digest>,
    /// In a manifest: the configuration and the layers, in order.
    pub blobs: Vec<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    blobs: Option<Vec<Descriptor>>,
    signatures: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
}

impl Listing {
    /// Reads a manifest. Bytes that are not a manifest list nothing; a digest that cannot be verified is left out.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let Some(raw) = document::<Raw>(bytes) else { return Self::default() };
        let media_type = raw.shape();
        let known =
            |list: Option<Vec<Descriptor>>| list.unwrap_or_default().into_iter().filter_map(|d| d.digest.parse().ok());
        Self {
            media_type,
            manifests: known(raw.manifests).collect(),
            blobs: raw
                .config
                .into_iter()
                .filter_map(|d| d.digest.parse().ok())
                .chain(known(raw.layers))
                .chain(known(raw.blobs))
                .collect(),
        }
    }
}

/// The type of a manifest that the cache may keep: one of a known shape. An answer of a gateway has none, and schema 1 is
/// excluded, since its digest is not that of its bytes.
#[must_use]
pub fn kept_type(bytes: &[u8]) -> Option<MediaType> {
    Listing::of(bytes).media_type.filter(|media_type| !media_type.is_schema1())
}

impl Raw {
    /// The type that it states, if its shape matches; without one, the type that its shape implies. OCI manifests may omit
    /// `mediaType` (image-spec 1.0).
    fn shape(&self) -> Option<MediaType> {
        let said = self.media_type.as_deref().and_then(MediaType::parse);
        let has_shape = |media_type: &MediaType| match media_type {
            MediaType::OciIndex | MediaType::DockerList => self.schema_version == Some(2) && self.manifests.is_some(),
            MediaType::OciManifest | MediaType::DockerManifest => {
                self.schema_version == Some(2) && self.layers.is_some()
            }
            // It requires neither a version nor blobs, but its type.
            MediaType::OciArtifact => self.layers.is_none() && self.manifests.is_none(),
            MediaType::DockerSchema1 | MediaType::DockerSchema1Signed => self.schema_version == Some(1),
        };
        match said {
            Some(said) => Some(said).filter(has_shape),
            None => self.implied(),
        }
    }

    fn implied(&self) -> Option<MediaType> {
        match self.schema_version {
            Some(1) if self.signatures.is_some() => Some(MediaType::DockerSchema1Signed),
            Some(1) => Some(MediaType::DockerSchema1),
            Some(2) if self.manifests.is_some() => Some(MediaType::OciIndex),
            Some(2) if self.layers.is_some() => Some(MediaType::OciManifest),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn a_manifest_lists_its_configuration_and_layers() {
        let (config, layer) = (Digest::of(Algorithm::Sha256, b"c"), Digest::of(Algorithm::Sha256, b"l"));
        let json = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{config}"}},"layers":[{{"digest":"{layer}"}},{{"digest":"md5:0"}}]}}"#
        );
        let listing = Listing::of(json.as_bytes());
        assert_eq!(
            listing,
            Listing { media_type: Some(MediaType::OciManifest), manifests: vec![], blobs: vec![config, layer] }
        );
    }

    #[test]
    fn an_index_lists_manifests() {
        let one = Digest::of(Algorithm::Sha256, b"1");
        let json = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"digest":"{one}"}}]}}"#,
            MediaType::DockerList.as_str()
        );
        let listing = Listing::of(json.as_bytes());
        assert_eq!((listing.media_type, listing.manifests), (Some(MediaType::DockerList), vec![one]));
    }

    #[test]
    fn signed_schema_1_is_recognised() {
        let json = br#"{"schemaVersion":1,"name":"a","signatures":[{}]}"#;
        assert_eq!(Listing::of(json).media_type, Some(MediaType::DockerSchema1Signed));
    }

    #[test]
    fn only_what_has_the_shape_of_a_manifest_is_kept() {
        let typed = |media_type: MediaType, rest: &str| format!(r#"{{"mediaType":"{}"{rest}}}"#, media_type.as_str());
        let table = [
            (r#"{"schemaVersion":2,"layers":[]}"#.to_owned(), Some(MediaType::OciManifest)),
            (r#"{"schemaVersion":2,"manifests":[]}"#.to_owned(), Some(MediaType::OciIndex)),
            (
                r#"{"schemaVersion":2,"mediaType":"application/x-new","layers":[]}"#.to_owned(),
                Some(MediaType::OciManifest),
            ),
            (typed(MediaType::DockerList, r#","schemaVersion":2,"manifests":[]"#), Some(MediaType::DockerList)),
            (typed(MediaType::OciArtifact, r#","artifactType":"a/b","blobs":[]"#), Some(MediaType::OciArtifact)),
            (typed(MediaType::OciArtifact, r#","layers":[]"#), None),
            (typed(MediaType::OciManifest, r#","schemaVersion":2"#), None),
            (typed(MediaType::OciIndex, r#","schemaVersion":2,"layers":[]"#), None),
            (typed(MediaType::DockerManifest, r#","layers":[]"#), None),
            (r#"{"schemaVersion":1,"signatures":[]}"#.to_owned(), None),
            (r#"{"schemaVersion":2,"message":"down for maintenance"}"#.to_owned(), None),
            (r#"{"schemaVersion":2,"layers":[{}]}"#.to_owned(), None),
            (r#"{"errors":[{"code":"UNKNOWN"}]}"#.to_owned(), None),
            ("<html>".to_owned(), None),
            ("[2,null,null,[],null,null,null]".to_owned(), None),
        ];
        for (bytes, expected) in table {
            assert_eq!(kept_type(bytes.as_bytes()), expected, "{bytes}");
        }
    }

    #[test]
    fn what_is_no_manifest_lists_nothing() {
        for bytes in [&b""[..], b"{}", b"[]", b"null", b"{\"layers\":3}", b"\xff"] {
            assert_eq!(Listing::of(bytes), Listing::default());
        }
    }
}

//! Reads the entries of a manifest with their sizes, types and platforms, for showing an image to people.
//!
//! The cache itself uses [`Listing`](super::Listing), which has only the digests.

use serde::Deserialize;

use super::{Digest, document};

/// One entry of a manifest or an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The digest of the entry.
    pub digest: Digest,
    /// `mediaType`, if there is one.
    pub media_type: Option<String>,
    /// The size in bytes, according to the manifest.
    pub size: u64,
    /// `os/architecture/variant` of an index's entry.
    pub platform: Option<String>,
}

#[derive(Deserialize)]
struct Raw {
    config: Option<RawDescriptor>,
    #[serde(default)]
    layers: Vec<RawDescriptor>,
    #[serde(default)]
    manifests: Vec<RawDescriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    digest: String,
    media_type: Option<String>,
    #[serde(default)]
    size: u64,
    platform: Option<RawPlatform>,
}

#[derive(Deserialize)]
struct RawPlatform {
    architecture: String,
    os: String,
    variant: Option<String>,
}

impl Descriptor {
    /// All entries of a manifest: the manifests of an index, or a configuration and layers, in order. Bytes that are not a
    /// manifest list nothing; a digest that cannot be verified is left out.
    #[must_use]
    pub fn listed(manifest: &[u8]) -> Vec<Self> {
        let Some(raw) = document::<Raw>(manifest) else { return Vec::new() };
        raw.manifests.into_iter().chain(raw.config).chain(raw.layers).filter_map(Self::read).collect()
    }

    fn read(raw: RawDescriptor) -> Option<Self> {
        Some(Self {
            digest: raw.digest.parse().ok()?,
            media_type: raw.media_type,
            size: raw.size,
            platform: raw.platform.map(RawPlatform::words),
        })
    }
}

impl RawPlatform {
    fn words(self) -> String {
        let variant = self.variant.map(|variant| format!("/{variant}")).unwrap_or_default();
        format!("{}/{}{variant}", self.os, self.architecture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn sizes_types_and_platforms_are_read() {
        let one = Digest::of(Algorithm::Sha256, b"1");
        let index = format!(
            r#"{{"manifests":[{{"digest":"{one}","size":7,"mediaType":"t","platform":{{"os":"linux","architecture":"arm","variant":"v7"}}}}]}}"#
        );
        let listed = Descriptor::listed(index.as_bytes());
        let platform = Some("linux/arm/v7".to_owned());
        assert_eq!(listed, [Descriptor { digest: one, media_type: Some("t".into()), size: 7, platform }]);
        let manifest = format!(r#"{{"config":{{"digest":"{one}"}},"layers":[{{"digest":"{one}"}},{{"digest":"x"}}]}}"#);
        assert_eq!(Descriptor::listed(manifest.as_bytes()).len(), 2);
        for none in [&b""[..], b"[]", b"{\"layers\":1}"] {
            assert!(Descriptor::listed(none).is_empty());
        }
    }
}

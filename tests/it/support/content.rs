//! What a scripted registry holds: repositories with blobs, manifests and tags.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use pullthrough::oci::{Algorithm, Digest};
use serde_json::{Value, json};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image that was pushed.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) digest: Digest,
    pub(crate) manifest: Bytes,
    pub(crate) config: Digest,
    pub(crate) layers: Vec<Digest>,
    pub(crate) architecture: String,
}

#[derive(Debug, Default)]
pub(super) struct Content {
    repositories: HashMap<String, Repository>,
    pub(super) uploads: HashMap<String, Vec<u8>>,
}

#[derive(Debug, Default)]
struct Repository {
    blobs: HashMap<String, Bytes>,
    manifests: HashMap<String, (String, Bytes)>,
    tags: BTreeMap<String, String>,
}

impl Content {
    fn repository(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }

    pub(super) fn put_blob(&mut self, name: &str, digest: &str, bytes: Bytes) {
        self.repository(name).blobs.insert(digest.to_owned(), bytes);
    }

    pub(super) fn put_manifest(
        &mut self,
        name: &str,
        reference: Option<&str>,
        media_type: &str,
        bytes: Bytes,
    ) -> Digest {
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        let named = reference.filter(|reference| reference.contains(':')).map(str::to_owned);
        let key = named.unwrap_or_else(|| digest.to_string());
        let repository = self.repository(name);
        if let Some(tag) = reference.filter(|reference| !reference.contains(':')) {
            repository.tags.insert(tag.to_owned(), key.clone());
        }
        repository.manifests.insert(key, (media_type.to_owned(), bytes));
        digest
    }

    pub(super) fn blob(&self, name: &str, digest: &str) -> Option<Bytes> {
        self.repositories.get(name)?.blobs.get(digest).cloned()
    }

    /// Digest, media type and bytes.
    pub(super) fn manifest(&self, name: &str, reference: &str) -> Option<(String, String, Bytes)> {
        let repository = self.repositories.get(name)?;
        let digest = repository.tags.get(reference).map_or(reference, String::as_str);
        let (media_type, bytes) = repository.manifests.get(digest)?;
        Some((digest.to_owned(), media_type.clone(), bytes.clone()))
    }

    pub(super) fn tags(&self, name: &str) -> Option<Vec<String>> {
        Some(self.repositories.get(name)?.tags.keys().cloned().collect())
    }

    /// Takes away a manifest, a tag or a blob. Whether it was there.
    pub(super) fn remove(&mut self, name: &str, reference: &str) -> bool {
        let repository = self.repository(name);
        repository.tags.remove(reference).is_some()
            | repository.manifests.remove(reference).is_some()
            | repository.blobs.remove(reference).is_some()
    }

    pub(super) fn put_image(&mut self, name: &str, tag: &str, architecture: &str, layers: &[Vec<u8>]) -> Image {
        let layers: Vec<Bytes> = layers.iter().map(|layer| Bytes::from(layer.clone())).collect();
        let digests: Vec<Digest> = layers.iter().map(|layer| Digest::of(Algorithm::Sha256, layer)).collect();
        let diff_ids: Vec<String> = digests.iter().map(Digest::to_string).collect();
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = Bytes::from(config.to_string());
        let config_digest = Digest::of(Algorithm::Sha256, &config);
        let described: Vec<Value> =
            layers.iter().zip(&digests).map(|(layer, digest)| descriptor(LAYER, digest, layer.len())).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config_digest, config.len()), "layers": described,
        });
        let manifest = Bytes::from(manifest.to_string());
        for (layer, digest) in layers.into_iter().zip(&digests) {
            self.put_blob(name, &digest.to_string(), layer);
        }
        self.put_blob(name, &config_digest.to_string(), config);
        let digest = self.put_manifest(name, Some(tag), MANIFEST, manifest.clone());
        Image { digest, manifest, config: config_digest, layers: digests, architecture: architecture.to_owned() }
    }

    pub(super) fn put_index(&mut self, name: &str, tag: &str, images: &[&Image]) -> Digest {
        let manifests: Vec<Value> = images
            .iter()
            .map(|image| {
                let mut described = descriptor(MANIFEST, &image.digest, image.manifest.len());
                described["platform"] = json!({"os": "linux", "architecture": image.architecture});
                described
            })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.put_manifest(name, Some(tag), INDEX, Bytes::from(index.to_string()))
    }
}

fn descriptor(media_type: &str, digest: &Digest, size: usize) -> Value {
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
}

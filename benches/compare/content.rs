//! What the origin holds: blobs of any length without the memory for them, and one image of a real shape.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use pullthrough::oci::{Algorithm, Digest, Hasher};

const BLOCK: usize = 16 << 20;
const STRIDE: u64 = 4099; // a prime, so that no two seeds begin at the same place of the block

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A blob: where in the endless repetition of the block it begins, and its length in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) length: u64,
    start: u64,
}

/// A manifest with its type.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) bytes: Bytes,
    pub(crate) media_type: &'static str,
    pub(crate) digest: Digest,
}

/// An image: the tag's name, the index, one platform's manifest, its config and layers.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) tag: String,
    pub(crate) index: Manifest,
    pub(crate) manifest: Manifest,
    pub(crate) config: Blob,
    pub(crate) layers: Vec<Blob>,
}

/// Everything that there is to be served.
pub(crate) struct Content {
    block: Bytes,
    seeds: AtomicU64,
    blobs: Mutex<HashMap<Digest, Blob>>,
    manifests: Mutex<HashMap<String, Manifest>>,
}

impl Content {
    /// Nothing yet. Every run has other content, so that no peer can know it from before.
    pub(crate) fn new() -> Arc<Self> {
        let mut state = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |since| since.as_nanos() as u64 | 1);
        let mut block = Vec::with_capacity(BLOCK);
        while block.len() < BLOCK {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend_from_slice(&state.to_le_bytes());
        }
        Arc::new(Self {
            block: block.into(),
            seeds: AtomicU64::new(1),
            blobs: Mutex::default(),
            manifests: Mutex::default(),
        })
    }

    /// A new blob of so many bytes.
    pub(crate) fn blob(&self, length: u64) -> Blob {
        let start = self.seeds.fetch_add(1, Ordering::Relaxed) * STRIDE % BLOCK as u64;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut at = 0;
        while at < length {
            let piece = self.piece(start, at, length);
            hasher.update(&piece);
            at += piece.len() as u64;
        }
        let blob = Blob { digest: hasher.finish(), length, start };
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.digest, blob);
        blob
    }

    /// A new image with layers of these lengths in bytes.
    pub(crate) fn image(&self, layers: &[u64]) -> Image {
        let config = self.blob(7 << 10);
        let layers: Vec<Blob> = layers.iter().map(|length| self.blob(*length)).collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.digest.to_string(), "size": config.length},
            "layers": layers.iter().map(|layer| serde_json::json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer.digest.to_string(), "size": layer.length,
            })).collect::<Vec<_>>(),
        });
        let manifest = self.manifest(manifest.to_string(), MANIFEST);
        let entry = |architecture: &str| {
            serde_json::json!({
                "mediaType": MANIFEST, "digest": manifest.digest.to_string(), "size": manifest.bytes.len(),
                "platform": {"os": "linux", "architecture": architecture},
            })
        };
        let index =
            serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry("amd64"), entry("arm64")]});
        let index = self.manifest(index.to_string(), INDEX);
        let tag = format!("v{}", self.seeds.fetch_add(1, Ordering::Relaxed));
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner).insert(tag.clone(), index.clone());
        Image { tag, index, manifest, config, layers }
    }

    fn manifest(&self, text: String, media_type: &'static str) -> Manifest {
        let bytes = Bytes::from(text);
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        let manifest = Manifest { bytes, media_type, digest };
        let mut held = self.manifests.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(digest.to_string(), manifest.clone());
        manifest
    }

    /// The manifest of a tag or digest.
    pub(crate) fn find_manifest(&self, reference: &str) -> Option<Manifest> {
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner).get(reference).cloned()
    }

    /// The blob of a digest.
    pub(crate) fn find_blob(&self, digest: &Digest) -> Option<Blob> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).get(digest).copied()
    }

    /// The bytes of `blob` from `at` on, at most up to `end`, at most 256 KiB: without a copy.
    pub(crate) fn read(&self, blob: &Blob, at: u64, end: u64) -> Bytes {
        self.piece(blob.start, at, end)
    }

    fn piece(&self, start: u64, at: u64, end: u64) -> Bytes {
        let from = ((start + at) % BLOCK as u64) as usize;
        let length = (end - at).min(256 << 10).min((BLOCK - from) as u64) as usize;
        self.block.slice(from..from + length)
    }
}

//! Images made by the test: written as skopeo's `dir:` layout, pushed by skopeo, told apart by their contents.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pullthrough::oci::{Algorithm, Digest};
use serde_json::{Value, json};

use super::process::{command, run};

/// The digests of everything that an image is made of.
pub(crate) struct Parts {
    /// Its index, if it has one, and its manifests.
    pub(crate) manifests: Vec<String>,
    /// Configurations and layers.
    pub(crate) blobs: Vec<String>,
}

/// What a tag points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// An OCI index of two architectures.
    Index,
    /// One Docker manifest (schema 2).
    Single,
    /// One OCI manifest, whose layers are compressed when they are pushed: to zstd:chunked.
    Chunked,
}

/// An image on disk, and what a right pull of it looks like.
pub(crate) struct Image {
    dir: PathBuf,
    shape: Shape,
    /// The digest that its tag has, unless pushing it compresses it.
    pub(crate) digest: String,
    /// The digest of the configuration for amd64: what Docker and Podman call the image's id.
    pub(crate) id: String,
    /// The digest of its largest layer for amd64.
    pub(crate) large: String,
}

impl Image {
    /// Makes an image in `dir`. Another `seed` gives other bytes in every layer; the largest has `bytes` bytes,
    /// which do not compress.
    pub(crate) fn make(dir: &Path, shape: Shape, seed: u64, bytes: usize) -> Self {
        let maker = Maker { dir: dir.to_owned(), seed, bytes };
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("version"), "Directory Transport Version: 1.1\n").unwrap();
        let (amd64, id, large) = maker.manifest("amd64", shape);
        let top = match shape {
            Shape::Single | Shape::Chunked => amd64.into_bytes(),
            Shape::Index => {
                let (arm64, ..) = maker.manifest("arm64", shape);
                let list = [("amd64", amd64), ("arm64", arm64)].map(|(architecture, text)| {
                    let digest = digest(text.as_bytes());
                    let hex = digest.trim_start_matches("sha256:");
                    fs::write(dir.join(format!("{hex}.manifest.json")), &text).unwrap();
                    json!({ "mediaType": OCI_MANIFEST, "digest": digest, "size": text.len(),
                            "platform": { "architecture": architecture, "os": "linux" } })
                });
                json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list }).to_string().into_bytes()
            }
        };
        fs::write(dir.join("manifest.json"), &top).unwrap();
        Self { dir: dir.to_owned(), shape, digest: digest(&top), id, large }
    }

    /// What it is made of, for all of its architectures.
    pub(crate) fn parts(&self) -> Parts {
        let mut parts = Parts { manifests: vec![self.digest.clone()], blobs: Vec::new() };
        let mut files = vec!["manifest.json".to_owned()];
        while let Some(file) = files.pop() {
            let manifest: Value = serde_json::from_slice(&fs::read(self.dir.join(file)).unwrap()).unwrap();
            let digests = |list: &str| {
                let entries = manifest[list].as_array().into_iter().flatten();
                entries.filter_map(|entry| Some(entry["digest"].as_str()?.to_owned())).collect::<Vec<_>>()
            };
            for child in digests("manifests") {
                files.push(format!("{}.manifest.json", child.trim_start_matches("sha256:")));
                parts.manifests.push(child);
            }
            parts.blobs.extend(manifest["config"]["digest"].as_str().map(str::to_owned));
            parts.blobs.extend(digests("layers"));
        }
        parts.blobs.sort();
        parts.blobs.dedup(); // architectures share layers
        parts
    }

    /// The file of one of its blobs or manifests.
    pub(crate) fn file(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let manifest = if digest == self.digest { "manifest.json".into() } else { format!("{hex}.manifest.json") };
        Some(self.dir.join(hex)).filter(|file| file.exists()).unwrap_or_else(|| self.dir.join(manifest))
    }

    /// One of its blobs or manifests.
    pub(crate) fn content(&self, digest: &str) -> Vec<u8> {
        fs::read(self.file(digest)).unwrap()
    }

    /// Pushes it to `image` as the lab's owner, byte for byte; what skopeo said, on failure.
    pub(crate) fn push(&self, image: &str, proxy: &str, trust: &Path) -> Result<String, String> {
        let mut skopeo = command("skopeo", &self.dir);
        skopeo.env("HTTPS_PROXY", proxy).env("SSL_CERT_FILE", trust).arg("--insecure-policy").arg("copy");
        skopeo.args(["--quiet", "--all", "--dest-creds", &super::people::OWNER.pair()]);
        skopeo.args(match self.shape {
            Shape::Chunked => &["--dest-compress-format", "zstd:chunked"][..],
            Shape::Index | Shape::Single => &["--preserve-digests"],
        });
        skopeo.arg(format!("dir:{}", self.dir.display())).arg(format!("docker://{image}"));
        run(&mut skopeo, Duration::from_secs(60))
    }
}

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

struct Maker {
    dir: PathBuf,
    seed: u64,
    bytes: usize,
}

impl Maker {
    /// A manifest, and the digests of its configuration and its largest layer; the blobs are written.
    fn manifest(&self, architecture: &str, shape: Shape) -> (String, String, String) {
        let [manifest_type, config_type, layer_type] = match shape {
            Shape::Index => [
                OCI_MANIFEST,
                "application/vnd.oci.image.config.v1+json",
                "application/vnd.oci.image.layer.v1.tar+gzip",
            ],
            Shape::Single => [
                "application/vnd.docker.distribution.manifest.v2+json",
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            ],
            Shape::Chunked => {
                [OCI_MANIFEST, "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar"]
            }
        };
        let (mut diffs, mut layers) = (Vec::new(), Vec::new());
        for (file, bytes) in [("large", self.bytes), ("small", 3_000), (architecture, 70_000)] {
            let (diff, blob, size) = self.layer(file, bytes, shape);
            diffs.push(diff);
            layers.push(json!({ "mediaType": layer_type, "digest": blob, "size": size }));
        }
        let config = json!({
            "architecture": architecture, "os": "linux", "config": { "Cmd": ["/small"] },
            "created": "2026-01-01T00:00:00Z", "rootfs": { "type": "layers", "diff_ids": diffs },
            "history": [{ "created_by": "large" }, { "created_by": "small" }, { "created_by": architecture }],
        })
        .to_string();
        let id = self.blob(config.as_bytes());
        let config = json!({ "mediaType": config_type, "digest": id, "size": config.len() });
        let manifest: Value =
            json!({ "schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": &layers });
        (manifest.to_string(), id, layers[0]["digest"].as_str().unwrap_or_default().to_owned())
    }

    /// A gzipped tar (a plain one of [`Shape::Chunked`]) with one file of noise: its digests before and after
    /// compression, and its size.
    fn layer(&self, file: &str, bytes: usize, shape: Shape) -> (String, String, usize) {
        let work = tempfile::tempdir().unwrap();
        fs::write(work.path().join(file), noise(self.seed ^ bytes as u64, bytes)).unwrap();
        let mut tar = command("tar", work.path());
        tar.args(["--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-cf", "layer.tar", file]);
        run(&mut tar, Duration::from_secs(20)).unwrap();
        let plain = fs::read(work.path().join("layer.tar")).unwrap();
        let diff = digest(&plain);
        if shape == Shape::Chunked {
            return (diff, self.blob(&plain), plain.len());
        }
        run(command("gzip", work.path()).args(["-n1", "layer.tar"]), Duration::from_secs(20)).unwrap();
        let layer = fs::read(work.path().join("layer.tar.gz")).unwrap();
        (diff, self.blob(&layer), layer.len())
    }

    fn blob(&self, content: &[u8]) -> String {
        let digest = digest(content);
        fs::write(self.dir.join(digest.trim_start_matches("sha256:")), content).unwrap();
        digest
    }
}

/// `sha256:...` of some bytes.
pub(crate) fn digest(content: &[u8]) -> String {
    Digest::of(Algorithm::Sha256, content).to_string()
}

/// Bytes that do not compress, the same for the same seed (splitmix64).
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ word >> 31).to_le_bytes()
    });
    words.flatten().take(length).collect()
}

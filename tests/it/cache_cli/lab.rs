//! A cache folder with made content, and the real program over it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use pullthrough::oci::{Accept, Digest};
use pullthrough::store::{Content, Learned, Link, Store, TagEntry};
use serde_json::{Value, json};

use crate::store::{config, content, digest, path_of};
use crate::support::{Configuration, Served, program};

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const SIZE: u64 = 64 << 20;

/// A folder with a configuration and a cache, and the server over it.
pub(super) struct Lab {
    folder: tempfile::TempDir,
    pub(super) root: PathBuf,
    pub(super) server: Option<Served>,
}

/// What a command said.
pub(super) struct Said {
    pub(super) status: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Lab {
    pub(super) fn new() -> Self {
        Self::deep("")
    }

    pub(super) fn deep(below: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join(below);
        fs::create_dir_all(&root).unwrap();
        let lab = Self { folder, root, server: None };
        let dir = lab.root.display();
        let mut file = Configuration::default();
        file.add("listen", "proxy: '127.0.0.1:0', admin: '127.0.0.1:0'");
        file.add("ca", format!("dir: '{dir}/ca'"));
        file.add("cache", format!("dir: '{dir}/cache', max_size: 64MiB, min_free: 0%"));
        fs::write(lab.file(), file.to_string()).unwrap();
        lab
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("pullthrough.yaml")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.root.join("cache/control.sock")
    }

    /// Puts something into the cache, with no server.
    pub(super) fn fill(&self, fill: impl FnOnce(&Fill)) {
        let store = Store::open(&config(&self.root, SIZE)).unwrap();
        fill(&Fill(&store));
        store.close();
    }

    pub(super) fn command(&self) -> Command {
        program(self.folder.path())
    }

    pub(super) fn serve(&mut self) {
        self.server = Some(Served::start(self.folder.path(), "warn"));
    }

    pub(super) fn kill(&mut self) {
        drop(self.server.take().unwrap());
    }

    pub(super) fn say(&self, arguments: &[&str]) -> Said {
        self.run(&[&["cache"], arguments].concat())
    }

    /// Any command of the program, with the lab's configuration.
    pub(super) fn run(&self, arguments: &[&str]) -> Said {
        let mut command = self.command();
        command.args(arguments).arg("--config").arg(self.file()).stdin(Stdio::null());
        let Output { status, stdout, stderr } = command.output().unwrap();
        Said {
            status: status.code().unwrap(),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }

    pub(super) fn json(&self, arguments: &[&str]) -> Value {
        let said = self.say(&[arguments, &["--json"]].concat());
        assert_eq!(said.status, 0, "{arguments:?}: {}", said.err);
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.out))
    }

    pub(super) fn names(&self) -> Vec<String> {
        let rows = self.json(&["ls"]);
        let name = |row: &Value| {
            let reference =
                row["tag"].as_str().map_or(format!("@{}", row["digest"].as_str().unwrap()), |t| format!(":{t}"));
            format!("{}/{}{reference}", row["registry"].as_str().unwrap(), row["repository"].as_str().unwrap())
        };
        rows.as_array().unwrap().iter().map(name).collect()
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        path_of(&self.root, digest).exists()
    }

    /// The same with a server and without, over the same content.
    pub(super) fn both(test: impl Fn(&mut Lab), fill: impl Fn(&Fill)) {
        for served in [false, true] {
            let mut lab = Lab::new();
            lab.fill(&fill);
            if served {
                lab.serve();
            }
            test(&mut lab);
        }
    }
}

pub(super) struct Fill<'a>(pub(super) &'a Store);

impl Fill<'_> {
    pub(super) fn blob(&self, place: &str, bytes: &[u8], kind: Content) -> Digest {
        let digest = digest(bytes);
        self.0.put(&digest, bytes).unwrap();
        self.link(place, digest, kind);
        digest
    }

    pub(super) fn link(&self, place: &str, digest: Digest, content: Content) {
        let (registry, repository) = place.split_once('/').unwrap();
        self.0.catalog().record_link(Link {
            registry: registry.into(),
            repository: repository.parse().unwrap(),
            digest,
            content,
            media_type: None,
            learned: Learned::Anonymously,
            proven: SystemTime::now(),
        });
    }

    pub(super) fn tag(&self, place: &str, tag: &str, digest: Digest, media_type: &str) {
        let (registry, repository) = place.split_once('/').unwrap();
        self.0.catalog().record_tag(TagEntry {
            registry: registry.into(),
            repository: repository.parse().unwrap(),
            tag: tag.parse().unwrap(),
            accept: Accept::parse([MANIFEST, INDEX]),
            digest,
            media_type: media_type.into(),
            size: 1,
            checked: SystemTime::now(),
            learned: Learned::Anonymously,
        });
    }

    /// A manifest over these layers, each of 100,000 bytes made of its seed.
    pub(super) fn manifest(&self, place: &str, layers: &[u64]) -> Digest {
        let layers: Vec<Value> = layers
            .iter()
            .map(|seed| {
                let bytes = content(*seed, 100_000);
                json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": bytes.len(),
                "digest": self.blob(place, &bytes, Content::Blob).to_string()})
            })
            .collect();
        let bytes = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers}).to_string();
        self.blob(place, bytes.as_bytes(), Content::Manifest)
    }

    pub(super) fn image(&self, place: &str, tag: &str, layers: &[u64]) -> Digest {
        let digest = self.manifest(place, layers);
        self.tag(place, tag, digest, MANIFEST);
        digest
    }
}

pub(super) fn layer(seed: u64) -> Digest {
    digest(&content(seed, 100_000))
}

/// Two images that share a layer, one elsewhere, and an index of which one platform is here.
pub(super) fn usual(fill: &Fill) {
    fill.image("quay.io/org/app", "1", &[1, 2]);
    fill.image("quay.io/org/app", "2", &[1, 3]);
    fill.image("docker.io/library/alpine", "latest", &[4]);
    let (here, away) = (fill.manifest("quay.io/org/multi", &[5]), digest(b"another platform"));
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"digest": here.to_string(), "size": 1, "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": away.to_string(), "size": 777, "platform": {"os": "linux", "architecture": "arm64"}},
    ]});
    let index = fill.blob("quay.io/org/multi", index.to_string().as_bytes(), Content::Manifest);
    fill.tag("quay.io/org/multi", "v1", index, INDEX);
}

pub(super) const ALL: [&str; 4] =
    ["docker.io/library/alpine:latest", "quay.io/org/app:1", "quay.io/org/app:2", "quay.io/org/multi:v1"];

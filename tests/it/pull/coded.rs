//! Registries that compress what was asked for as it is: taken off where the digest says so, as a direct pull would.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{QUAY, get, layer, quay};
use crate::support::{Act, Registry};

const BLOBS: &str = "GET */blobs/sha*";
const MIB: usize = 1 << 20;

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// As a server before a registry compresses on the way.
fn compress(registry: &Registry, pattern: &str) {
    registry.script(pattern, Act::Coded);
    registry.script(pattern, Act::NoLength);
    registry.script(pattern, Act::IgnoreRange);
}

#[tokio::test]
async fn a_manifest_that_comes_compressed_is_the_one_that_its_digest_names() {
    for says_digest in [true, false] {
        let (registry, proxy) = quay().await;
        let image = registry.push_image("a", "1", &[layer(1000, 1)]);
        compress(&registry, "*/manifests/*");
        if !says_digest {
            registry.script("*/manifests/*", Act::NoDigest);
        }
        let mut session = proxy.client().session(QUAY).await;
        for path in ["/v2/a/manifests/1".to_owned(), format!("/v2/a/manifests/{}", image.digest)] {
            let got = session.get(&path).await;
            assert_eq!((got.status.as_u16(), got.header("content-encoding")), (200, ""), "{path}");
            assert_eq!(*got.bytes(), image.manifest, "{path}");
            let head = session.ask("HEAD", &path, &[]).await;
            assert_eq!(head.header("content-length"), image.manifest.len().to_string(), "{path}");
            assert_eq!(head.header("docker-content-digest"), image.digest.to_string(), "{path}");
        }
    }
}

#[tokio::test]
async fn a_manifest_that_comes_compressed_from_a_mirror_is_taken() {
    let registry = Registry::start("quay.io");
    let mirror = registry.sibling(crate::support::Setup::named("mirror.internal"));
    let endpoint = |server: &Registry| {
        let (name, address, ca) = (server.name(), server.address(), server.ca_file());
        format!("{{url: 'https://{name}', address: '{address}', ca_file: '{}'}}", ca.display())
    };
    let both = format!("'quay.io': {{endpoints: [{}, {}]}}", endpoint(&mirror), endpoint(&registry));
    let proxy = crate::support::Plan::new().raw_registry(&both).start().await;
    let image = registry.push_image("a", "1", &[layer(1000, 2)]);
    compress(&mirror, "*/manifests/*");
    let path = format!("/v2/a/manifests/{}", image.digest);
    assert_eq!(*proxy.client().get(QUAY, &path).await.bytes(), image.manifest);
    assert_eq!((mirror.count(&format!("GET {path}")), registry.count(&format!("GET {path}"))), (1, 0));
}

#[tokio::test]
async fn a_blob_that_is_compressed_on_the_way_is_stored_as_its_digest_names_it() {
    // A configuration, a layer that is not compressed, and one that is.
    for bytes in [layer(2000, 3), layer(6 * MIB, 4), packed(&layer(6 * MIB, 5))] {
        let (registry, proxy) = quay().await;
        let digest = registry.push_blob("a", bytes.clone());
        compress(&registry, BLOBS);
        let path = format!("/v2/a/blobs/{digest}");
        let mut session = proxy.client().session(QUAY).await;
        let got = session.get(&path).await;
        assert!(*got.bytes() == bytes, "{}", bytes.len());
        assert_eq!(got.header("content-encoding"), "");
        proxy.stored(&digest).await;
        assert_eq!(session.get(&path).await.header("cache-status"), "pullthrough; hit");
        let part = get(&mut session, &path, &[("range", "bytes=100-199")]).await;
        assert!(part.bytes()[..] == bytes[100..200]);
        assert_eq!(registry.count(BLOBS), 1);
    }
}

#[tokio::test]
async fn a_blob_that_is_compressed_on_the_way_and_cut_is_taken_up_by_the_whole() {
    let (registry, proxy) = quay().await;
    let bytes = layer(8 * MIB, 6);
    let digest = registry.push_blob("a", bytes.clone());
    compress(&registry, BLOBS);
    registry.script_times(1, BLOBS, Act::Cut(6 * MIB as u64));
    let got = proxy.client().get(QUAY, &format!("/v2/a/blobs/{digest}")).await;
    assert!(*got.bytes() == bytes);
    let asked = registry.requests();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|seen| !seen.headers.contains_key("range")), "it has no parts");
}

#[tokio::test]
async fn a_layer_that_is_only_said_to_be_compressed_is_stored_as_it_came_and_resumed() {
    for length in [3000, 6 * MIB] {
        let (registry, proxy) = quay().await;
        let bytes = packed(&layer(length, 7));
        let digest = registry.push_blob("a", bytes.clone());
        registry.script(BLOBS, Act::Header("content-encoding".into(), "gzip".into()));
        let cut = bytes.len() as u64 - 1000;
        registry.script_times(1, BLOBS, Act::Cut(cut));
        let got = proxy.client().get(QUAY, &format!("/v2/a/blobs/{digest}")).await;
        assert!(*got.bytes() == bytes, "{length}");
        let last =
            registry.requests().last().and_then(|seen| Some(seen.headers.get("range")?.to_str().ok()?.to_owned()));
        // One that is small is judged when all of it is there, and nothing of it is taken before.
        let expected = (length > 4 * MIB).then(|| format!("bytes={cut}-"));
        assert_eq!((last, registry.count(BLOBS)), (expected, 2), "{length}");
    }
}

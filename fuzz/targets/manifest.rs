//! A manifest's bytes: what it lists is what stands in it.

use serde_json::Value;

use super::naive;
use crate::oci::{Accept, Descriptor, Digest, Listing, Look, MediaType, kept_type};

/// A listing has the digests that a plain reader finds, in their order, or nothing. The descriptors for people list the
/// same. What is kept is an object of a known shape.
pub fn manifest(data: &[u8]) {
    let (listing, descriptors) = (Listing::of(data), Descriptor::listed(data));
    let Some(value) = naive::json(data) else { return };
    let (manifests, blobs) =
        (digests(&value["manifests"]), [digest(&value["config"]), digests(&value["layers"])].concat());
    if listing != Listing::default() {
        let all = [blobs.clone(), digests(&value["blobs"])].concat();
        assert_eq!((&listing.manifests, &listing.blobs), (&manifests, &all));
    }
    if let Some(kept) = kept_type(data) {
        let has = |name: &str| value["schemaVersion"] == 2 && value[name].is_array();
        let is_one = match kept {
            MediaType::OciIndex | MediaType::DockerList => has("manifests"),
            MediaType::OciManifest | MediaType::DockerManifest => has("layers"),
            MediaType::OciArtifact => value["mediaType"].is_string(),
            MediaType::DockerSchema1 | MediaType::DockerSchema1Signed => false,
        };
        assert!(value.is_object() && is_one, "{kept:?} is kept");
    }
    if !descriptors.is_empty() {
        let listed: Vec<Digest> = descriptors.iter().map(|descriptor| descriptor.digest).collect();
        assert_eq!(listed, [manifests, blobs].concat());
    }
    if let Some(said) = value["mediaType"].as_str().and_then(MediaType::parse) {
        assert!(listing.media_type.is_none_or(|found| found == said), "{listing:?}");
        assert_eq!(MediaType::parse(said.as_str()), Some(said));
    }
}

/// An array is a list of arrays of entries, too, to the library that reads structs from sequences.
fn digests(list: &Value) -> Vec<Digest> {
    list.as_array().into_iter().flatten().flat_map(digest).collect()
}

fn digest(entry: &Value) -> Vec<Digest> {
    let said = entry["digest"].as_str().or_else(|| entry[0].as_str());
    said.and_then(|text| text.parse().ok()).into_iter().collect()
}

/// The class of an `Accept` header prints as a header of that class. What looks like a page is of no known type.
pub fn accept(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (class, others) = Accept::parse_all(text.lines());
    let printed = class.header(&others);
    let headers = if text.is_empty() { vec![] } else { vec![printed.as_str()] };
    assert_eq!(Accept::parse(headers), class, "{printed:?}");
    assert!(class.has_others() || Accept::from_code(class.code()) == class);
    assert!(MediaType::parse(text).is_none() || Look::of(Some(text)) == Look::Content);
}

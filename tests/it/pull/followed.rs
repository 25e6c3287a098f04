//! What is logged of a request can be found by the id on its access line.

use pullthrough::oci::Digest;

use super::{QUAY, layer};
use crate::support::client::Client;
use crate::support::{Act, Plan, Registry, Served, eventually};

/// The ids on the lines of the log that hold all of `words`.
fn ids(log: &str, words: &[&str]) -> Vec<String> {
    let lines = log.lines().filter(|line| words.iter().all(|word| line.contains(word)));
    let id = |line: &str| Some(line.split_once("request_id=")?.1.split(' ').next()?.to_owned());
    lines.map(|line| id(line).unwrap_or_else(|| panic!("no id: {line}"))).collect()
}

#[tokio::test]
async fn what_is_logged_of_a_failed_pull_has_the_id_of_its_access_line() {
    let registry = Registry::start("quay.io");
    let broken: Vec<Digest> = (1..4).map(|seed| registry.push_blob("a", layer(10_000, seed))).collect();
    registry.script("GET */blobs/*", Act::WrongByte(100));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pullthrough.yaml"), Plan::new().registry(&registry, "").yaml(folder.path()))
        .unwrap();
    let server = Served::start(folder.path(), "info");
    let client = Client::through(server.proxy(), &folder.path().join("ca/ca.crt"));
    for digest in &broken {
        let answer = client.session(QUAY).await.get_broken(&format!("/v2/a/blobs/{digest}")).await;
        assert!(answer.is_none_or(|answer| answer.body.is_err() || !answer.status.is_success()));
    }
    let log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
    let access = |digest: &Digest| ids(&log(), &["access", &format!("reference={digest}")]);
    let told = |digest: &Digest| ids(&log(), &["nothing is cached", &format!("digest={digest}")]);
    let mut seen = Vec::new();
    for digest in &broken {
        eventually("both lines are written", || access(digest).len() == 1 && told(digest).len() == 1).await;
        assert_eq!(access(digest), told(digest));
        seen.extend(access(digest));
    }
    seen.dedup();
    assert_eq!(seen.len(), broken.len(), "each request has an id of its own");
}

#[tokio::test]
async fn what_is_logged_of_a_layer_that_is_fetched_ahead_has_the_id_of_the_request_that_began_it() {
    let registry = Registry::start("quay.io");
    let image = registry.push_image("a", "1", &[layer(10_000, 1), layer(10_000, 2)]);
    let (asked, ahead) = (image.layers[0], image.layers[1]);
    registry.script(&format!("GET */blobs/{ahead}"), Act::WrongByte(100));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pullthrough.yaml"), Plan::new().registry(&registry, "").yaml(folder.path()))
        .unwrap();
    let server = Served::start(folder.path(), "info");
    let client = Client::through(server.proxy(), &folder.path().join("ca/ca.crt"));
    assert_eq!(client.get(QUAY, "/v2/a/manifests/1").await.status, 200);
    assert_eq!(client.get(QUAY, &format!("/v2/a/blobs/{asked}")).await.status, 200);
    let log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
    let access = || ids(&log(), &["access", &format!("reference={asked}")]);
    let told = || ids(&log(), &["nothing is cached", &format!("digest={ahead}")]);
    eventually("both lines are written", || access().len() == 1 && !told().is_empty()).await;
    assert_eq!(access(), told());
}

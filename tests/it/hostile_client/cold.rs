//! Much asked of a blob that nobody has yet: streams that take nothing, and thousands of ranges. It is downloaded once.

use pullthrough::oci::Digest;
use pullthrough::wire::Body;

use super::site::{QUAY, Site};
use crate::pull::layer;
use crate::support::client::whole;
use crate::support::{Act, Gate, eventually};

const LENGTH: usize = 2_000_000;

/// A blob of the registry's, whose body stops after `held` bytes until the gate opens, and the path to it.
fn cold(site: &Site, seed: u64, held: u64) -> (Vec<u8>, Digest, String, Gate) {
    let (bytes, gate) = (layer(LENGTH, seed), Gate::new());
    let digest = site.registry.push_blob("open/app", bytes.clone());
    site.registry.script_times(1, &format!("GET */{digest}"), Act::Hold(held, gate.clone()));
    (bytes, digest, format!("/v2/open/app/blobs/{digest}"), gate)
}

#[tokio::test]
async fn streams_that_take_nothing_of_a_cold_blob_leave_it_to_everybody_else() {
    let site = Site::new("").await;
    let (bytes, digest, path, gate) = cold(&site, 11, 100_000);
    let mut stalled = Vec::new();
    for _ in 0..4 {
        let mut session = site.proxy.client().windows(0).session(QUAY).await;
        let mut answers = Vec::new();
        for _ in 0..100 {
            let answer = session.send("GET", &path, &[], Body::empty()).await.unwrap();
            assert_eq!(answer.status(), 200);
            answers.push(answer);
        }
        stalled.push((session, answers));
    }
    gate.open();
    let honest = site.proxy.client().get(QUAY, &path).await;
    assert_eq!(honest.bytes(), &bytes);
    site.proxy.stored(&digest).await;
    assert_eq!(site.registry.count(&format!("GET */{digest}")), 1);
    site.is_well("400 streams").await;
    drop(stalled);
    let again = site.proxy.client().h2().get(QUAY, &path).await;
    assert_eq!((again.bytes().len(), site.registry.count(&format!("GET */{digest}"))), (LENGTH, 1));
}

#[tokio::test]
async fn thousands_of_ranges_of_a_cold_blob_are_not_thousands_of_requests_upstream() {
    let site = Site::new("").await;
    let (bytes, digest, path, gate) = cold(&site, 12, 100_000);
    // At once, of a blob that is on its way, from its end to its beginning: each a byte and 1,000 bytes from the next.
    let mut asked = Vec::new();
    for connection in 0..8 {
        let (client, path) = (site.proxy.client().h2(), path.clone());
        asked.push(tokio::spawn(async move {
            let mut session = client.session(QUAY).await;
            let mut answers = Vec::new();
            for nth in (0..250).rev() {
                let at = connection * 250_000 + nth * 1000;
                let range = format!("bytes={at}-{at}");
                let answer = session.send("GET", &path, &[("range", &range)], Body::empty()).await.unwrap();
                answers.push((at, whole(answer).await));
            }
            answers
        }));
    }
    eventually("it is asked for", || site.registry.count(&format!("GET */{digest}")) > 0).await;
    gate.open();
    for answers in asked {
        for (at, answer) in answers.await.unwrap() {
            assert_eq!((answer.status.as_u16(), &answer.bytes()[..]), (206, &bytes[at..=at]), "{at}");
        }
    }
    let requests = site.registry.count(&format!("GET */{digest}"));
    assert!(requests <= 40, "{requests} requests for 2,000 ranges");
    // And in one request, of another one that nobody has.
    let (bytes, digest, path, gate) = cold(&site, 13, LENGTH as u64);
    gate.open();
    let list: Vec<_> = (0..500).map(|nth| format!("{0}-{0}", nth * 2000)).collect();
    let answer = site.proxy.client().session(QUAY).await;
    let answer = { answer }.ask("GET", &path, &[("range", &format!("bytes={}", list.join(",")))]).await;
    assert_eq!((answer.status.as_u16(), answer.bytes()), (200, &bytes.into()), "the whole is less than 500 parts");
    assert_eq!(site.registry.count(&format!("GET */{digest}")), 1);
    site.is_well("2,500 ranges").await;
}

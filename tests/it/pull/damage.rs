//! A disk that changes what it holds: no client ever gets a wrong byte.

use super::{QUAY, layer, quay};
use crate::support::client::whole;
use crate::support::eventually;
use pullthrough::wire::Body;

#[tokio::test]
async fn a_bit_flipped_in_each_of_a_hundred_blobs_reaches_no_client() {
    const BLOBS: usize = 100;
    let (registry, proxy) = quay().await;
    let mut session = proxy.client().session(QUAY).await;
    let mut blobs = Vec::new();
    for seed in 0..BLOBS {
        // From less than one chunk of the checksums to several.
        let bytes = layer(1 + seed * 3_001, 1000 + seed as u64);
        let digest = registry.push_blob("a", bytes.clone());
        assert_eq!(session.get(&format!("/v2/a/blobs/{digest}")).await.bytes(), &bytes);
        proxy.stored(&digest).await;
        blobs.push((digest, bytes));
    }
    let dice = crate::support::Dice::seeded(7);
    for (digest, bytes) in &blobs {
        let file = proxy.blob_file(digest);
        let mut damaged = bytes.clone();
        damaged[dice.below(bytes.len() as u64) as usize] ^= 1 << dice.below(8);
        std::fs::write(&file, damaged).unwrap();
    }
    let asked = registry.count("GET */blobs/*");
    for (position, (digest, bytes)) in blobs.iter().enumerate() {
        let path = format!("/v2/a/blobs/{digest}");
        let client = if position % 2 == 0 { proxy.client() } else { proxy.client().h2() };
        let mut session = client.session(QUAY).await;
        let answer = whole(session.send("GET", &path, &[], Body::empty()).await.unwrap()).await;
        assert!(*answer.bytes() == *bytes, "blob {position}");
    }
    assert!(registry.count("GET */blobs/*") - asked >= BLOBS, "each was fetched again");
    for (digest, bytes) in &blobs {
        let file = proxy.blob_file(digest);
        eventually("the good bytes are stored again", || std::fs::read(&file).is_ok_and(|stored| stored == *bytes))
            .await;
    }
    assert_eq!(proxy.metric("pullthrough_damaged_chunks_total").await, BLOBS as f64);
}

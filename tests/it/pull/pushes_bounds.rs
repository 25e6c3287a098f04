//! What clients push and no registry has accepted takes little of the cache, and opens nothing to anybody.

use pullthrough::oci::{Algorithm, Digest};

use super::private::{ALICE, BOB, EXAMPLE, Lab};
use super::pushes::{Way, begin, push_blob, pushing_with, send, staged};
use super::{QUAY, layer};
use crate::support::{Act, MANIFEST, Proxy, eventually};

#[tokio::test]
async fn a_mount_counts_only_where_the_registry_names_the_mounted_content() {
    let lab = Lab::new(", push: allow").await;
    let secret = lab.registry.push_blob("team/base", layer(1000, 2));
    let alice = lab.bearer(ALICE, "team/base").await;
    assert_eq!(lab.get(&format!("/v2/team/base/blobs/{secret}"), Some(&alice)).await.status, 200);
    lab.proxy.stored(&secret).await;
    // Bob may read a public repository, and the registry has the secret nowhere there.
    lab.registry.push_manifest("public/mine", Some("1"), MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    let bob = lab.bearer(BOB, "public/mine").await;
    assert_eq!(lab.get("/v2/public/mine/manifests/1", Some(&bob)).await.status, 200);
    lab.is_public("/v2/public/mine/manifests/1").await;
    let mut session = lab.proxy.client().session(EXAMPLE).await;
    let own = Digest::of(Algorithm::Sha256, b"own");
    let located = |digest: &Digest| vec![("location".to_owned(), format!("/v2/public/mine/blobs/{digest}"))];
    let table = [
        (format!("digest={own}&mount={secret}&from=public/mine"), located(&own)),
        (format!("digest={own}&mount={secret}&from=public/mine"), Vec::new()),
        (format!("digest={own}&mount={secret}&from=public/mine"), located(&secret)),
        (format!("mount={secret}&from=public/mine"), located(&own)),
        (format!("mount={secret}&from=public/mine"), Vec::new()),
        (format!("mount={secret}"), vec![("location".to_owned(), format!("/v2/public/mine/blobs/x?mount={secret}"))]),
    ];
    for (query, headers) in table {
        let accepted = Act::Answer { status: 201, headers: headers.clone(), body: String::new() };
        lab.registry.script_times(1, "POST */blobs/uploads/", accepted);
        let path = format!("/v2/public/mine/blobs/uploads/?{query}");
        let posted = send(&mut session, "POST", &path, &[("authorization", bob.as_str())], b"own").await;
        assert_eq!(posted.status, 201, "{query} {:?}", posted.body);
        for caller in [Some(bob.as_str()), None] {
            let got = lab.get(&format!("/v2/public/mine/blobs/{secret}"), caller).await;
            assert!(matches!(got.status.as_u16(), 401 | 404), "{} {query} {headers:?}", got.status);
        }
    }
}

/// How many of the blobs are in the cache.
fn kept(proxy: &Proxy, blobs: &[Digest]) -> usize {
    blobs.iter().filter(|blob| proxy.blob_file(blob).exists()).count()
}

#[tokio::test]
async fn uploads_that_nobody_accepts_evict_little_and_a_large_manifest_nothing() {
    const MIB: usize = 1 << 20;
    let (registry, proxy) = pushing_with(|plan| plan.cache("max_size: 32MiB")).await;
    let mut session = proxy.client().session(QUAY).await;
    let mut blobs = Vec::new();
    for number in 0..28 {
        let blob = registry.push_blob("a", layer(MIB, number));
        assert_eq!(session.get(&format!("/v2/a/blobs/{blob}")).await.status, 200);
        proxy.stored(&blob).await;
        blobs.push(blob);
    }
    assert_eq!(kept(&proxy, &blobs), 28);
    // A manifest that is too large for one, with and without a length.
    let large = layer(8 * MIB, 100);
    for reference in ["1", "2"] {
        let path = format!("/v2/a/manifests/{reference}");
        send(&mut session, "PUT", &path, &[("content-type", MANIFEST)], &large).await;
        assert_eq!((kept(&proxy, &blobs), staged(&proxy)), (28, 0));
    }
    // Uploads that go on and on.
    for number in 0..6 {
        let mut location = begin(&mut session, "a", &[]).await;
        for _ in 0..4 {
            let answer = send(&mut session, "PATCH", &location, &[], &layer(MIB, 200 + number)).await;
            assert_eq!(answer.status, 202);
            location = answer.header("location").to_owned();
        }
    }
    assert!(kept(&proxy, &blobs) >= 22, "{}", kept(&proxy, &blobs));
    // What is accepted at once finds its room, and so do pulls.
    let small = layer(MIB / 2, 300);
    let digest = Digest::of(Algorithm::Sha256, &small);
    assert_eq!(push_blob(&mut session, Way::Single, "a", &digest, &small, &[]).await.status, 201);
    let pulled = registry.push_blob("a", layer(MIB, 301));
    assert_eq!(session.get(&format!("/v2/a/blobs/{pulled}")).await.status, 200);
    proxy.stored(&pulled).await;
}

#[tokio::test]
async fn an_upload_of_which_a_part_took_another_way_is_not_kept() {
    let (registry, proxy) = pushing_with(|plan| plan).await;
    let bytes = layer(3000, 1);
    let digest = Digest::of(Algorithm::Sha256, &bytes);
    let mut session = proxy.client().session(QUAY).await;
    let location = begin(&mut session, "a", &[]).await;
    assert_eq!(send(&mut session, "PATCH", &location, &[], &bytes[..1000]).await.status, 202);
    // The middle comes to the registry by another way.
    registry.script_times(1, "PUT */blobs/uploads/*", Act::Swallow);
    let put = send(&mut session, "PUT", &format!("{location}?digest={digest}"), &[], &bytes[2000..]).await;
    assert_eq!(put.status, 201);
    eventually("nothing is staged any more", || staged(&proxy) == 0).await;
    assert_eq!(proxy.files(), (0, 0));
}

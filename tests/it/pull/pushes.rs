//! Pushes fill the cache: what the registry accepted is a hit at once for who may read it, and nothing else is.

use bytes::Bytes;
use pullthrough::oci::{Algorithm, Digest};
use pullthrough::wire::Body;

use super::private::{ALICE, BOB, EXAMPLE, Lab};
use super::{QUAY, layer};
use crate::support::client::{Session, Whole, whole};
use crate::support::{Act, MANIFEST, Plan, Proxy, Registry};

/// In which requests a blob is pushed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Single,
    PostPut,
    Chunks,
}

pub(super) const WAYS: [Way; 3] = [Way::Single, Way::PostPut, Way::Chunks];

pub(super) async fn pushing() -> (Registry, Proxy) {
    pushing_with(|plan| plan).await
}

pub(super) async fn pushing_with(change: impl FnOnce(Plan) -> Plan) -> (Registry, Proxy) {
    let registry = Registry::start("quay.io");
    let plan = Plan::new().registry(&registry, "push: allow, tags: {fresh_for: 1h}");
    let proxy = change(plan).start().await;
    (registry, proxy)
}

pub(super) async fn send(
    session: &mut Session,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    bytes: &[u8],
) -> Whole {
    whole(session.send(method, path, headers, Body::full(bytes.to_vec())).await.expect("an answer comes")).await
}

/// Begins an upload; where it goes on.
pub(super) async fn begin(session: &mut Session, repository: &str, headers: &[(&str, &str)]) -> String {
    let begun = send(session, "POST", &format!("/v2/{repository}/blobs/uploads/"), headers, b"").await;
    assert_eq!(begun.status, 202);
    begun.header("location").to_owned()
}

pub(super) async fn push_blob(
    session: &mut Session,
    way: Way,
    repository: &str,
    digest: &Digest,
    bytes: &[u8],
    headers: &[(&str, &str)],
) -> Whole {
    if let Way::Single = way {
        return send(session, "POST", &format!("/v2/{repository}/blobs/uploads/?digest={digest}"), headers, bytes)
            .await;
    }
    let mut location = begin(session, repository, headers).await;
    let mut rest = bytes;
    if let Way::Chunks = way {
        for chunk in bytes.chunks(bytes.len().div_ceil(3).max(1)) {
            let answer = send(session, "PATCH", &location, headers, chunk).await;
            assert_eq!(answer.status, 202, "{:?}", answer.body);
            location = answer.header("location").to_owned();
        }
        rest = b"";
    }
    send(session, "PUT", &format!("{location}?digest={digest}"), headers, rest).await
}

pub(super) fn manifest_of(config: &Digest) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":3}},"layers":[]}}"#
    )
}

/// How many requests the registry saw with this header: nobody's are the proxy's own, for whether anybody may read.
fn asked_with(lab: &Lab, authorization: &str) -> usize {
    let requests = lab.registry.requests();
    requests.iter().filter(|seen| seen.headers.get("authorization").is_some_and(|said| said == authorization)).count()
}

/// How many requests for content the registry saw.
pub(super) fn reads(registry: &Registry) -> usize {
    registry.count("GET */blobs/sha*") + registry.count("GET */manifests/*")
}

/// Files of the cache that are on their way.
pub(super) fn staged(proxy: &Proxy) -> usize {
    proxy.files().1
}

#[tokio::test]
async fn a_pushed_blob_is_a_hit_at_once_however_it_is_pushed_and_with_the_registry_stopped() {
    let (mut registry, proxy) = pushing().await;
    let mut blobs = Vec::new();
    for (h2, algorithm) in [(false, Algorithm::Sha256), (true, Algorithm::Sha256), (false, Algorithm::Sha512)] {
        for way in WAYS {
            for length in [0, 1, 3_000_000] {
                let bytes = layer(length, blobs.len() as u64);
                let digest = Digest::of(algorithm, &bytes);
                let client = if h2 { proxy.client().h2() } else { proxy.client() };
                let mut session = client.session(QUAY).await;
                let pushed = push_blob(&mut session, way, "a", &digest, &bytes, &[]).await;
                assert_eq!(pushed.status, 201, "{way:?} {length} {:?}", pushed.body);
                let got = session.get(&format!("/v2/a/blobs/{digest}")).await;
                assert_eq!((got.status.as_u16(), got.bytes()), (200, &Bytes::from(bytes.clone())), "{way:?} {length}");
                assert!(got.header("cache-status").contains("hit"), "{way:?} {length} {}", got.header("cache-status"));
                blobs.push((digest, bytes));
            }
        }
    }
    assert_eq!((reads(&registry), registry.count("HEAD *")), (0, 1), "it was asked once whether anybody may read");
    assert_eq!(staged(&proxy), 0);
    registry.stop();
    for (digest, bytes) in blobs {
        let got = proxy.client().get(QUAY, &format!("/v2/a/blobs/{digest}")).await;
        assert_eq!((got.status.as_u16(), got.bytes()), (200, &Bytes::from(bytes)));
    }
}

#[tokio::test]
async fn a_pushed_tag_is_known_at_once_to_every_client_that_takes_its_type_and_with_the_registry_stopped() {
    let (mut registry, proxy) = pushing().await;
    registry.push_manifest("a", Some("1"), MANIFEST, r#"{"schemaVersion":2,"layers":[],"old":1}"#);
    let mut session = proxy.client().session(QUAY).await;
    let accepts =
        ["*/*", MANIFEST, "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"];
    for accept in accepts {
        assert_eq!(session.ask("GET", "/v2/a/manifests/1", &[("accept", accept)]).await.status, 200);
    }
    let config = Digest::of(Algorithm::Sha256, b"{}\n");
    assert_eq!(push_blob(&mut session, Way::PostPut, "a", &config, b"{}\n", &[]).await.status, 201);
    let manifest = manifest_of(&config);
    let digest = Digest::of(Algorithm::Sha256, manifest.as_bytes());
    let put = send(&mut session, "PUT", "/v2/a/manifests/1", &[("content-type", MANIFEST)], manifest.as_bytes()).await;
    assert_eq!(put.status, 201);
    registry.forget();
    for stopped in [false, true] {
        if stopped {
            registry.stop();
        }
        for accept in accepts {
            for reference in ["1".to_owned(), digest.to_string()] {
                for method in ["GET", "HEAD"] {
                    let path = format!("/v2/a/manifests/{reference}");
                    let got = session.ask(method, &path, &[("accept", accept)]).await;
                    assert_eq!(got.status, 200, "{method} {reference} {accept} {stopped}");
                    assert_eq!(got.header("docker-content-digest"), digest.to_string());
                    assert_eq!(got.header("content-type"), MANIFEST);
                    assert!(method == "HEAD" || got.bytes() == manifest.as_bytes());
                }
            }
        }
    }
    assert_eq!(registry.requests().len(), 0);
}

#[tokio::test]
async fn what_was_pushed_is_for_who_pushed_it_and_for_nobody_else() {
    let mut lab = Lab::new(", push: allow").await;
    let alice = lab.bearer(ALICE, "team/app").await;
    let as_alice = [("authorization", alice.as_str())];
    let bytes = layer(100_000, 1);
    let blob = Digest::of(Algorithm::Sha256, &bytes);
    let manifest = manifest_of(&blob);
    let digest = Digest::of(Algorithm::Sha256, manifest.as_bytes());
    let mut session = lab.proxy.client().session(EXAMPLE).await;
    assert_eq!(push_blob(&mut session, Way::Chunks, "team/app", &blob, &bytes, &as_alice).await.status, 201);
    let headers = [as_alice[0], ("content-type", MANIFEST)];
    let put = send(&mut session, "PUT", "/v2/team/app/manifests/1", &headers, manifest.as_bytes()).await;
    assert_eq!(put.status, 201);
    let paths = [
        format!("/v2/team/app/blobs/{blob}"),
        "/v2/team/app/manifests/1".to_owned(),
        format!("/v2/team/app/manifests/{digest}"),
    ];
    // Another token of the same credential, as a client gets for a pull.
    let again = lab.bearer(ALICE, "team/app").await;
    let bob = lab.bearer(BOB, "team/app").await;
    lab.registry.forget();
    for path in &paths {
        assert_eq!(lab.get(path, Some(&again)).await.status, 200, "{path}");
    }
    assert_eq!(asked_with(&lab, &again), 0);
    for path in &paths {
        for stranger in [Some(bob.as_str()), None] {
            let status = lab.get(path, stranger).await.status.as_u16();
            assert!(matches!(status, 401 | 403), "{path}: {status}");
        }
    }
    lab.registry.stop();
    for path in &paths {
        assert_eq!(lab.get(path, Some(&again)).await.status, 200, "{path}, stopped");
        for stranger in [Some(bob.as_str()), None] {
            let status = lab.get(path, stranger).await.status.as_u16();
            assert!(status >= 400, "{path}: {status}, stopped");
        }
    }
}

#[tokio::test]
async fn a_right_to_push_is_none_to_read_what_others_pushed() {
    let lab = Lab::new(", push: allow").await;
    let secret = lab.registry.push_blob("team/app", layer(1000, 2));
    let carol = lab.bearer(super::private::CAROL, "team/app").await;
    assert_eq!(lab.get(&format!("/v2/team/app/blobs/{secret}"), Some(&carol)).await.status, 200);
    lab.proxy.stored(&secret).await;
    // Bob's token is for writing alone: the registry accepts what he pushes, and refuses what he reads.
    let bob = lab.bearer(BOB, "team/app").await;
    let location = [("location".to_owned(), "/v2/team/app/blobs/x".to_owned())];
    for pattern in ["POST */blobs/uploads/", "PUT */manifests/*"] {
        let (status, headers, body) = (201, location.to_vec(), String::new());
        let accept = Act::Unless(lab.bearer(ALICE, "team/app").await, Box::new(Act::Answer { status, headers, body }));
        lab.registry.script(pattern, accept);
    }
    let mut session = lab.proxy.client().session(EXAMPLE).await;
    let mine = b"{}\n";
    let own = Digest::of(Algorithm::Sha256, mine);
    let manifest = manifest_of(&secret);
    let headers = [("authorization", bob.as_str()), ("content-type", MANIFEST)];
    let put = send(&mut session, "PUT", "/v2/team/app/manifests/1", &headers, manifest.as_bytes()).await;
    assert_eq!(put.status, 201);
    let pushed = push_blob(&mut session, Way::Single, "team/app", &own, mine, &headers[..1]).await;
    assert_eq!(pushed.status, 201);
    lab.registry.forget();
    assert_eq!(lab.get(&format!("/v2/team/app/blobs/{own}"), Some(&bob)).await.bytes(), &mine[..], "its own");
    assert_eq!(asked_with(&lab, &bob), 0);
    let status = lab.get(&format!("/v2/team/app/blobs/{secret}"), Some(&bob)).await.status.as_u16();
    assert!(matches!(status, 401 | 403), "{status}");
}

#[tokio::test]
async fn a_mounted_blob_is_linked_in_its_new_place_and_who_mounted_it_is_asked_for() {
    let mut lab = Lab::new(", push: allow").await;
    let bytes = layer(50_000, 3);
    let digest = lab.registry.push_blob("team/base", bytes.clone());
    let alice = lab.bearer(ALICE, "team/base").await;
    assert_eq!(lab.get(&format!("/v2/team/base/blobs/{digest}"), Some(&alice)).await.status, 200);
    lab.proxy.stored(&digest).await;
    let alice = lab.bearer(ALICE, "team/app").await;
    let bob = lab.bearer(BOB, "team/app").await;
    lab.registry.forget();
    let mount = format!("/v2/team/app/blobs/uploads/?mount={digest}&from=team/base");
    let mut session = lab.proxy.client().session(EXAMPLE).await;
    assert_eq!(send(&mut session, "POST", &mount, &[("authorization", &alice)], b"").await.status, 201);
    assert_eq!(asked_with(&lab, &alice), 2, "the mount, and whether its client may read");
    let path = format!("/v2/team/app/blobs/{digest}");
    assert_eq!(lab.get(&path, Some(&alice)).await.bytes(), &bytes);
    assert_eq!(asked_with(&lab, &alice), 2);
    lab.registry.stop();
    assert_eq!(lab.get(&path, Some(&alice)).await.bytes(), &bytes);
    assert!(lab.get(&path, Some(&bob)).await.status.as_u16() >= 400);
}

#[tokio::test]
async fn many_pushes_of_one_content_are_one_file_and_each_pusher_has_it() {
    let (registry, proxy) = pushing().await;
    let bytes = layer(1_000_000, 10);
    let digest = Digest::of(Algorithm::Sha256, &bytes);
    let push = async |way: Way, repository: &str| {
        let mut session = proxy.client().session(QUAY).await;
        push_blob(&mut session, way, repository, &digest, &bytes, &[]).await.status.as_u16()
    };
    let statuses =
        tokio::join!(push(Way::Single, "a"), push(Way::PostPut, "b"), push(Way::Chunks, "c"), push(Way::Chunks, "a"));
    assert_eq!(statuses, (201, 201, 201, 201));
    assert_eq!(proxy.files(), (1, 0));
    assert_eq!(push(Way::PostPut, "d").await, 201, "it is cached already");
    assert_eq!(proxy.files(), (1, 0));
    registry.forget();
    for repository in ["a", "b", "c", "d"] {
        let got = proxy.client().get(QUAY, &format!("/v2/{repository}/blobs/{digest}")).await;
        assert_eq!(got.bytes(), &bytes);
    }
    assert_eq!(registry.requests().len(), 0);
}

#[tokio::test]
async fn what_is_deleted_is_forgotten_at_once() {
    let (registry, proxy) = pushing().await;
    let mut session = proxy.client().session(QUAY).await;
    let bytes = layer(1000, 11);
    let blob = Digest::of(Algorithm::Sha256, &bytes);
    let manifest = manifest_of(&blob);
    let digest = Digest::of(Algorithm::Sha256, manifest.as_bytes());
    let put = async |session: &mut Session, tag: &str| {
        let path = format!("/v2/a/manifests/{tag}");
        let answer = send(session, "PUT", &path, &[("content-type", MANIFEST)], manifest.as_bytes()).await;
        assert_eq!(answer.status, 201);
    };
    assert_eq!(push_blob(&mut session, Way::PostPut, "a", &blob, &bytes, &[]).await.status, 201);
    put(&mut session, "1").await;
    put(&mut session, "2").await;
    let status = async |session: &mut Session, path: &str| session.get(path).await.status.as_u16();
    assert_eq!(session.ask("DELETE", "/v2/a/manifests/1", &[]).await.status, 202);
    assert_eq!(status(&mut session, "/v2/a/manifests/1").await, 404);
    assert_eq!(status(&mut session, "/v2/a/manifests/2").await, 200);
    let by_digest = format!("/v2/a/manifests/{digest}");
    registry.remove("a", "2");
    assert_eq!(session.ask("DELETE", &by_digest, &[]).await.status, 202);
    for path in [by_digest.as_str(), "/v2/a/manifests/2"] {
        assert_eq!(status(&mut session, path).await, 404, "{path}");
    }
    let path = format!("/v2/a/blobs/{blob}");
    assert_eq!(status(&mut session, &path).await, 200);
    assert_eq!(session.ask("DELETE", &path, &[]).await.status, 202);
    assert_eq!(status(&mut session, &path).await, 404);
}

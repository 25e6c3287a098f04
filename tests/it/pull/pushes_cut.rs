//! Pushes that are cut, refused, lied about, too large or slow: nothing of them stays, and they go on without the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body::Frame;
use http_body_util::StreamBody;
use pullthrough::oci::{Algorithm, Digest};
use pullthrough::wire::{Body, BodyError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::pushes::{WAYS, Way, begin, manifest_of, push_blob, pushing, pushing_with, reads, send, staged};
use super::{QUAY, layer};
use crate::support::client::whole;
use crate::support::{Act, Gate, MANIFEST, Plan, Play, Raw, Registry, Setup, eventually, until};

#[tokio::test]
async fn only_what_the_registry_accepted_of_the_bytes_that_came_is_kept() {
    let bytes = layer(200_000, 4);
    let (right, wrong) = (Digest::of(Algorithm::Sha256, &bytes), Digest::of(Algorithm::Sha256, b"other"));
    let (registry, proxy) = pushing().await;
    let accepted = |headers: &[(&str, &str)]| Act::Answer {
        status: 201,
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        body: String::new(),
    };
    let mut session = proxy.client().session(QUAY).await;
    // It accepts other bytes than came.
    let line = registry.script("*/blobs/uploads/*", Act::Swallow);
    for way in WAYS {
        assert_eq!(push_blob(&mut session, way, "a", &wrong, &bytes, &[]).await.status, 201, "{way:?}");
    }
    registry.unscript(line);
    // It says that it accepted another content.
    let other = wrong.to_string();
    let line = registry.script("PUT */blobs/uploads/*", accepted(&[("docker-content-digest", other.as_str())]));
    assert_eq!(push_blob(&mut session, Way::Chunks, "a", &right, &bytes, &[]).await.status, 201);
    registry.unscript(line);
    // It refuses them.
    for status in [400, 404, 416, 500] {
        let line = registry.script("PUT */blobs/uploads/*", Act::Status(status));
        let answer = push_blob(&mut session, Way::PostPut, "a", &right, &bytes, &[]).await;
        assert_eq!(answer.status.as_u16(), status);
        registry.unscript(line);
        session = proxy.client().session(QUAY).await;
    }
    // It answers with 200, which is no acceptance.
    let line = registry.script("PUT */blobs/uploads/*", Act::Status(200));
    push_blob(&mut session, Way::Chunks, "a", &right, &bytes, &[]).await;
    registry.unscript(line);
    // A manifest that is none, and one that it takes for another.
    send(&mut session, "PUT", "/v2/a/manifests/1", &[("content-type", MANIFEST)], b"<html>").await;
    let manifest = manifest_of(&right);
    let line = registry.script("PUT */manifests/*", accepted(&[("docker-content-digest", other.as_str())]));
    send(&mut session, "PUT", "/v2/a/manifests/2", &[("content-type", MANIFEST)], manifest.as_bytes()).await;
    registry.unscript(line);
    eventually("nothing is staged any more", || staged(&proxy) == 0).await;
    assert_eq!(proxy.files(), (0, 0));
}

#[tokio::test]
async fn a_push_that_is_accepted_before_it_was_sent_is_not_kept() {
    let (registry, proxy) = pushing().await;
    let digest = Digest::of(Algorithm::Sha256, b"whole");
    let accepted = Act::Answer { status: 201, headers: Vec::new(), body: String::new() };
    registry.script("PUT */blobs/uploads/*", accepted);
    let mut session = proxy.client().h2().session(QUAY).await;
    let location = begin(&mut session, "a", &[]).await;
    let (sender, body) = fed();
    sender.send(Bytes::from_static(b"who")).await.unwrap();
    let path = format!("{location}?digest={digest}");
    let answer = session.send("PUT", &path, &[], body).await.unwrap();
    assert_eq!(answer.status(), 201);
    drop(answer);
    drop(sender);
    eventually("nothing is staged any more", || staged(&proxy) == 0).await;
    assert_eq!(proxy.files(), (0, 0));
}

#[tokio::test]
async fn the_early_answer_of_a_registry_that_closes_reaches_the_client() {
    let answer = "HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge";
    let registry = Raw::start("quay.io", b"http/1.1", Play::Once(answer.into()));
    let proxy = Plan::new().raw_registry(&registry.entry("quay.io", ", push: allow")).start().await;
    for client in [proxy.client(), proxy.client().h2()] {
        for time in 0..20 {
            let mut session = client.session(QUAY).await;
            let pieces =
                futures_util::stream::iter(0..384).map(|_| Ok::<_, BodyError>(Frame::data(vec![0; 64 << 10].into())));
            let body = Body::wrap(StreamBody::new(pieces));
            let answer = whole(session.send("PUT", "/v2/a/blobs/uploads/1", &[], body).await.unwrap()).await;
            assert_eq!((answer.status.as_u16(), &answer.bytes()[..]), (413, &b"large"[..]), "{time}");
        }
    }
}

/// A body that is fed.
fn fed() -> (tokio::sync::mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|bytes| (Ok::<_, BodyError>(Frame::data(bytes)), receiver))
    });
    (sender, Body::wrap(StreamBody::new(Box::pin(pieces))))
}

#[tokio::test]
async fn a_cut_push_leaves_nothing_behind() {
    let (registry, proxy) = pushing().await;
    let bytes = layer(300_000, 5);
    let digest = Digest::of(Algorithm::Sha256, &bytes);
    // Its client leaves in the middle of a request.
    for h2 in [false, true] {
        let client = if h2 { proxy.client().h2() } else { proxy.client() };
        let mut session = client.session(QUAY).await;
        let location = begin(&mut session, "a", &[]).await;
        let (sender, body) = fed();
        let path = format!("{location}?digest={digest}");
        let before = registry.uploaded();
        let sending = tokio::spawn(async move { session.send("PUT", &path, &[], body).await.is_ok() });
        sender.send(Bytes::from(bytes[..200_000].to_vec())).await.unwrap();
        eventually("the bytes arrive and are staged", || {
            registry.uploaded() - before == 200_000 && staged(&proxy) == 1
        })
        .await;
        sending.abort();
        let _ = sending.await;
        drop(sender);
        eventually("its file is gone", || staged(&proxy) == 0).await;
    }
    // Its client ends the upload; the registry does not know where a chunk begins; a chunk comes twice.
    let mut session = proxy.client().session(QUAY).await;
    let location = begin(&mut session, "a", &[]).await;
    assert_eq!(send(&mut session, "PATCH", &location, &[], &bytes[..100]).await.status, 202);
    assert_eq!(staged(&proxy), 1, "it waits for the next chunk");
    assert_eq!(session.ask("DELETE", &location, &[]).await.status, 204);
    eventually("its file is gone", || staged(&proxy) == 0).await;
    let location = begin(&mut session, "a", &[]).await;
    for (range, status) in [("0-99", 202), ("50-149", 416), ("100-199", 202)] {
        let from: usize = range.split('-').next().unwrap().parse().unwrap();
        let chunk = &bytes[from..from + 100];
        let answer = send(&mut session, "PATCH", &location, &[("content-range", range)], chunk).await;
        assert_eq!(answer.status, status, "{range}");
    }
    eventually("its file is gone", || staged(&proxy) == 0).await;
    let put = send(
        &mut session,
        "PUT",
        &format!("{location}?digest={}", Digest::of(Algorithm::Sha256, &bytes[..200])),
        &[],
        b"",
    )
    .await;
    assert_eq!(put.status, 201, "the push goes on without being cached");
    assert_eq!(proxy.files(), (0, 0));
}

#[tokio::test]
async fn uploads_that_wait_die_with_the_proxy() {
    let (_registry, mut proxy) = pushing().await;
    let mut session = proxy.client().session(QUAY).await;
    let location = begin(&mut session, "a", &[]).await;
    assert_eq!(send(&mut session, "PATCH", &location, &[], &layer(1000, 6)).await.status, 202);
    assert_eq!(staged(&proxy), 1);
    drop(session);
    assert!(proxy.stop().await);
    assert_eq!(proxy.files(), (0, 0));
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle_of_an_upload_costs_the_cache_nothing() {
    let (registry, proxy) = pushing().await;
    let bytes = layer(100_000, 7);
    let digest = Digest::of(Algorithm::Sha256, &bytes);
    let mut session = proxy.client().session(QUAY).await;
    let location = begin(&mut session, "a", &[]).await;
    assert_eq!(send(&mut session, "PATCH", &location, &[], &bytes).await.status, 202);
    registry.script_times(1, "PUT */blobs/uploads/*", Act::Status(401));
    let path = format!("{location}?digest={digest}");
    assert_eq!(send(&mut session, "PUT", &path, &[], b"").await.status, 401);
    assert_eq!(send(&mut session, "PUT", &path, &[], b"").await.status, 201);
    assert_eq!(session.get(&format!("/v2/a/blobs/{digest}")).await.bytes(), &bytes);
    assert_eq!(reads(&registry), 0);
}

#[tokio::test]
async fn a_push_larger_than_the_cache_passes_unstaged_and_evicts_nothing() {
    let (registry, proxy) = pushing_with(|plan| plan.cache("max_size: 1MiB")).await;
    let mut session = proxy.client().session(QUAY).await;
    let small = layer(200_000, 8);
    let kept = Digest::of(Algorithm::Sha256, &small);
    assert_eq!(push_blob(&mut session, Way::PostPut, "a", &kept, &small, &[]).await.status, 201);
    let large = layer(3_000_000, 9);
    let digest = Digest::of(Algorithm::Sha256, &large);
    for way in WAYS {
        assert_eq!(push_blob(&mut session, way, "a", &digest, &large, &[]).await.status, 201, "{way:?}");
        assert_eq!(registry.blob("a", &digest).unwrap(), large, "{way:?}");
    }
    eventually("nothing is staged any more", || staged(&proxy) == 0).await;
    assert!(!proxy.blob_file(&digest).exists() && proxy.blob_file(&kept).exists());
}

#[tokio::test]
async fn a_slow_registry_slows_its_client_and_no_bytes_pile_up() {
    const LENGTH: u64 = 64 << 20;
    /// Buffers of sockets and connections, and what waits for the disk.
    const UNDER_WAY: u64 = 24 << 20;
    let (registry, proxy) = pushing().await;
    registry.script("PUT */blobs/uploads/*", Act::Swallow);
    let gate = Gate::new();
    registry.script("PUT */blobs/uploads/*", Act::Wait(gate.clone()));
    let piece = Bytes::from(vec![7; 64 << 10]);
    let mut hasher = pullthrough::oci::Hasher::new(Algorithm::Sha256);
    (0..LENGTH / piece.len() as u64).for_each(|_| hasher.update(&piece));
    let digest = hasher.finish();
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    let pieces = futures_util::stream::iter(0..LENGTH / piece.len() as u64).map(move |_| {
        counted.fetch_add(piece.len() as u64, Ordering::SeqCst);
        Ok::<_, BodyError>(Frame::data(piece.clone()))
    });
    let pieces = Body::wrap(StreamBody::new(pieces));
    let mut session = proxy.client().session(QUAY).await;
    let location = begin(&mut session, "a", &[]).await;
    let path = format!("{location}?digest={digest}");
    let pushing = tokio::spawn(async move {
        let headers = [("content-length", "67108864")];
        session.send("PUT", &path, &headers, pieces).await.unwrap().status().as_u16()
    });
    let mut last = u64::MAX;
    until("its client is not read any more", async || {
        let now = sent.load(Ordering::SeqCst);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        now > 0 && std::mem::replace(&mut last, now) == now
    })
    .await;
    assert!(sent.load(Ordering::SeqCst) <= UNDER_WAY, "{}", sent.load(Ordering::SeqCst));
    gate.open();
    let mut most = 0;
    while !pushing.is_finished() {
        let before = registry.uploaded();
        most = most.max(sent.load(Ordering::SeqCst).saturating_sub(registry.uploaded().max(before)));
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(pushing.await.unwrap(), 201);
    assert!(most <= UNDER_WAY, "{most}");
    assert!(proxy.blob_file(&digest).exists());
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_go_on_is_refused_before_it_sends_and_else_told() {
    let registry = Registry::with(Setup { h2: false, ..Setup::named("quay.io") });
    let proxy = Plan::new().registry(&registry, "push: allow").start().await;
    let digest = Digest::of(Algorithm::Sha256, b"waited");
    for status in [401, 413, 201] {
        let mut session = proxy.client().session(QUAY).await;
        let location = begin(&mut session, "a", &[]).await;
        let refused = (status != 201).then(|| registry.script("PUT */blobs/uploads/*", Act::Status(status)));
        let before = registry.uploaded();
        let mut stream = proxy.client().tls(QUAY).await.unwrap();
        let head = format!(
            "PUT {location}?digest={digest} HTTP/1.1\r\nHost: quay.io\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut line = first_line(&mut stream).await;
        if status == 201 {
            assert_eq!(line, "HTTP/1.1 100 Continue");
            assert_eq!(first_line(&mut stream).await, "");
            stream.write_all(b"waited").await.unwrap();
            line = first_line(&mut stream).await;
        }
        assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{line}");
        assert_eq!(registry.uploaded() - before, if status == 201 { 6 } else { 0 });
        refused.into_iter().for_each(|line| registry.unscript(line));
    }
    assert_eq!(proxy.client().get(QUAY, &format!("/v2/a/blobs/{digest}")).await.bytes(), &b"waited"[..]);
    assert_eq!(reads(&registry), 0);
}

async fn first_line(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8_lossy(&line).trim_end().to_owned()
}

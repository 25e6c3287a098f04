//! Connections: how many, how long, and what their end means.

use super::*;

/// Long enough for a loaded machine to do its part, short enough to wait for.
const SHORT: Period = Period(Duration::from_millis(500));

#[tokio::test]
async fn a_connection_is_kept_and_used_again() {
    for h2 in [false, true] {
        let registry = Registry::with(Setup { h2, ..Setup::named("quay.io") });
        let digest = registry.push_blob("a", vec![7; 100_000]);
        let upstream = upstream(&Config::default(), &[&registry]);
        for _ in 0..5 {
            let answer = upstream.fetch(&endpoint(&registry), get(&format!("/v2/a/blobs/{digest}"))).await.unwrap();
            assert_eq!(bytes(answer).await.unwrap().len(), 100_000);
        }
        assert_eq!((registry.count("GET *"), registry.connections()), (5, 1), "h2: {h2}");
    }
}

#[tokio::test]
async fn a_redirects_connection_is_used_again() {
    let registry = Registry::with(Setup { h2: false, ..Setup::named("quay.io") });
    let cdn = registry.sibling(Setup { h2: false, ..Setup::named("cdn.quay.io") });
    let digest = registry.push_blob("a", &b"bytes"[..]);
    registry.redirect_blobs(&cdn.url());
    let upstream = upstream(&hosts(&[&cdn]), &[&registry]);
    for _ in 0..3 {
        let answer = upstream.fetch(&endpoint(&registry), get(&format!("/v2/a/blobs/{digest}"))).await.unwrap();
        assert_eq!(bytes(answer).await.unwrap(), "bytes");
    }
    assert_eq!((registry.connections(), cdn.connections()), (1, 1));
}

#[tokio::test]
async fn http2_carries_many_bodies_over_one_connection() {
    let registry = Registry::start("quay.io");
    let digest = registry.push_blob("a", vec![7; 3_000_000]);
    let upstream = upstream(&Config::default(), &[&registry]);
    let path = format!("/v2/a/blobs/{digest}");
    let warm = upstream.fetch(&endpoint(&registry), get("/v2/")).await.unwrap();
    bytes(warm).await.unwrap();
    let to = endpoint(&registry);
    let fetches = (0..8).map(|_| async { bytes(upstream.fetch(&to, get(&path)).await.unwrap()).await.unwrap().len() });
    assert_eq!(futures_util::future::join_all(fetches).await, [3_000_000; 8]);
    assert_eq!(registry.connections(), 1);
}

#[tokio::test]
async fn pooled_connections_that_died_are_replaced_unseen() {
    for h2 in [false, true] {
        let mut registry = Registry::with(Setup { h2, ..Setup::named("quay.io") });
        let upstream = upstream(&Config::default(), &[&registry]);
        let to = endpoint(&registry);
        let gate = Gate::new();
        let line = registry.script("*", Act::Wait(gate.clone()));
        let first = futures_util::future::join_all((0..3).map(|_| upstream.fetch(&to, get("/v2/"))));
        let opened = async {
            eventually("three requests are under way", || registry.count("*") == 3).await;
            gate.open();
        };
        for answer in futures_util::future::join(first, opened).await.0 {
            bytes(answer.unwrap()).await.unwrap();
        }
        registry.unscript(line);
        registry.stop();
        registry.start_again();
        assert_eq!(upstream.fetch(&to, get("/v2/")).await.unwrap().status(), 200, "h2: {h2}");
        assert_eq!(registry.count("*"), 4);
    }
}

#[tokio::test]
async fn a_request_that_is_reset_on_a_new_connection_is_not_repeated() {
    for h2 in [false, true] {
        let registry = Registry::with(Setup { h2, ..Setup::named("quay.io") });
        registry.script("*", Act::Reset);
        let error =
            upstream(&Config::default(), &[&registry]).fetch(&endpoint(&registry), get("/v2/")).await.unwrap_err();
        assert!(matches!(error, Error::Exchange { .. }), "{error:?}");
        assert_eq!(registry.count("*"), 1, "h2: {h2}");
    }
}

#[tokio::test]
async fn a_refused_connection_makes_the_endpoint_ill_and_an_answer_well() {
    let (mut one, two) = (Registry::start("quay.io"), Registry::start("mirror.example"));
    let upstream = upstream(&Config::default(), &[&one, &two]);
    let ends = [endpoint(&one), endpoint(&two)];
    assert_eq!(upstream.order(&ends), [&ends[0], &ends[1]]);
    one.stop();
    let error = upstream.send(&ends[0], exchange("/v2/")).await.unwrap_err();
    assert!(matches!(error, Error::Connect { address, .. } if address == one.address()), "{error:?}");
    assert!(!upstream.is_well(&ends[0]));
    assert_eq!(upstream.order(&ends), [&ends[1], &ends[0]]);
    one.start_again();
    assert_eq!(upstream.send(&ends[0], exchange("/v2/")).await.unwrap().status(), 200);
    assert_eq!(upstream.order(&ends), [&ends[0], &ends[1]]);
    one.script("*", Act::Status(503));
    assert_eq!(upstream.fetch(&ends[0], get("/v2/")).await.unwrap().status(), 503);
    assert_eq!(upstream.order(&ends), [&ends[1], &ends[0]]);
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_given_up_in_time() {
    let registry = Registry::start("quay.io");
    registry.hang(true);
    let upstream = upstream(&Config { connect_timeout: SHORT, ..Config::default() }, &[&registry]);
    let error = upstream.send(&endpoint(&registry), exchange("/v2/")).await.unwrap_err();
    assert!(matches!(error, Error::ConnectTimeout { .. }) && error.is_timeout(), "{error:?}");
    assert!(!upstream.is_well(&endpoint(&registry)));
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_given_up_in_time() {
    let registry = Registry::start("quay.io");
    registry.script("*", Act::Silence);
    let upstream = upstream(&Config { first_byte_timeout: SHORT, ..Config::default() }, &[&registry]);
    let error = upstream.fetch(&endpoint(&registry), get("/v2/")).await.unwrap_err();
    assert!(matches!(error, Error::FirstByteTimeout { .. }), "{error:?}");
}

#[tokio::test]
async fn a_stalled_body_ends_in_an_error_that_says_so() {
    for h2 in [false, true] {
        let registry = Registry::with(Setup { h2, ..Setup::named("quay.io") });
        let digest = registry.push_blob("a", vec![7; 100_000]);
        registry.script("*/blobs/*", Act::Stall(50_000));
        let upstream = upstream(&Config { idle_timeout: SHORT, ..Config::default() }, &[&registry]);
        let answer = upstream.fetch(&endpoint(&registry), get(&format!("/v2/a/blobs/{digest}"))).await.unwrap();
        let error = bytes(answer).await.unwrap_err();
        assert!(matches!(Error::of_body(&error), Some(Error::Idle { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn a_cut_body_ends_in_an_error_after_what_came() {
    for h2 in [false, true] {
        let registry = Registry::with(Setup { h2, ..Setup::named("quay.io") });
        let digest = registry.push_blob("a", vec![7; 100_000]);
        registry.script("*/blobs/*", Act::Cut(50_000));
        let upstream = upstream(&Config::default(), &[&registry]);
        let answer = upstream.fetch(&endpoint(&registry), get(&format!("/v2/a/blobs/{digest}"))).await.unwrap();
        let error = bytes(answer).await.unwrap_err();
        let error = Error::of_body(&error).unwrap();
        assert!(matches!(error, Error::Exchange { .. }) && error.retry() == RetryAdvice::SameEndpoint, "{error:?}");
    }
}

#[tokio::test]
async fn a_long_upload_is_not_a_silent_upstream() {
    let registry = Registry::start("quay.io");
    let upstream = upstream(&Config { first_byte_timeout: SHORT, ..Config::default() }, &[&registry]);
    let pace = tokio::time::interval(SHORT.0 / 8); // twenty pieces last more than twice the timeout
    let pieces = futures_util::stream::unfold((0, pace), |(count, mut pace)| async move {
        pace.tick().await;
        let piece = Ok::<_, BodyError>(http_body::Frame::data(bytes::Bytes::from_static(b"piece")));
        (count < 20).then_some((piece, (count + 1, pace)))
    });
    let body = Body::wrap(http_body_util::StreamBody::new(Box::pin(pieces)));
    let request = Request::post("/v2/a/blobs/uploads/").body(body).unwrap();
    assert_eq!(upstream.send(&endpoint(&registry), request).await.unwrap().status(), 202);
    assert_eq!(registry.uploaded(), 100);
}

#[tokio::test]
async fn an_upload_streams_before_it_is_whole() {
    let registry = Registry::start("quay.io");
    let upstream = upstream(&Config::default(), &[&registry]);
    let (sender, receiver) = tokio::sync::mpsc::channel::<&'static [u8]>(16);
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((Ok::<_, BodyError>(http_body::Frame::data(bytes::Bytes::from_static(piece))), receiver))
    });
    let body = Body::wrap(http_body_util::StreamBody::new(Box::pin(pieces)));
    let to = endpoint(&registry);
    let sending = tokio::spawn(async move {
        upstream.send(&to, Request::patch("/v2/a/blobs/uploads/u").body(body).unwrap()).await.unwrap().status()
    });
    sender.send(b"first").await.unwrap();
    eventually("the first piece arrives before the second is written", || registry.uploaded() == 5).await;
    sender.send(b"second").await.unwrap();
    drop(sender);
    assert_eq!(sending.await.unwrap(), 202);
}

#[tokio::test]
async fn a_body_that_the_client_breaks_off_is_the_clients_fault_and_is_not_replayed() {
    for h2 in [false, true] {
        let registry = Registry::with(Setup { h2, ..Setup::named("quay.io") });
        let upstream = upstream(&Config::default(), &[&registry]);
        let pieces =
            [Ok(http_body::Frame::data(bytes::Bytes::from_static(b"half"))), Err(BodyError::new("client left"))];
        let body = Body::wrap(http_body_util::StreamBody::new(futures_util::stream::iter(pieces)));
        let request = Request::post("/v2/a/blobs/uploads/").body(body).unwrap();
        let error = upstream.send(&endpoint(&registry), request).await.unwrap_err();
        assert!(matches!(error, Error::RequestBody { .. }), "h2: {h2}: {error:?}");
        assert!(error.side() == Side::Client && error.retry() == RetryAdvice::Never);
        assert!(upstream.is_well(&endpoint(&registry)) && registry.count("*") <= 1);
    }
}

#[tokio::test]
async fn an_exchange_that_is_dropped_is_closed_upstream() {
    let registry = Registry::with(Setup { h2: false, ..Setup::named("quay.io") });
    let gate = Gate::new();
    let digest = registry.push_blob("a", vec![7; 100_000]);
    registry.script("*/blobs/*", Act::Hold(10, gate.clone()));
    let upstream = upstream(&Config::default(), &[&registry]);
    let answer = upstream.fetch(&endpoint(&registry), get(&format!("/v2/a/blobs/{digest}"))).await.unwrap();
    assert_eq!(registry.open_connections(), 1);
    drop(answer);
    eventually("the connection is closed", || registry.open_connections() == 0).await;
}

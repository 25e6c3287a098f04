//! Tests what evidence and probes make of a registry's state.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use http::uri::PathAndQuery;
use tokio::time::Instant;

use super::named::NamedNow;
use super::state::Outage;
use super::ward::{FIRST, LONGEST, Probed, SAME};
use super::{OutagePart, Probe};
use crate::oci::Authority;
use crate::upstream::{Endpoint, Error};

fn endpoint(host: &str) -> Endpoint {
    Endpoint::of_host(&Authority::parse(host, 443).unwrap())
}

fn quay() -> (Outage, Endpoint) {
    let home = endpoint("quay.io");
    (Outage::new(vec![home.clone()], vec![endpoint("mirror.test")]), home)
}

fn refused() -> Error {
    let to = Authority::parse("quay.io", 443).unwrap();
    Error::ConnectTimeout { to, is_reached: false, after: FIRST }
}

fn pause(outage: &Outage, part: &OutagePart) -> Option<Duration> {
    outage.pause(part, outage.number(part)).map(|(pause, _)| pause)
}

const OK: Result<StatusCode, &Error> = Ok(StatusCode::OK);
const ERROR: Result<StatusCode, &Error> = Ok(StatusCode::BAD_GATEWAY);

#[tokio::test(start_paused = true)]
async fn the_first_missed_deadline_and_a_probe_open_it_for_all_and_nobody_else_waits() {
    let (outage, home) = quay();
    let (missed, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let began = Instant::now();
    let callers = (0..100).map(|number| {
        let (outage, home, missed, asked) = (outage.clone(), home.clone(), missed.clone(), asked.clone());
        async move {
            tokio::time::sleep(Duration::from_millis(200 * number)).await;
            if outage.admit(home.authority(), false).await.is_err() {
                return;
            }
            asked.fetch_add(1, Ordering::Relaxed);
            let begun = Instant::now();
            tokio::select! {
                () = outage.opened() => {}
                () = tokio::time::sleep(Duration::from_secs(10)) => {
                    missed.fetch_add(1, Ordering::Relaxed);
                    let part = outage.missed(&home, None, begun).unwrap();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    assert!(!outage.probed(&part, Probed::Silence, &[]));
                }
            }
        }
    });
    futures_util::future::join_all(callers).await;
    assert_eq!(missed.load(Ordering::Relaxed), 1);
    assert!(asked.load(Ordering::Relaxed) <= 51, "who came after 10 s has asked nobody");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a_storm_makes_it_suspect_and_single_errors_throttles_and_refusals_do_not() {
    let (outage, home) = quay();
    for _ in 0..10 {
        assert_eq!(outage.note(&home, None, Instant::now(), ERROR), None);
        assert_eq!(outage.note(&home, None, Instant::now(), ERROR), None);
        assert_eq!(outage.note(&home, None, Instant::now(), OK), None);
    }
    for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::UNAUTHORIZED, StatusCode::NOT_FOUND] {
        for _ in 0..10 {
            assert_eq!(outage.note(&home, None, Instant::now(), Ok(status)), None);
        }
    }
    let error = |path: &'static str| outage.note(&home, Some(&PathAndQuery::from_static(path)), Instant::now(), ERROR);
    for _ in 0..10 {
        assert_eq!(error("/v2/a/manifests/x"), None, "one thing, however often it is asked for");
        assert_eq!(error("/v2/a/tags/list"), None, "what clients ask as they like");
    }
    tokio::time::advance(FIRST).await;
    assert_eq!(error("/v2/a/manifests/y"), None);
    assert_eq!(error("/v2/a/manifests/z"), Some(OutagePart::Home));
    assert!(!outage.is_open() && outage.admit(home.authority(), false).await.is_ok(), "nobody waits or is refused");
    assert_eq!(error("/v2/a/manifests/w"), None, "one probe asks");
    assert!(outage.probed(&OutagePart::Home, Probed::Well, std::slice::from_ref(&home)));
    for path in ["/v2/a/manifests/1", "/v2/a/manifests/2", "/v2/a/manifests/3", "/v2/a/manifests/4"] {
        assert_eq!(error(path), None, "not again so soon");
    }
    tokio::time::advance(FIRST).await;
    assert_eq!(error("/v2/a/manifests/5"), Some(OutagePart::Home));
    assert!(!outage.probed(&OutagePart::Home, Probed::Error, &[]) && outage.is_open(), "by errors, and one more");
    assert!(outage.admit(home.authority(), false).await.is_ok(), "some are let through to see");
    tokio::time::advance(FIRST).await;
    outage.note(&home, None, Instant::now(), OK);
    assert!(!outage.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_is_an_error_confirms_no_silence() {
    let (outage, home) = quay();
    assert_eq!(outage.note(&home, None, Instant::now(), Err(&refused())), Some(OutagePart::Home));
    assert!(outage.probed(&OutagePart::Home, Probed::Error, &[]) && !outage.is_open());
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_hears_of_a_silence_that_came_and_went_while_nobody_looked() {
    let (outage, home) = quay();
    let mut recovered = std::pin::pin!(outage.recovered(home.authority()));
    assert!(futures_util::poll!(recovered.as_mut()).is_pending());
    tokio::time::advance(FIRST).await;
    assert!(outage.note(&home, None, Instant::now(), Err(&refused())).is_some());
    assert!(outage.probed(&OutagePart::Home, Probed::Well, std::slice::from_ref(&home)));
    recovered.await;
    assert_eq!(outage.opened_at(home.authority()), Some(outage.changed()));
    let mut again = std::pin::pin!(outage.recovered(home.authority()));
    assert!(futures_util::poll!(again.as_mut()).is_pending(), "that was before");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_answered_somebody_since_is_slow_and_not_away() {
    let (outage, home) = quay();
    let begun = Instant::now();
    tokio::time::advance(FIRST).await;
    outage.note(&home, None, Instant::now(), OK);
    assert_eq!(outage.missed(&home, None, begun), None);
    tokio::time::advance(FIRST).await;
    assert_eq!(outage.missed(&home, None, Instant::now()), Some(OutagePart::Home));
}

#[tokio::test(start_paused = true)]
async fn a_mirror_is_no_part_of_it_and_a_second_endpoint_answers_for_the_first() {
    let (one, two, mirror) = (endpoint("one.test"), endpoint("two.test"), endpoint("mirror.test"));
    let outage = Outage::new(vec![one.clone(), two.clone()], vec![mirror.clone()]);
    assert!(outage.covers(&one) && outage.covers(&endpoint("auth.test")) && !outage.covers(&mirror));
    let refused = refused();
    assert_eq!(outage.note(&one, None, Instant::now(), Err(&refused)), None);
    assert_eq!(outage.note(&one, None, Instant::now(), Err(&refused)), None);
    assert_eq!(outage.note(&two, None, Instant::now(), Err(&refused)), Some(OutagePart::Home));
    assert!(!outage.probed(&OutagePart::Home, Probed::Silence, &[]) && outage.is_home_away());
    assert!(outage.probed(&OutagePart::Home, Probed::Well, &[two]), "one of them is enough");
}

#[tokio::test(start_paused = true)]
async fn a_token_service_bars_who_needs_a_token_and_a_redirects_host_itself_alone_for_a_while() {
    let (outage, home) = quay();
    let (auth, refused) = (endpoint("auth.test"), refused());
    outage.heard_realm("https://auth.test/token");
    let target = PathAndQuery::from_static("/token?service=quay.io");
    let page = PathAndQuery::from_static("/slow/page");
    for _ in 0..10 {
        assert_eq!(outage.note(&auth, Some(&target), Instant::now(), ERROR), None, "clients make up what it is asked");
        assert_eq!(outage.missed(&auth, Some(&page), Instant::now()), None);
    }
    let part = OutagePart::Realm(auth.clone());
    assert_eq!(outage.note(&auth, Some(&target), Instant::now(), Err(&refused)), Some(part.clone()));
    assert!(!outage.probed(&part, Probed::Silence, &[]));
    assert!(outage.is_open() && !outage.is_home_away());
    assert!(outage.admit(home.authority(), true).await.is_ok(), "who has a token goes on");
    assert!(outage.admit(home.authority(), false).await.is_err());
    assert!(outage.admit(auth.authority(), true).await.is_err());
    for _ in 0..10 {
        assert!(!outage.probed(&part, Probed::Silence, &[]));
    }
    assert!(outage.probed(&part, Probed::Error, &[]), "it is there");
    let cdn = Authority::parse("cdn.test", 443).unwrap();
    let part = OutagePart::Elsewhere(cdn.clone());
    assert_eq!(outage.note_elsewhere(&cdn, Instant::now(), Err(&refused)), Some(part.clone()));
    assert!(!outage.probed(&part, Probed::Silence, &[]) && !outage.is_open());
    assert!(outage.admit(&cdn, false).await.is_err() && outage.admit(home.authority(), false).await.is_ok());
    for closes in [false, false, true] {
        assert_eq!(outage.probed(&part, Probed::Silence, &[]), closes);
    }
    assert!(outage.admit(&cdn, false).await.is_ok());
    tokio::time::advance(FIRST).await;
    assert_eq!(outage.note(&home, None, Instant::now(), Err(&refused)), Some(OutagePart::Home));
    assert!(!outage.probed(&OutagePart::Home, Probed::Silence, &[]) && outage.is_home_away());
    assert!(outage.admit(&cdn, true).await.is_err() && outage.admit(auth.authority(), true).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn probes_grow_rare_and_what_was_asked_before_a_change_says_nothing() {
    let (outage, home) = quay();
    let early = Instant::now();
    tokio::time::advance(FIRST).await;
    let error = refused();
    let opens = || outage.note(&home, None, Instant::now(), Err(&error)).is_some();
    assert!(opens());
    let pauses = (0..8).map(|_| {
        outage.probed(&OutagePart::Home, Probed::Silence, &[]);
        pause(&outage, &OutagePart::Home).unwrap().as_millis()
    });
    assert_eq!(pauses.collect::<Vec<_>>(), [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
    assert!(outage.probed(&OutagePart::Home, Probed::Well, std::slice::from_ref(&home)));
    assert_eq!(outage.note(&home, None, early, Err(&error)), None, "asked before the registry came back");
    tokio::time::advance(FIRST).await;
    assert!(opens() && !outage.probed(&OutagePart::Home, Probed::Silence, &[]));
    assert_eq!(pause(&outage, &OutagePart::Home), Some(LONGEST), "the same outage");
    outage.probed(&OutagePart::Home, Probed::Well, std::slice::from_ref(&home));
    tokio::time::advance(SAME).await;
    assert!(opens() && !outage.probed(&OutagePart::Home, Probed::Silence, &[]));
    assert_eq!(pause(&outage, &OutagePart::Home), Some(FIRST));
}

#[tokio::test]
async fn a_registry_that_redirects_everywhere_fills_no_memory_with_what_is_watched() {
    let (outage, _) = quay();
    let suspects = (0..1000).filter(|number| {
        let host = Authority::parse(&format!("h{number}.test"), 443).unwrap();
        outage.note_elsewhere(&host, Instant::now(), Err(&refused())).is_some()
    });
    assert_eq!(suspects.count(), 64);
}

#[tokio::test]
async fn a_probe_ends_with_the_registry() {
    let (outage, home) = quay();
    outage.note(&home, None, Instant::now(), Err(&refused()));
    let probe = Probe::of(&outage, OutagePart::Home);
    assert!(probe.pause().is_some());
    drop(outage);
    assert!(probe.pause().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_outage_goes_on_across_reloads_and_ends_with_its_whole_length() {
    let (outage, home) = quay();
    let part = outage.missed(&home, None, Instant::now()).unwrap();
    outage.presume_silence(&part, FIRST);
    assert!(!outage.probed(&part, Probed::Silence, &[]));
    assert!(outage.tell(&part).is_some());
    tokio::time::advance(Duration::from_secs(100)).await;
    let mut reloaded = quay().0.after(&outage);
    // Another reload comes before the first one's probe is done.
    for _ in 0..2 {
        assert!(reloaded.is_home_missing() && !reloaded.is_home_away());
        reloaded = quay().0.after(&reloaded);
    }
    let part = reloaded.doubt().unwrap();
    reloaded.presume_silence(&part, FIRST);
    assert!(!reloaded.probed(&part, Probed::Silence, &[]));
    assert!(reloaded.words()[0].contains("for 1m 40s now"), "{:?}", reloaded.words());
    assert!(reloaded.tell(&part).is_none(), "the log has told it");
    tokio::time::advance(Duration::from_secs(20)).await;
    assert!(reloaded.probed(&part, Probed::Well, &[home]));
    assert_eq!(reloaded.take_back(&part), Some(Duration::from_secs(120)));
    assert!(!reloaded.is_home_missing() && reloaded.take_back(&part).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_token_service_that_no_challenge_names_any_more_bars_nobody() {
    let (outage, home) = quay();
    let (gone, refused) = (endpoint("gone.test"), refused());
    let part = OutagePart::Realm(gone.clone());
    let suspect = || outage.note(&gone, None, Instant::now(), Err(&refused)) == Some(part.clone());
    let is_barred = async || outage.admit(home.authority(), false).await.is_err();
    outage.heard_realm("https://gone.test/token");
    tokio::time::advance(FIRST).await;
    assert!(suspect() && !outage.give_up(&part, NamedNow::Named));
    assert!(!outage.probed(&part, Probed::Silence, &[]) && is_barred().await);
    assert!(outage.give_up(&part, NamedNow::Others) && !outage.is_open() && !is_barred().await);
    // What was remembered of it leads there once more, and no challenge does.
    tokio::time::advance(FIRST).await;
    assert!(suspect() && outage.give_up(&part, NamedNow::Others) && !is_barred().await);
    // Some repository's challenge names it all the same: then it bars, as any other, and for a while.
    tokio::time::advance(FIRST).await;
    outage.heard_realm("https://gone.test/token");
    assert!(suspect() && !outage.give_up(&part, NamedNow::Others));
    assert!(!outage.probed(&part, Probed::Silence, &[]) && is_barred().await);
    tokio::time::advance(Duration::from_secs(600)).await;
    assert!(outage.give_up(&part, NamedNow::Others) && !is_barred().await);
}

#[tokio::test(start_paused = true)]
async fn where_a_ping_does_not_tell_a_question_is_let_through_once_in_a_while() {
    let (outage, home) = quay();
    let (gone, refused) = (endpoint("gone.test"), refused());
    let part = OutagePart::Realm(gone.clone());
    let suspect = || outage.note(&gone, None, Instant::now(), Err(&refused)) == Some(part.clone());
    for _ in 0..2 {
        tokio::time::advance(FIRST).await;
        assert!(suspect());
        for _ in 0..4 {
            assert!(!outage.give_up(&part, NamedNow::Unsaid) && !outage.probed(&part, Probed::Silence, &[]));
        }
        assert!(outage.admit(home.authority(), false).await.is_err());
        assert!(outage.give_up(&part, NamedNow::Unsaid));
        assert!(outage.admit(home.authority(), false).await.is_ok());
        tokio::time::advance(FIRST).await;
        assert!(suspect());
        for _ in 0..20 {
            assert!(!outage.give_up(&part, NamedNow::Unsaid) && !outage.probed(&part, Probed::Silence, &[]));
        }
        outage.probed(&part, Probed::Well, &[]);
        tokio::time::advance(Duration::from_secs(600)).await;
    }
}

//! A clock that was wrong and is set right, forward or back: what was noted by it is old, and never good for ever.

use std::time::Duration;

use rusqlite::Connection;

use super::net::{digests, pull};
use crate::pull::layer;
use crate::support::{Image, MANIFEST, Plan, Proxy, Registry};

const NAME: &str = "registry.test";
const YEAR: i64 = 365 * 24 * 3600 * 1_000_000;

struct Lab {
    registry: Registry,
    proxy: Proxy,
    image: Image,
}

/// A proxy that has noted everything by a clock that was wrong by so many microseconds, and runs by a right one now.
async fn noted_with_an_error_of(error: i64) -> Lab {
    let registry = Registry::start(NAME);
    let mut proxy = Plan::new().registry(&registry, "tags: {fresh_for: 1h}").start().await;
    let image = registry.push_image("a", "1", &[layer(100_000, 1)]);
    pull(&proxy, NAME, "a", &image).await.unwrap();
    for digest in digests(&image) {
        proxy.stored(digest).await;
    }
    proxy.stop().await;
    let catalog = Connection::open(proxy.folder().join("cache/catalog.sqlite")).unwrap();
    let shifted = format!(
        "UPDATE blobs SET stored = stored + {error}, last_used = last_used + {error};
         UPDATE totals SET clock = clock + {error};
         UPDATE links SET proven = proven + {error};
         UPDATE tags SET checked = checked + {error};
         UPDATE history SET first = first + {error}, last = last + {error};
         UPDATE pings SET seen = seen + {error};
         UPDATE public SET proven = proven + {error};"
    );
    catalog.execute_batch(&shifted).unwrap();
    drop(catalog);
    proxy.restart().await;
    registry.forget();
    Lab { registry, proxy, image }
}

impl Lab {
    fn downloads(&self) -> usize {
        self.image.layers.iter().map(|digest| self.registry.count(&format!("GET */{digest}"))).sum()
    }
}

#[tokio::test]
async fn after_a_clock_was_wrong_by_a_year_the_registry_is_asked_and_everything_pulls() {
    // What nobody was seen to have a right to for a week is delivered by the registry once more, whose it may be.
    for (error, downloads) in [(YEAR, 0), (-YEAR, 1)] {
        let lab = noted_with_an_error_of(error).await;
        pull(&lab.proxy, NAME, "a", &lab.image).await.unwrap();
        pull(&lab.proxy, NAME, "a", &lab.image).await.unwrap();
        assert_eq!(lab.downloads(), downloads, "{error}");
        assert!(lab.registry.count("*/manifests/1") > 0, "{error}: the tag's answer counts as old");
    }
}

#[tokio::test]
async fn a_tag_that_was_noted_in_the_future_is_asked_for_and_is_fresh_by_the_right_clock_then() {
    let mut lab = noted_with_an_error_of(YEAR).await;
    let moved = lab.registry.push_manifest("a", Some("1"), MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    for restarted in [false, true] {
        if restarted {
            lab.proxy.restart().await;
        }
        let told = lab.proxy.client().get(&format!("{NAME}:443"), "/v2/a/manifests/1").await;
        assert_eq!(told.header("docker-content-digest"), moved.to_string(), "restarted: {restarted}");
    }
    let asked = lab.registry.count("HEAD */manifests/1") + lab.registry.count("GET */manifests/1");
    assert!(asked <= 2, "the new answer counts, and is fresh for an hour: {asked} questions");
}

#[tokio::test]
async fn what_was_noted_in_the_future_has_an_end() {
    let mut lab = noted_with_an_error_of(YEAR).await;
    lab.proxy.stop().await;
    let catalog = Connection::open(lab.proxy.folder().join("cache/catalog.sqlite")).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    for what in ["proven) FROM links", "proven) FROM public", "checked) FROM tags"] {
        let latest = catalog.query_row(&format!("SELECT max({what}"), [], |row| row.get::<_, i64>(0)).unwrap();
        assert!(u128::try_from(latest).unwrap() < now, "{what}: {latest}");
    }
}

#[tokio::test]
async fn with_the_registry_away_what_was_noted_in_the_future_pulls_and_what_is_a_year_old_does_not() {
    for (error, pulls) in [(YEAR, true), (-YEAR, false)] {
        let mut lab = noted_with_an_error_of(error).await;
        lab.registry.stop();
        let pulled = pull(&lab.proxy, NAME, "a", &lab.image).await;
        assert_eq!(pulled.is_ok(), pulls, "{error}: {pulled:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_no_certificate_for_ever() {
    use crate::ca::support::{Lab, days, host};
    let lab = Lab::new();
    let now = std::time::SystemTime::now();
    drop(lab.open_at(&["quay.io"], now).unwrap());
    for clock in [now - Duration::from_secs(3600), now + days(30)] {
        let authority = lab.open_at(&["quay.io"], clock).unwrap();
        authority.server_config(&host("quay.io")).unwrap();
        assert_eq!(authority.leaves_minted(), 1);
    }
}

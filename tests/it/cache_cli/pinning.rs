//! `pin` and `unpin`: what is pinned is neither removed nor evicted, nor forgotten with the catalog.

use std::fs;

use pullthrough::store::{Content, Store};

use super::lab::{ALL, Lab, layer, usual};
use crate::store::{config, content};
use crate::support::wait_until;

#[test]
fn what_is_pinned_is_removed_only_by_force() {
    Lab::both(
        |lab| {
            let pinned = lab.say(&["pin", "quay.io/org/app:1"]);
            assert!(
                pinned.status == 0 && pinned.out.contains("pinned quay.io/org/app:1"),
                "{}{}",
                pinned.out,
                pinned.err
            );
            let said = lab.say(&["rm", "quay.io/org/app:1"]);
            assert!(said.status == 1 && said.err.contains("--force"), "{}", said.err);
            let said = lab.say(&["rm", "quay.io/org/app"]);
            assert!(said.status == 0 && said.out.contains("kept 1 pinned name"), "{}{}", said.out, said.err);
            assert_eq!(lab.names(), [ALL[0], ALL[1], ALL[3]]);
            assert!(lab.has(&layer(1)) && lab.has(&layer(2)) && !lab.has(&layer(3)));
            assert_eq!(lab.say(&["rm", "quay.io/org/app:1", "--force"]).status, 0);
            assert!(!lab.has(&layer(1)) && !lab.has(&layer(2)));
            assert_eq!(lab.json(&["stats"])["pins"], 0);
        },
        usual,
    );
}

#[test]
fn a_pin_survives_a_restart_and_eviction_and_ends_with_unpin() {
    let mut lab = Lab::new();
    lab.fill(usual);
    assert_eq!(lab.say(&["pin", "quay.io/org/app:1"]).status, 0);
    assert_eq!(lab.say(&["pin", "quay.io/org/app:2"]).status, 0);
    assert_eq!(lab.say(&["unpin", "quay.io/org/app:2"]).status, 0);
    lab.serve();
    let rows = lab.json(&["ls", "quay.io"]);
    let pinned: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["pinned"].as_bool().unwrap()).collect();
    assert_eq!(pinned, [true, false, false]);
    lab.kill();
    {
        let store = Store::open(&config(&lab.root, 250_000)).unwrap();
        store.evict();
        store.close();
    }
    assert!(lab.has(&layer(1)) && lab.has(&layer(2)), "pinned, one of them by the other's pin too");
    assert!(![3, 4, 5].iter().all(|seed| lab.has(&layer(*seed))), "something was evicted");
    assert_eq!(lab.say(&["unpin", "quay.io/org/app:1"]).status, 0);
    assert_eq!(lab.json(&["stats"])["pinned_bytes"], 0);
}

#[test]
fn what_a_pinned_image_lists_is_pinned_when_it_comes() {
    let lab = Lab::new();
    lab.fill(usual);
    let manifest = lab.json(&["show", "quay.io/org/app:1"])[0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(lab.say(&["rm", &layer(2).to_string()]).status, 0);
    let said = lab.say(&["pin", &format!("quay.io/org/app@{manifest}")]);
    assert!(said.out.contains("1 part not cached yet"), "{}{}", said.out, said.err);
    lab.fill(|fill| _ = fill.blob("quay.io/org/app", &content(2, 100_000), Content::Blob));
    assert_eq!(lab.json(&["show", &layer(2).to_string()])[0]["pinned"], true);
    fs::remove_file(lab.root.join("cache/catalog.sqlite")).unwrap();
    wait_until("the pins are marked again in a catalog made anew", || {
        lab.json(&["stats"])["pinned_bytes"].as_u64().is_some_and(|bytes| bytes > 200_000)
    });
}

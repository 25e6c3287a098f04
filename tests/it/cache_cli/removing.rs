//! `rm`: what goes, and what stays because others need it.

use pullthrough::store::{Content, Store};
use serde_json::json;

use super::lab::{ALL, Fill, Lab, SIZE, layer, usual};
use crate::store::{config, content};

#[test]
fn removing_an_image_leaves_what_others_need() {
    Lab::both(
        |lab| {
            let dry = lab.say(&["rm", "quay.io/org/app:1", "--dry-run"]);
            assert!(dry.status == 0 && dry.out.contains("would remove"), "{}{}", dry.out, dry.err);
            assert_eq!(lab.names(), ALL);
            let said = lab.say(&["rm", "quay.io/org/app:1"]);
            assert_eq!(said.status, 0, "{}", said.err);
            assert!(said.out.contains("2 blobs (98.0 KiB), 1 tag and 2 links"), "{}", said.out);
            assert!(said.out.contains("kept 97.7 KiB"), "{}", said.out);
            assert!(lab.has(&layer(1)) && !lab.has(&layer(2)) && lab.has(&layer(3)));
            assert_eq!(lab.json(&["ls", "quay.io/org/app:2"])[0]["missing"], 0);
            assert_eq!(lab.say(&["rm", "quay.io/org/app:2"]).status, 0);
            assert!(!lab.has(&layer(1)) && !lab.has(&layer(3)));
            assert_eq!(lab.names(), [ALL[0], ALL[3]]);
        },
        usual,
    );
}

#[test]
fn removing_a_registry_a_repository_or_a_digest_takes_all_of_it() {
    Lab::both(
        |lab| {
            let alpine = lab.json(&["show", "alpine"])[0]["digest"].as_str().unwrap().to_owned();
            assert_eq!(lab.say(&["rm", &alpine[..20]]).status, 0);
            assert_eq!(lab.names(), ALL[1..]);
            assert_eq!(lab.say(&["rm", "quay.io/org/multi"]).status, 0);
            assert_eq!(lab.names(), ALL[1..3]);
            assert_eq!(lab.say(&["rm", &layer(2).to_string()]).status, 0, "a layer that an image needs");
            assert_eq!(lab.json(&["ls", "quay.io/org/app:1"])[0]["missing"], 1);
            assert_eq!(lab.say(&["rm", "quay.io"]).status, 0);
            assert_eq!(lab.json(&["stats"])["entries"], 0);
            assert_eq!(lab.json(&["ls"]), json!([]));
        },
        usual,
    );
}

#[test]
fn a_layer_that_another_repository_has_by_a_link_alone_stays() {
    Lab::both(
        |lab| {
            assert_eq!(lab.say(&["rm", "quay.io/org/app"]).status, 0);
            assert!(lab.has(&layer(1)) && !lab.has(&layer(2)));
        },
        |fill| {
            usual(fill);
            fill.link("ghcr.io/a/b", layer(1), Content::Blob);
        },
    );
}

#[test]
fn a_second_name_of_the_same_image_keeps_it() {
    Lab::both(
        |lab| {
            assert_eq!(lab.say(&["rm", "quay.io/org/app:same"]).status, 0);
            assert!(lab.has(&layer(1)) && lab.has(&layer(2)));
            assert_eq!(lab.names(), ALL);
        },
        |fill| {
            usual(fill);
            fill.image("quay.io/org/app", "same", &[1, 2]);
        },
    );
}

#[test]
fn who_reads_what_is_removed_keeps_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&config(folder.path(), SIZE)).unwrap();
    usual(&Fill(&store));
    let blob = store.read(&layer(2)).unwrap().unwrap();
    let inventory = pullthrough::cache::Inventory::new(store.clone());
    let order = pullthrough::cache::Order::new(pullthrough::cache::Command::Rm, Some("quay.io/org/app:1".into()));
    inventory.run(&order, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert!(store.read(&layer(2)).unwrap().is_none());
    assert_eq!(crate::store::bytes(&blob), content(2, 100_000));
}

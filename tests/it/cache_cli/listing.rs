//! `ls`, `show`, `stats` and `verify`: what is said of what is there, and of what is not.

use std::fs;

use pullthrough::store::Content;
use serde_json::{Value, json};

use super::lab::{ALL, INDEX, Lab, SIZE, layer, usual};
use crate::store::path_of;

#[test]
fn images_are_listed_with_what_they_share() {
    Lab::both(
        |lab| {
            assert_eq!(lab.names(), ALL);
            let rows = lab.json(&["ls", "quay.io/org/app"]);
            assert_eq!(rows.as_array().unwrap().len(), 2);
            for row in rows.as_array().unwrap() {
                let size = row["size"].as_u64().unwrap();
                assert!((200_000..201_000).contains(&size), "{row}");
                assert_eq!((row["shared"].as_u64(), row["missing"].as_u64()), (Some(100_000), Some(0)), "{row}");
                assert_eq!(row["kind"], "manifest");
                humantime::parse_rfc3339(row["last_used"].as_str().unwrap()).unwrap();
            }
            let multi = lab.json(&["ls", "quay.io/org/multi:v1"]);
            assert_eq!(
                (&multi[0]["kind"], &multi[0]["missing"], &multi[0]["shared"]),
                (&json!("index"), &json!(1), &json!(0))
            );
            let text = lab.say(&["ls"]).out;
            assert!(text.contains("KiB") && text.contains("just now") && text.lines().count() == 5, "{text}");
        },
        usual,
    );
}

#[test]
fn an_image_of_which_a_part_is_missing_is_marked() {
    Lab::both(
        |lab| {
            let text = lab.say(&["ls"]).out;
            let marked: Vec<&str> = text.lines().filter(|line| line.ends_with("(incomplete)")).collect();
            assert_eq!(marked.len(), 2, "{text}");
            assert!(marked[0].contains("quay.io/org/app:2") && marked[1].contains("quay.io/org/none:v1"), "{text}");
            let rows = lab.json(&["ls"]);
            let rows = rows.as_array().unwrap().iter();
            let incomplete: Vec<_> = rows.filter(|row| row["incomplete"] == true).map(|row| &row["tag"]).collect();
            assert_eq!(incomplete, [&json!("2"), &json!("v1")]);
        },
        |fill| {
            usual(fill); // of its index one platform is here, and whole
            assert!(fill.0.remove(&layer(3)).is_ok());
            let away = crate::store::digest(b"another platform");
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
                {"digest": away.to_string(), "size": 777, "platform": {"os": "linux", "architecture": "arm64"}},
            ]});
            let index = fill.blob("quay.io/org/none", index.to_string().as_bytes(), Content::Manifest);
            fill.tag("quay.io/org/none", "v1", index, INDEX);
        },
    );
}

#[test]
fn the_folders_can_be_named_by_flags() {
    let lab = Lab::new();
    lab.fill(usual);
    let cache = lab.root.join("cache");
    let said = lab.command().args(["cache", "ls", "--cache-dir"]).arg(&cache).output().unwrap();
    assert!(said.status.success() && String::from_utf8_lossy(&said.stdout).contains("quay.io/org/app:1"), "{said:?}");
    let said = lab.command().args(["cache", "--cache-dir"]).arg(&cache).args(["stats"]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let ca = lab.root.join("another-ca");
    for command in ["init", "show", "seal"] {
        let said = lab.command().args(["ca", command, "--ca-dir"]).arg(&ca).output().unwrap();
        assert!(said.status.success(), "{said:?}");
    }
    assert!(ca.join("ca.crt").exists() && !ca.join("ca.key").exists());
}

#[test]
fn names_are_those_that_people_use() {
    Lab::both(
        |lab| {
            let count = |name: &str| lab.json(&["ls", name]).as_array().unwrap().len();
            for (name, images) in [("alpine", 1), ("docker.io/library/alpine", 1), ("quay.io", 3), ("docker.io", 1)] {
                assert_eq!(count(name), images, "{name}");
            }
            let shared = layer(1).to_string();
            assert_eq!(count(&shared[..20]), 2, "a layer lists the images that need it");
            let shown = lab.json(&["show", "alpine"]);
            let digest = shown[0]["digest"].as_str().unwrap();
            assert_eq!(count(&format!("docker.io/library/alpine@{digest}")), 1);
            assert_eq!(lab.json(&["show", &digest[..16]])[0]["digest"], *digest);
        },
        usual,
    );
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    Lab::both(
        |lab| {
            for (arguments, words) in [
                (&["ls", "quay.io/org/app:9"][..], "it knows the tags 2, 1"),
                (&["show", "quay.io/org/none:1"], "it knows no tag of quay.io/org/none"),
                (&["rm", "ghcr.io"], "pullthrough cache ls"),
                (&["show", "sha256:00000000"], "pullthrough cache ls"),
                (&["unpin", "alpine"], "nothing is"),
                (&["pin", "quay.io"], "name one, such as quay.io/org/app:1"),
                (&["verify", "ghcr.io/a/b"], "it knows no tag"),
            ] {
                let said = lab.say(arguments);
                assert_eq!((said.status, said.out.as_str()), (1, ""), "{arguments:?}: {}", said.err);
                assert!(said.err.contains(words), "{arguments:?}: {}", said.err);
                assert_eq!(said.err.trim_end().lines().count(), 1, "{}", said.err);
            }
            for wrong in [&["ls", "A B"][..], &["verify"], &["rm"], &["show", "sha256:zz"]] {
                assert_eq!(lab.say(wrong).status, 2, "{wrong:?}");
            }
        },
        usual,
    );
}

#[test]
fn show_tells_platforms_blobs_places_and_history() {
    Lab::both(
        |lab| {
            let shown = &lab.json(&["show", "quay.io/org/multi:v1"])[0];
            let (here, away) = (&shown["parts"][0], &shown["parts"][1]);
            assert_eq!((&here["platform"], &here["present"]), (&json!("linux/amd64"), &json!(true)));
            assert_eq!(
                (&away["platform"], &away["present"], &away["size"]),
                (&json!("linux/arm64"), &json!(false), &json!(777))
            );
            assert_eq!(
                (&here["parts"][0]["digest"], &here["parts"][0]["size"]),
                (&json!(layer(5).to_string()), &json!(100_000))
            );
            assert_eq!(here["parts"][0]["linked"], json!(["quay.io/org/multi"]));
            assert_eq!(shown["history"].as_array().unwrap().len(), 1);
            let text = lab.say(&["show", "quay.io/org/multi:v1"]).out;
            assert!(text.contains("linux/arm64") && text.contains("missing"), "{text}");
            let blob = &lab.json(&["show", &layer(1).to_string()])[0];
            assert_eq!(blob["needed_by"], json!(["quay.io/org/app:1", "quay.io/org/app:2"]));
        },
        usual,
    );
}

#[test]
fn verify_names_and_drops_what_is_damaged() {
    Lab::both(
        |lab| {
            let path = path_of(&lab.root, &layer(3));
            let mut bytes = fs::read(&path).unwrap();
            bytes[50_000] ^= 1;
            fs::write(&path, bytes).unwrap();
            let sound = lab.say(&["verify", "quay.io/org/app:1"]);
            assert!(sound.status == 0 && sound.out.contains("verified 3 blobs"), "{}{}", sound.out, sound.err);
            let said = lab.say(&["verify", "--all"]);
            assert_eq!(said.status, 1);
            assert!(said.out.contains(&layer(3).to_string()) && said.out.contains("quay.io/org/app:2"), "{}", said.out);
            assert!(said.err.contains("found and dropped 1 damaged blob;") && !lab.has(&layer(3)), "{}", said.err);
            let again = lab.say(&["verify", "--all"]);
            assert!(again.status == 0 && again.out.contains("0 damaged"), "{}{}", again.out, again.err);
        },
        usual,
    );
}

#[test]
fn stats_count_shared_content_once() {
    Lab::both(
        |lab| {
            let stats = lab.json(&["stats"]);
            let quay = stats["registries"].as_array().unwrap().iter().find(|r| r["registry"] == "quay.io").unwrap();
            let number = |value: &Value| value.as_u64().unwrap();
            assert_eq!(number(&quay["bytes"]), number(&quay["only_here"]) + 100_000);
            assert_eq!(number(&stats["between_registries"]), 100_000);
            let only: u64 = stats["registries"].as_array().unwrap().iter().map(|r| number(&r["only_here"])).sum();
            let sum = only + number(&stats["between_registries"]) + number(&stats["unnamed"]);
            assert_eq!(sum, number(&stats["bytes"]));
            assert_eq!(stats["limit"], SIZE);
            assert_eq!(stats["evictions"].is_null(), lab.server.is_none());
            assert!(lab.say(&["stats"]).out.contains("64.0 MiB"));
        },
        |fill| {
            usual(fill);
            fill.image("docker.io/library/copy", "1", &[1]);
        },
    );
}

//! `pullthrough why`: what a pull of an image meets.

use serde_json::Value;

use super::lab::{Lab, usual};

#[test]
fn why_tells_what_a_pull_meets() {
    Lab::both(
        |lab| {
            let said = lab.run(&["why", "quay.io/org/multi:v1"]);
            assert_eq!(said.status, 0, "{}", said.err);
            for words in [
                "quay.io (configured); requests use the client's own credentials; pushes are refused",
                "fresh for 1m",
                "last asked just now; a pull now is answered without asking the registry",
                "platform   linux/amd64: cached",
                "platform   linux/arm64: not cached",
                "readers    quay.io/org/multi: everyone",
            ] {
                assert!(said.out.contains(words), "{words}: {}", said.out);
            }
            let json: Value = serde_json::from_str(&lab.run(&["why", "quay.io/org/app:1", "--json"]).out).unwrap();
            assert_eq!(json["cache"][0]["rights"][0]["public"], true, "{json}");
            let unknown = lab.run(&["why", "quay.io/org/none:1"]);
            assert!(unknown.status == 1 && unknown.out.contains("fresh for"), "{} {}", unknown.out, unknown.err);
            let foreign = lab.run(&["why", "registry.example.com/a:1"]);
            assert!(foreign.status == 1 && foreign.err.contains("only tunnelled"), "{}", foreign.err);
        },
        usual,
    );
}

#[test]
fn why_names_only_the_readers_of_the_image_that_was_asked_about() {
    Lab::both(
        |lab| {
            let said = lab.run(&["why", "quay.io/org/app:1"]).out;
            assert!(said.contains("readers    quay.io/org/app: ") && !said.contains("ghcr.io/other"), "{said}");
            let json: Value = serde_json::from_str(&lab.run(&["why", "ghcr.io/other/app:1", "--json"]).out).unwrap();
            let rights = json["cache"][0]["rights"].as_array().unwrap();
            assert!(rights.len() == 1 && rights[0]["place"] == "ghcr.io/other/app", "{json}");
        },
        |fill| {
            for place in ["quay.io/org/app", "ghcr.io/other/app"] {
                fill.image(place, "1", &[1, 2]);
            }
        },
    );
}

#[test]
fn a_name_of_the_mirror_is_explained_by_what_it_means() {
    Lab::both(
        |lab| {
            let file = std::fs::read_to_string(lab.file()).unwrap();
            let names = "mirror: {names: {q.example.org: quay.io, all.example.org: [ghcr.io, quay.io]}}\n";
            std::fs::write(lab.file(), format!("{file}{names}")).unwrap();
            for name in ["q.example.org/org/app:1", "m.example.org:5000/quay.io/org/app:1"] {
                let said = lab.run(&["why", name]);
                assert_eq!(said.status, 0, "{}", said.err);
                for words in [
                    &format!("{name} at the mirror is\n"),
                    "quay.io/org/app:1\n",
                    "readers    quay.io/org/app: everyone",
                ] {
                    assert!(said.out.contains(words), "{words}: {}", said.out);
                }
                assert!(lab.say(&["show", name]).out.contains("quay.io/org/app"), "{name}");
            }
            let group = lab.run(&["why", "all.example.org/org/app:1"]);
            assert!(group.status == 0 && group.out.contains("ghcr.io/org/app:1"), "{} {}", group.out, group.err);
            assert!(group.out.contains("readers    quay.io/org/app"), "{}", group.out);
            let json: Value =
                serde_json::from_str(&lab.run(&["why", "q.example.org/org/app:1", "--json"]).out).unwrap();
            assert_eq!(json["name"], "quay.io/org/app:1");
            let refused = lab.say(&["rm", "all.example.org/org/app:1", "--dry-run"]);
            assert!(refused.status == 1 && refused.err.contains("use one of ghcr.io/org/app:1"), "{}", refused.err);
        },
        |fill| {
            fill.image("quay.io/org/app", "1", &[1, 2]);
        },
    );
}

//! Successes whose content, type or digest is not what was asked for.

use super::Attack;
use crate::hostile::honest::Answer;
use crate::hostile::steps::Step;
use crate::support::MANIFEST;

const PAGE: &str = "<html>log in to {host}</html>";
const NOTICE: &str = r#"{"schemaVersion":2,"message":"{host} is down"}"#;

pub(in crate::hostile) const TYPES: &[(&str, fn(&Attack) -> Vec<Step>)] = &[
    ("html", |attack| attack.say(&Answer::new(200, "text/html", PAGE))),
    ("html of the right length", |attack| {
        let page = PAGE.replace("{host}", &attack.site.host);
        let length = attack.honest.body.len().max(page.len());
        attack.say(&Answer::new(200, "text/html", format!("{page:<length$}")))
    }),
    ("page without a type", |attack| attack.say(&Answer::new(200, "", PAGE))),
    ("page as content", |attack| attack.say(&Answer { body: PAGE.into(), ..attack.honest.clone() })),
    ("json that is no manifest", |attack| attack.say(&Answer::new(200, "application/json", NOTICE))),
    ("no manifest of its type", |attack| attack.say(&Answer::new(200, MANIFEST, NOTICE))),
    ("manifest of a new shape", |attack| {
        attack.say(&Answer::new(
            200,
            "application/vnd.oci.image.thing.v9+json",
            r#"{"schemaVersion":9,"things":["{host}"]}"#,
        ))
    }),
    ("no type", |attack| attack.say(&attack.honest.clone().without("content-type"))),
    ("text", |attack| attack.say(&attack.honest.clone().with("content-type", "text/plain"))),
    ("type in two fields", |attack| {
        let mut twice = attack.honest.clone();
        twice.headers.push(("content-type".to_owned(), "text/html".to_owned()));
        attack.say(&twice)
    }),
    ("no digest", |attack| attack.say(&attack.honest.clone().without("docker-content-digest"))),
    ("another digest", |attack| {
        let other = attack.site.things.kept_layer.digest.to_string();
        attack.say(&attack.honest.clone().with("docker-content-digest", other))
    }),
    ("two digests", |attack| {
        let mut twice = attack.honest.clone();
        let other = attack.site.things.kept_layer.digest.to_string();
        twice.headers.push(("docker-content-digest".to_owned(), other));
        attack.say(&twice)
    }),
    ("unknown algorithm", |attack| {
        attack.say(&attack.honest.clone().with("docker-content-digest", "md5:d41d8cd98f00b204e9800998ecf8427e"))
    }),
    ("malformed digest", |attack| attack.say(&attack.honest.clone().with("docker-content-digest", "sha256:zz"))),
    ("another's content", |attack| {
        let things = &attack.site.things;
        let is_manifest = attack.asked.path.contains("/manifests/");
        let other = if is_manifest { &things.kept } else { &things.kept_layer };
        attack.say(&Answer { body: other.bytes.clone(), ..attack.honest.clone() })
    }),
    ("a wrong byte", |attack| {
        let mut body = attack.honest.body.clone();
        if let Some(last) = body.last_mut() {
            *last ^= 1;
        }
        attack.say(&Answer { body, ..attack.honest.clone() })
    }),
    ("gzip", |attack| attack.say(&attack.honest.clone().with("content-encoding", "gzip"))),
    ("empty", |attack| attack.say(&Answer { body: Vec::new(), ..attack.honest.clone() })),
    ("manifest of 5 MiB", |attack| attack.say(&padded(attack, 5 << 20))),
    ("manifest of 17 MiB", |attack| attack.say(&padded(attack, 17 << 20))),
    ("token of 2 MiB", |attack| {
        let token = "t".repeat(2 << 20);
        attack.say(&Answer::new(200, "application/json", format!(r#"{{"token":"{token}"}}"#)))
    }),
];

/// A manifest with spaces behind it, whatever manifest is asked for, under the digest that this makes or that is asked
/// for. What is no manifest is honest.
fn padded(attack: &Attack, length: usize) -> Answer {
    let manifest = attack.asked.path.split_once("/manifests/").filter(|_| attack.asked.method != "PUT");
    let Some((_, reference)) = manifest else { return attack.honest.clone() };
    let big = attack.site.padded(length);
    let said = if reference.contains(':') { reference.to_owned() } else { big.digest.to_string() };
    Answer::new(200, MANIFEST, big.bytes.clone()).with("docker-content-digest", said)
}

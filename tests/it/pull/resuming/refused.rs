//! The token that a layer was begun with is refused for the rest of it.

use super::*;
use crate::pull::private::{ALICE, CAROL, EXAMPLE, Lab, ask};
use crate::support::Log;

fn path(digest: &Digest, repository: &str) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

/// A blob whose first answer is held, and then cut.
fn held(lab: &Lab, repository: &str, gate: &Gate) -> (Vec<u8>, String) {
    let bytes = layer(LENGTH, 16);
    let digest = lab.registry.push_blob(repository, bytes.clone());
    lab.registry.script_times(1, BLOBS, Act::Hold(HOLD, gate.clone()));
    lab.registry.script_times(1, BLOBS, Act::Cut(CUT));
    (bytes, path(&digest, repository))
}

async fn begun(lab: &Lab, path: &str, bearer: &str) -> (crate::support::client::Session, hyper::body::Incoming) {
    let mut session = lab.proxy.client().session(EXAMPLE).await;
    let answer = session.send("GET", path, &[("authorization", bearer)], Body::empty()).await.unwrap();
    assert_eq!(answer.status(), 200);
    (session, answer.into_body())
}

fn carried(seen: &Seen) -> String {
    let text = |name| seen.headers.get(name).map_or("-", |value| value.to_str().unwrap());
    format!("{} {}", text("authorization"), text("range"))
}

/// By what the rest was asked for, and which part, where the registry gave it.
fn brought(lab: &Lab) -> Vec<String> {
    lab.registry.requests().iter().filter(|seen| seen.status == Some(206)).map(carried).collect()
}

fn refuse_all_but(lab: &Lab, bearer: &str) {
    lab.registry.script(BLOBS, Act::Unless(bearer.to_owned(), Box::new(Act::Status(401))));
}

#[tokio::test]
async fn what_is_public_is_asked_for_with_a_token_of_our_own() {
    let (lab, gate) = (Lab::new("").await, Gate::new());
    let (bytes, path) = held(&lab, "public/app", &gate);
    let bearer = lab.bearer(None, "public/app").await;
    let (session, body) = begun(&lab, &path, &bearer).await;
    lab.tokens.revoke_all();
    gate.open();
    assert!(body.collect().await.unwrap().to_bytes() == bytes);
    drop(session);
    let got = brought(&lab);
    assert_eq!(got.len(), 1, "{got:?}");
    assert!(!got[0].starts_with(&bearer), "{got:?}");
}

/// Two readers share a layer; for its rest only the token of the second is taken.
async fn the_second_brings_the_rest(lab: &Lab, first: &str, second: &str) {
    let gate = Gate::new();
    let (bytes, path) = held(lab, "team/app", &gate);
    let (one, one_body) = begun(lab, &path, first).await;
    let (other, other_body) = begun(lab, &path, second).await;
    refuse_all_but(lab, second);
    gate.open();
    let (one_body, other_body) = tokio::join!(one_body.collect(), other_body.collect());
    assert!(one_body.unwrap().to_bytes() == bytes && other_body.unwrap().to_bytes() == bytes);
    drop((one, other));
    assert_eq!(brought(lab), [format!("{second} bytes={CUT}-")]);
}

#[tokio::test]
async fn another_readers_token_brings_the_rest() {
    let lab = Lab::new("").await;
    let (alice, carol) = (lab.bearer(ALICE, "team/app").await, lab.bearer(CAROL, "team/app").await);
    the_second_brings_the_rest(&lab, &alice, &carol).await;
}

#[tokio::test]
async fn a_newer_token_of_the_same_reader_brings_the_rest() {
    let lab = Lab::new("").await;
    let (old, new) = (lab.bearer(ALICE, "team/app").await, lab.bearer(ALICE, "team/app").await);
    assert_ne!(old, new);
    the_second_brings_the_rest(&lab, &old, &new).await;
}

#[tokio::test]
async fn a_reader_that_comes_again_with_a_new_token_gets_the_rest_alone() {
    let log = Log::begin();
    let (lab, gate) = (Lab::new("").await, Gate::new());
    let (bytes, path) = held(&lab, "team/app", &gate);
    let old = lab.bearer(ALICE, "team/app").await;
    let (session, body) = begun(&lab, &path, &old).await;
    lab.tokens.revoke_all();
    gate.open();
    assert!(body.collect().await.is_err(), "nobody can ask for the rest");
    drop(session);
    assert_eq!(ask(&lab.proxy.client(), "GET", &path, Some(&old)).await.status, 401, "nor with that token");
    let new = lab.bearer(ALICE, "team/app").await;
    let got = ask(&lab.proxy.client(), "GET", &path, Some(&new)).await;
    assert!(*got.bytes() == bytes);
    let got = brought(&lab);
    assert_eq!(got, [format!("{new} bytes={CUT}-")]);
    let lines = log.warnings(&["gave up a fill", "registry.example.com", "team/app"]);
    assert_eq!(lines.len(), 1, "the second refusal was the client's answer: {lines:#?}");
}

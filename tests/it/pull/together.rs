//! Several who ask for the same at the same time, with different rights: each is answered by its own.

use std::time::Duration;

use super::layer;
use super::private::{ALICE, BOB, CAROL, Lab, ask};
use crate::support::{Act, eventually};

/// A token of ours for alice, got while the token service failed, and one of that service itself.
async fn ours_and_theirs(lab: &Lab) -> (String, String) {
    let failing = lab.auth.script("*/token", Act::Status(503));
    let ours = lab.bearer(ALICE, "team/app").await;
    lab.auth.unscript(failing);
    assert!(ours.contains("pullthrough-local"));
    (ours, lab.bearer(ALICE, "team/app").await)
}

#[tokio::test]
async fn who_asks_in_its_own_name_is_not_refused_for_who_asks_at_the_same_time_with_a_token_of_ours() {
    let lab = Lab::new("").await;
    let (ours, theirs) = ours_and_theirs(&lab).await;
    for (seed, (method, what)) in
        [("GET", "tag"), ("HEAD", "tag"), ("GET", "manifest"), ("HEAD", "manifest"), ("GET", "blob"), ("HEAD", "blob")]
            .into_iter()
            .enumerate()
    {
        let image = lab.registry.push_image("team/app", &format!("{seed}"), &[layer(1000, seed as u64)]);
        let path = match what {
            "tag" => format!("/v2/team/app/manifests/{seed}"),
            "manifest" => format!("/v2/team/app/manifests/{}", image.digest),
            _ => format!("/v2/team/app/blobs/{}", image.layers[0]),
        };
        // Long enough for the second one to come while the first one's question is open.
        let slow = lab.registry.script("/v2/team/*", Act::Delay(Duration::from_millis(300)));
        lab.registry.forget();
        let (first, second) = (lab.proxy.client(), lab.proxy.client());
        let second = async {
            eventually("the first one has asked", || lab.registry.count(&path) >= 1).await;
            ask(&second, method, &path, Some(&theirs)).await.status.as_u16()
        };
        let (first, second) = tokio::join!(ask(&first, method, &path, Some(&ours)), second);
        assert_eq!((first.status.as_u16(), second), (401, 200), "{method} {what}");
        lab.registry.unscript(slow);
    }
}

#[tokio::test]
async fn two_who_ask_at_once_for_a_manifest_whose_head_proves_nothing_each_get_it_themselves() {
    for act in [Act::NoDigest, Act::NoHead] {
        let lab = Lab::new("").await;
        let image = lab.registry.push_image("team/app", "1", &[layer(1000, 30)]);
        let path = format!("/v2/team/app/manifests/{}", image.digest);
        lab.registry.script("HEAD */manifests/*", act);
        // Long enough for the others to come while the first one's question is open.
        lab.registry.script_times(1, "GET */manifests/*", Act::Delay(Duration::from_millis(500)));
        let (alice, carol) = (lab.bearer(ALICE, "team/app").await, lab.bearer(CAROL, "team/app").await);
        let bob = lab.bearer(BOB, "team/app").await;
        let others = async {
            eventually("the first one asks", || lab.registry.count(&path) == 1).await;
            tokio::join!(lab.get(&path, Some(&carol)), lab.get(&path, Some(&bob)))
        };
        let (first, (second, third)) = tokio::join!(lab.get(&path, Some(&alice)), others);
        assert_eq!([first.status, second.status, third.status].map(|status| status.as_u16()), [200, 200, 401]);
        assert_eq!(first.bytes(), second.bytes());
    }
}

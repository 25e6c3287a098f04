//! Several registries behind one name: asked in order, each only for what it may be asked for.

use std::time::Duration;

use super::{Lab, code};
use crate::pull::layer;
use crate::support::{Act, Log, Plan, Registry, eventually};

const ALL: &str = "all.example.org";

#[tokio::test]
async fn what_is_missing_or_refused_is_asked_of_the_next_and_no_other_fault_is() {
    for (status, expected, next) in [
        (404, 200, true),
        (401, 200, true),
        (403, 200, true),
        (429, 429, false),
        (500, 502, false),
        (503, 503, false),
        (400, 400, false),
    ] {
        let lab = Lab::new().await;
        lab.hub.script("*/manifests/*", Act::Status(status));
        lab.quay.push_image("org/app", "1", &[layer(10, 1)]);
        let answer = lab.get(ALL, "/v2/org/app/manifests/1").await;
        let asked = lab.quay.count("*/org/app/manifests/1") > 0;
        assert_eq!(asked, next, "{status}");
        if next {
            assert_eq!(answer.status.as_u16(), expected, "{status}");
        } else {
            assert!(answer.status.is_client_error() || answer.status.is_server_error(), "{status}");
        }
    }
}

#[tokio::test]
async fn nobody_takes_over_the_names_of_a_registry_that_is_away() {
    let mut lab = Lab::keyed("tags: {fresh_for: 0s, deadline: 1s}", |plan| plan).await;
    lab.quay.push_image("org/app", "1", &[layer(10, 1)]);
    lab.hub.stop();
    for _ in 0..3 {
        let answer = lab.get(ALL, "/v2/org/app/manifests/1").await;
        assert_ne!(answer.status, 200);
        assert_ne!(answer.status, 404);
    }
    assert_eq!(lab.quay.count("*"), 0);
}

#[tokio::test]
async fn a_member_that_does_not_answer_ends_the_question() {
    let lab = Lab::keyed("tags: {fresh_for: 0s, deadline: 1s}", |plan| plan.impatient()).await;
    lab.hub.script("*/manifests/*", Act::Delay(Duration::from_secs(60)));
    lab.quay.push_image("org/app", "1", &[layer(10, 1)]);
    let answer = lab.get(ALL, "/v2/org/app/manifests/1").await;
    assert!(answer.status.is_server_error(), "{}", answer.status);
    assert_eq!(lab.quay.count("*"), 0);
}

#[tokio::test]
async fn a_bounded_member_is_never_asked_for_names_that_are_not_its_own() {
    let lab = Lab::new().await;
    let image = lab.quay.push_image("org/app", "1", &[layer(10, 1)]);
    let mut session = lab.session("bounded.example.org").await;
    for path in ["/v2/org/app/manifests/1".to_owned(), format!("/v2/org/app/blobs/{}", image.layers[0])] {
        assert_eq!(session.get(&path).await.status, 200, "{path}");
    }
    assert_eq!(session.get("/v2/org/none/manifests/1").await.status, 404);
    assert_eq!(lab.hub.connections(), 0);
    let hub = lab.hub.push_image("library/app", "1", &[layer(10, 2)]);
    let answer = session.get("/v2/app/manifests/1").await;
    assert_eq!(answer.header("docker-content-digest"), hub.digest.to_string());
}

#[tokio::test]
async fn the_member_that_had_a_digest_is_asked_first_and_tags_keep_the_order() {
    let lab = Lab::new().await;
    let image = lab.quay.push_image("org/app", "1", &[layer(10, 1), layer(10, 2)]);
    let mut session = lab.session(ALL).await;
    assert_eq!(session.get("/v2/org/app/manifests/1").await.status, 200);
    assert_eq!(lab.hub.count("*/manifests/1"), lab.quay.count("*/manifests/1"));
    let before = lab.hub.requests().len();
    for digest in image.layers.iter().chain([&image.config]) {
        assert_eq!(session.get(&format!("/v2/org/app/blobs/{digest}")).await.status, 200);
    }
    assert_eq!(session.get(&format!("/v2/org/app/manifests/{}", image.digest)).await.status, 200);
    assert_eq!(lab.hub.requests().len(), before, "what has a digest goes to the member that had the image");
    // Another image under the same name at the first member is that name's, from now on.
    let first = lab.hub.push_image("org/app", "2", &[layer(10, 3)]);
    lab.quay.push_image("org/app", "2", &[layer(10, 4)]);
    let answer = session.get("/v2/org/app/manifests/2").await;
    assert_eq!(answer.header("docker-content-digest"), first.digest.to_string());
}

#[tokio::test]
async fn nothing_anywhere_is_told_as_missing_though_a_member_refused() {
    let lab = Lab::new().await;
    lab.hub.script("*/manifests/*", Act::Status(403));
    let mut session = lab.session(ALL).await;
    let answer = session.get("/v2/org/app/manifests/1").await;
    assert_eq!(answer.status, 404);
    assert_eq!(code(&answer), "MANIFEST_UNKNOWN");
    lab.quay.script("*/manifests/*", Act::Status(403));
    assert_eq!(session.get("/v2/org/other/manifests/1").await.status, 403);
    assert_eq!(session.ask("HEAD", "/v2/org/third/manifests/1", &[]).await.status, 403);
}

#[tokio::test]
async fn a_change_of_the_names_holds_for_the_next_request() {
    let (hub, quay) = (Registry::start("docker.io"), Registry::start("quay.io"));
    hub.push_image("org/app", "1", &[layer(10, 1)]);
    let image = quay.push_image("org/app", "1", &[layer(10, 2)]);
    let plan = |name: &str| Plan::new().registry(&hub, "").registry(&quay, "").mirror(name);
    let proxy = plan("names: {x.example.org: docker.io}").start().await;
    let mut session = proxy.mirror_client().plain_session("x.example.org").await;
    assert_eq!(session.get("/v2/org/app/manifests/1").await.status, 200);
    proxy.reload(plan("names: {x.example.org: quay.io}")).await;
    let answer = session.get("/v2/org/app/manifests/1").await;
    assert_eq!(answer.header("docker-content-digest"), image.digest.to_string());
}

#[tokio::test]
async fn a_groups_request_has_one_line_and_one_count_with_what_the_client_got() {
    let log = Log::begin();
    let lab = Lab::new().await;
    lab.hub.script("*/manifests/*", Act::Status(403));
    lab.quay.push_image("org/app", "1", &[layer(10, 1)]);
    let mut session = lab.session(ALL).await;
    let answer = session.get("/v2/org/app/manifests/1").await;
    assert_eq!(answer.status, 200);
    let lines = || log.with(&["access", "kind=\"manifest\""]);
    eventually("it has its line", || !lines().is_empty()).await;
    let told = lines();
    assert_eq!(told.len(), 1, "{told:?}");
    let bytes = format!("bytes={}", answer.bytes().len());
    for word in ["host=\"all.example.org\"", "registry=\"quay.io\"", "status=200", &bytes] {
        assert!(told[0].contains(word), "{word}: {told:?}");
    }
    let counted = async |registry: &str, cache: &str, status: u16| {
        let labels = format!("registry=\"{registry}\",kind=\"manifest\",cache=\"{cache}\",status=\"{status}\"");
        lab.proxy.metric(&format!("pullthrough_requests_total{{{labels}}}")).await
    };
    assert_eq!((counted("docker.io", "miss", 403).await, counted("quay.io", "miss", 200).await), (0.0, 1.0));
    // Where nobody has it, the answer that the client gets is the line's.
    lab.quay.script("*/manifests/*", Act::Status(404));
    assert_eq!(session.get("/v2/org/none/manifests/1").await.status, 404);
    eventually("it has its line", || lines().len() > 1).await;
    let told = lines();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].contains("status=404") && told[1].contains("registry=\"quay.io\""), "{told:?}");
    assert_eq!(counted("docker.io", "miss", 403).await, 0.0);
}

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

const PAGE: (&str, &str) = ("text/html; charset=utf-8", "<html>default backend</html>");

fn said(status: u16, (media_type, body): (&str, &str), more: &[(&str, &str)]) -> Act {
    let headers = [("content-type", media_type)].into_iter().chain(more.iter().copied());
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Act::Answer { status, headers, body: body.to_owned() }
}

#[tokio::test]
async fn nobody_takes_over_the_names_of_a_registry_in_whose_place_a_server_answers() {
    let text = ("text/plain; charset=utf-8", "404 page not found");
    let gateway = ("application/json", r#"{"message":"no Route matched with those values"}"#);
    let lab = Lab::new().await;
    let image = lab.hub.push_image("org/app", "1", &[layer(10, 1)]);
    lab.quay.push_image("org/app", "1", &[layer(10, 2)]);
    let mut session = lab.session(ALL).await;
    let first = session.get("/v2/org/app/manifests/1").await;
    assert_eq!(first.header("docker-content-digest"), image.digest.to_string());
    for words in [PAGE, text, gateway] {
        for status in [404, 403, 401] {
            let line = lab.hub.script("*", said(status, words, &[]));
            for (method, rest) in
                [("GET", "manifests/1"), ("HEAD", "manifests/1"), ("GET", "manifests/2"), ("GET", "tags/list")]
            {
                // A HEAD has no words: what is not said to be text may be the registry's.
                if method == "HEAD" && words == gateway {
                    continue;
                }
                let answer = session.ask(method, &format!("/v2/org/app/{rest}"), &[]).await;
                assert_eq!(answer.status, 502, "{status} {words:?} {method} {rest}");
            }
            lab.hub.unscript(line);
        }
    }
    assert_eq!(lab.quay.count("*"), 0);
    assert_eq!(session.get("/v2/org/app/manifests/1").await.bytes(), first.bytes(), "it is back");
}

#[tokio::test]
async fn a_registrys_own_refusal_asks_the_next_in_whatever_form_registries_say_it() {
    let errors = ("application/json; charset=utf-8", r#"{"errors":[{"code":"DENIED","message":"no","detail":{}}]}"#);
    let version = [("docker-distribution-api-version", "registry/2.0")];
    let basic = [("www-authenticate", "Basic realm=\"Restricted\"")];
    let text = ("text/plain; charset=utf-8", "");
    let table: [(u16, (&str, &str), &[(&str, &str)]); 6] = [
        (404, errors, &[]),
        (403, errors, &version),
        (404, text, &version),
        (404, ("application/json", ""), &[]),
        (401, PAGE, &basic),
        (401, errors, &[]),
    ];
    for (status, words, more) in table {
        let lab = Lab::new().await;
        lab.hub.script("*", said(status, words, more));
        let image = lab.quay.push_image("org/app", "1", &[layer(10, 1)]);
        let mut session = lab.session(ALL).await;
        for (method, rest) in [
            ("HEAD", "manifests/1".to_owned()),
            ("GET", "manifests/1".to_owned()),
            ("GET", format!("blobs/{}", image.layers[0])),
            ("GET", "tags/list".to_owned()),
        ] {
            let answer = session.ask(method, &format!("/v2/org/app/{rest}"), &[]).await;
            assert_eq!(answer.status, 200, "{status} {words:?} {more:?} {method} {rest}");
        }
    }
}

#[tokio::test]
async fn referrers_are_asked_for_in_the_configured_order_whoever_had_other_content() {
    let lab = Lab::new().await;
    let ours = lab.hub.push_image("org/app", "1", &[layer(10, 1)]);
    let theirs = lab.quay.push_image("org/app", "2", &[layer(10, 2)]);
    lab.quay.push_image("org/app", "1", &[layer(10, 1)]);
    let mut session = lab.session(ALL).await;
    for digest in [theirs.digest, ours.digest] {
        assert_eq!(session.get(&format!("/v2/org/app/manifests/{digest}")).await.status, 200);
    }
    assert_eq!(session.get(&format!("/v2/org/app/manifests/{}", theirs.digest)).await.status, 200);
    for digest in [ours.digest, theirs.digest] {
        assert_eq!(session.get(&format!("/v2/org/app/referrers/{digest}")).await.status, 200);
    }
    assert_eq!((lab.hub.count("*/referrers/*"), lab.quay.count("*/referrers/*")), (2, 0));
    // One that has no such endpoint leaves it to the next, and a page in its place to nobody.
    let path = format!("/v2/org/app/referrers/{}", ours.digest);
    let no_endpoint = ("text/plain; charset=utf-8", "404 page not found");
    for (words, expected, asked) in [(no_endpoint, 200, 1), (PAGE, 404, 0)] {
        let line = lab.hub.script("*/referrers/*", said(404, words, &[]));
        lab.quay.forget();
        assert_eq!(session.get(&format!("{path}?n={asked}")).await.status, expected, "{words:?}");
        assert_eq!(lab.quay.count("*/referrers/*"), asked);
        lab.hub.unscript(line);
    }
}

#[tokio::test]
async fn a_lower_member_that_claims_all_content_hides_none_of_a_higher_one() {
    let lab = Lab::new().await;
    let ours = lab.hub.push_image("org/app", "1", &[layer(1000, 1), layer(1000, 2), layer(1000, 3)]);
    let theirs = lab.quay.push_image("org/app", "2", &[layer(1000, 4)]);
    let mut session = lab.session(ALL).await;
    // It has the last content under the name, and from now on says that it has everything.
    let own = format!("/v2/org/app/manifests/{}", theirs.digest);
    assert_eq!(session.get(&own).await.status, 200);
    lab.quay.script("*", Act::EveryHead);
    lab.quay.script(&format!("*/blobs/{}", ours.layers[0]), Act::Status(500));
    lab.quay.script(&format!("*/blobs/{}", ours.layers[1]), said(404, PAGE, &[]));
    for digest in &ours.layers[..2] {
        assert_eq!(session.get(&format!("/v2/org/app/blobs/{digest}")).await.status, 200, "{digest}");
        assert_eq!(lab.hub.count(&format!("*/blobs/{digest}")), 1);
        assert_eq!(session.get(&own).await.status, 200);
    }
    // What a HEAD says is no content.
    let blob = format!("/v2/org/app/blobs/{}", ours.layers[2]);
    lab.proxy.mirror_client().plain_session(ALL).await.ask("HEAD", &blob, &[]).await;
    lab.quay.script(&format!("*/blobs/{}", ours.layers[2]), said(200, ("application/octet-stream", "garbage"), &[]));
    let mut is_whole = false;
    for _ in 0..2 {
        let begun = lab.session(ALL).await.send("GET", &blob, &[], pullthrough::wire::Body::empty()).await;
        let Ok(answer) = begun else { continue };
        let status = answer.status();
        let whole = http_body_util::BodyExt::collect(answer.into_body()).await;
        is_whole = status == 200 && whole.is_ok();
    }
    assert!(is_whole, "the second try is the first member's");
}

#[tokio::test]
async fn a_rule_of_the_proxys_that_denies_a_member_ends_the_question() {
    let rules = "rules: [{name: not-hub, effect: deny, registries: [docker.io], repositories: ['org/*']}]";
    let lab = Lab::with(|plan| plan.clients(rules)).await;
    lab.hub.push_image("org/app", "1", &[layer(10, 1)]);
    let image = lab.quay.push_image("org/app", "1", &[layer(10, 2)]);
    let mut session = lab.session(ALL).await;
    for rest in ["manifests/1".to_owned(), format!("blobs/{}", image.layers[0]), "tags/list".to_owned()] {
        assert_eq!(session.get(&format!("/v2/org/app/{rest}")).await.status, 403, "{rest}");
    }
    assert_eq!((lab.hub.count("*"), lab.quay.count("*")), (0, 0));
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

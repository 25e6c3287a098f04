//! What names no configured registry is refused, and nobody is asked.

use super::{Lab, code};
use crate::pull::layer;
use crate::support::{Log, eventually};

#[tokio::test]
async fn an_unknown_registry_and_a_tricky_path_are_refused_and_nobody_is_asked() {
    let lab = Lab::new().await;
    let table = [
        ("any.example.org", "/v2/org/app/manifests/1?ns=ghcr.io", 404),
        ("any.example.org", "/v2/org/app/manifests/1?ns=127.0.0.1:1", 404),
        ("any.example.org", "/v2/org/app/manifests/1?ns=localhost", 404),
        ("any.example.org", "/v2/org/app/manifests/1?ns=169.254.169.254", 404),
        ("any.example.org", "/v2/org/app/manifests/1?ns=quay.io/org", 400),
        ("any.example.org", "/v2/org/app/manifests/1?ns=https%3A%2F%2Fquay.io", 400),
        ("any.example.org", "/v2/org/app/manifests/1?ns=quay.io&ns=docker.io", 400),
        ("any.example.org", "/v2/org/app/manifests/1?ns=quay.io&%6Es=docker.io", 400),
        ("any.example.org", "/v2/org/app/manifests/1?ns=", 400),
        ("any.example.org", "/v2/ghcr.io/org/app/manifests/1", 404),
        ("any.example.org", "/v2/127.0.0.1:1/org/app/manifests/1", 404),
        ("any.example.org", "/v2/quay.io%2forg/app/manifests/1", 400),
        ("any.example.org", "/v2/quay.io//org/app/manifests/1", 400),
        ("any.example.org", "/v2/quay.io/../org/app/manifests/1", 400),
        ("any.example.org", "/v2/%71uay.io/org/app/manifests/1", 400),
        ("any.example.org", "/v2/quay.io/manifests/1", 404),
        ("hub.example.org", "/v2//app/manifests/1", 400),
        ("m.example.org", "/v2/team/../app/manifests/1", 400),
        ("m.example.org", "/v2/team/_catalog", 404),
        ("quay.io", "/v2/org/app/manifests/1", 421),
    ];
    for (name, path, status) in table {
        for method in ["GET", "HEAD", "DELETE"] {
            let answer = lab.session(name).await.ask(method, path, &[]).await;
            assert_eq!(answer.status.as_u16(), status, "{method} {name} {path}");
            if method == "GET" {
                let expected = match status {
                    404 => "NAME_UNKNOWN",
                    421 => "DENIED",
                    _ => "UNSUPPORTED",
                };
                assert_eq!(code(&answer), expected, "{name} {path}");
            }
        }
    }
    assert_eq!((lab.hub.connections(), lab.quay.connections()), (0, 0));
}

#[tokio::test]
async fn rules_limits_and_networks_hold_at_the_mirror() {
    let rules = "rules: [{name: no-org, effect: deny, registries: [quay.io], repositories: ['org/*']}]";
    let lab = Lab::with(|plan| plan.clients(rules)).await;
    lab.quay.push_image("org/app", "1", &[layer(10, 1)]);
    lab.quay.push_image("free/app", "1", &[layer(10, 2)]);
    for (name, path) in [
        ("m.example.org", "/v2/team/app/manifests/1"),
        ("any.example.org", "/v2/quay.io/org/app/manifests/1"),
        ("any.example.org", "/v2/org/app/manifests/1?ns=quay.io"),
        ("any.example.org", "/v2/q/org/app/manifests/1"),
    ] {
        let answer = lab.get(name, path).await;
        assert_eq!((answer.status.as_u16(), code(&answer)), (403, "DENIED".to_owned()), "{name} {path}");
    }
    assert_eq!(lab.quay.count("*"), 0);
    assert_eq!(lab.get("any.example.org", "/v2/q/free/app/manifests/1").await.status, 200);
    let closed = Lab::with(|plan| plan.clients("allow: ['10.0.0.0/8']")).await;
    let answer = closed.get("hub.example.org", "/v2/app/manifests/1").await;
    assert_eq!((answer.status.as_u16(), closed.hub.connections()), (403, 0));
}

#[tokio::test]
async fn a_push_is_refused_to_a_group_and_goes_to_a_single_registry_where_it_may() {
    let lab = Lab::keyed("push: allow", |plan| plan).await;
    let mut session = lab.session("all.example.org").await;
    for method in ["PUT", "POST", "PATCH", "DELETE"] {
        let answer = session.ask(method, "/v2/org/app/manifests/1", &[]).await;
        assert_eq!(answer.status, 405, "{method}");
    }
    assert_eq!((lab.hub.connections(), lab.quay.connections()), (0, 0));
    let mut session = lab.session("any.example.org").await;
    let begun = session.ask("POST", "/v2/quay.io/org/app/blobs/uploads/", &[]).await;
    assert_eq!(begun.status, 202);
    assert_eq!(lab.quay.count("POST /v2/org/app/blobs/uploads/"), 1);
}

#[tokio::test]
async fn a_mirror_speaks_of_itself_as_a_mirror_and_its_refusals_have_a_line_with_its_name() {
    let log = Log::begin();
    let lab = Lab::new().await;
    let mut session = lab.session("m.example.org").await;
    for (path, status) in [("/nothing", 404), ("/", 200)] {
        let answer = session.get(path).await;
        let words = String::from_utf8(answer.bytes().to_vec()).unwrap();
        assert_eq!(answer.status, status, "{path}");
        assert!(words.contains("mirror") && !words.contains("CONNECT") && !words.contains("HTTPS_PROXY"), "{words}");
    }
    assert_eq!(session.get("/v2/a/b/manifests/1?ns=other.example.com").await.status, 404);
    let line = || log.with(&["access", "kind=\"mirror\"", "host=\"m.example.org\"", "status=404"]);
    eventually("it has its line", || line().len() == 1).await;
}

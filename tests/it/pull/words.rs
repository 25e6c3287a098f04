//! What is a registry's own word and what is not: pings, 404s, odd types, manifests that are redirected.

use super::layer;
use super::private::{ALICE, EXAMPLE, Lab, ask};
use super::{QUAY, quay};
use crate::support::{Act, MANIFEST, Plan, Registry, Setup, eventually};

const ODD_TYPES: [&str; 4] = ["text/plain", "application/json; charset=utf-8", "application/octet-stream", ""];

fn answer(status: u16, media_type: &str, body: &str) -> Act {
    Act::Answer { status, headers: vec![("content-type".into(), media_type.into())], body: body.to_owned() }
}

fn typed(media_type: &str) -> Act {
    Act::Header("content-type".into(), media_type.into())
}

#[tokio::test]
async fn a_page_is_no_ping_that_lets_everybody_in() {
    let pages = [
        answer(200, "text/html", "{}"),
        answer(200, "application/json", r#"{"status":"down for maintenance"}"#),
        answer(200, "text/plain", "ok"),
    ];
    for page in pages {
        let (mut registry, mut proxy) = quay().await;
        registry.script("/v2/", page.clone());
        assert_eq!(proxy.client().get(QUAY, "/v2/").await.status, 200, "it is passed on");
        registry.stop();
        for restarted in [false, true] {
            if restarted {
                proxy.restart().await;
            }
            let ping = proxy.client().get(QUAY, "/v2/").await;
            assert_eq!(ping.status, 401, "{page:?}, restarted {restarted}");
        }
    }
}

#[tokio::test]
async fn a_ping_that_a_cookie_opened_lets_nobody_else_in() {
    let (mut registry, proxy) = quay().await;
    let mut session = proxy.client().session(QUAY).await;
    assert_eq!(session.ask("GET", "/v2/", &[("cookie", "session=1")]).await.status, 200);
    registry.stop();
    assert_eq!(proxy.client().get(QUAY, "/v2/").await.status, 401);
}

#[tokio::test]
async fn a_gateways_404_takes_no_last_known_answer_and_is_remembered_by_nobody() {
    let table = [
        (answer(404, "text/html", "<html>not here</html>"), true),
        (answer(404, "text/plain", "default backend - 404"), true),
        (Act::Status(404), false),
    ];
    for (act, is_gateways) in table {
        let registry = Registry::start("quay.io");
        let tags = "tags: {fresh_for: 1h, rules: [{match: '^1$', fresh_for: 0s}]}";
        let proxy = Plan::new().registry(&registry, tags).start().await;
        registry.push_image("a", "1", &[layer(1000, 1)]);
        let hidden = registry.push_manifest("b", None, MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
        registry.remove("b", &hidden.to_string());
        let (tag, other) = ("/v2/a/manifests/1", format!("/v2/b/manifests/{hidden}"));
        assert_eq!(proxy.client().get(QUAY, tag).await.status, 200);
        let line = registry.script("GET *", act.clone());
        let head = registry.script("HEAD *", act.clone());
        for path in [tag, &other] {
            assert_eq!(proxy.client().get(QUAY, path).await.status, 404, "{act:?}: as the client would have it");
        }
        registry.unscript(line);
        registry.unscript(head);
        registry.push_manifest("b", None, MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
        let found = proxy.client().get(QUAY, &other).await.status;
        assert_eq!(found == 200, is_gateways, "{act:?}: {found}, asked anew or not");
        registry.script("*", Act::Status(503));
        let last_known = proxy.client().get(QUAY, tag).await.status;
        assert_eq!(last_known == 200, is_gateways, "{act:?}: {last_known}");
    }
}

#[tokio::test]
async fn bytes_that_are_a_manifest_count_whatever_type_the_registry_says() {
    for media_type in ODD_TYPES {
        let (registry, proxy) = quay().await;
        let image = registry.push_image("a", "1", &[layer(1000, 2)]);
        registry.script("*/manifests/*", typed(media_type));
        registry.script("*/manifests/*", Act::NoDigest);
        let by_digest = format!("/v2/a/manifests/{}", image.digest);
        for path in ["/v2/a/manifests/1", "/v2/a/manifests/1", &by_digest] {
            let got = proxy.client().get(QUAY, path).await;
            assert_eq!((got.status.as_u16(), got.bytes()), (200, &image.manifest), "{media_type} {path}");
            assert_eq!(got.header("content-type"), MANIFEST, "{media_type} {path}: as the manifest says");
            assert_eq!(got.header("docker-content-digest"), image.digest.to_string());
        }
        assert_eq!(registry.requests().len(), 1, "{media_type}");
    }
}

#[tokio::test]
async fn a_blob_of_an_odd_type_is_kept_and_opens_itself_alone() {
    for media_type in ODD_TYPES {
        let lab = Lab::new("").await;
        let image = lab.registry.push_image("team/app", "1", &[layer(3000, 3), layer(3000, 4)]);
        let [one, other] = [0, 1].map(|at| format!("/v2/team/app/blobs/{}", image.layers[at]));
        let alice = lab.bearer(ALICE, "team/app").await;
        assert_eq!(lab.get(&other, Some(&alice)).await.status, 200);
        lab.proxy.stored(&image.layers[1]).await;
        for act in [typed(media_type), Act::NoDigest] {
            lab.registry.script("*/blobs/*", act);
        }
        let answered = ask(&lab.proxy.client(), "GET", &one, Some(&alice)).await;
        assert_eq!(answered.bytes()[..], layer(3000, 3)[..], "{media_type}");
        lab.proxy.stored(&image.layers[0]).await;
        let asked = lab.registry.count(&format!("GET {one}"));
        assert_eq!(lab.get(&one, Some(&alice)).await.bytes().len(), 3000);
        assert_eq!((asked, lab.registry.count(&format!("GET {one}"))), (1, 1), "{media_type}: fetched once");
        for path in [&one, &other] {
            assert_eq!(lab.get(path, None).await.status, 401, "{media_type} {path}");
        }
    }
}

#[tokio::test]
async fn a_registry_that_names_no_blob_opens_each_blob_by_itself() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").start().await;
    registry.script("*/blobs/*", Act::NoDigest);
    let [one, other] = [5, 6].map(|seed| registry.push_blob("a", layer(3000, seed)));
    let path = |digest| format!("/v2/a/blobs/{digest}");
    let owner = "Basic b3duZXI=";
    let mut session = proxy.client().session(QUAY).await;
    assert_eq!(session.ask("GET", &path(other), &[("authorization", owner)]).await.status, 200);
    assert_eq!(session.get(&path(one)).await.status, 200);
    for digest in [&one, &other] {
        proxy.stored(digest).await;
    }
    registry.forget();
    assert_eq!(session.get(&path(one)).await.status, 200);
    assert_eq!(registry.requests().len(), 0, "it was given to nobody before");
    registry.script("*", Act::Status(401));
    assert_eq!(session.get(&path(other)).await.status, 401, "that says nothing of another blob");
    assert_eq!(session.get(&path(one)).await.status, 401, "and a no ends what was given");
}

#[tokio::test]
async fn a_manifest_that_another_host_delivers_is_kept_by_its_digest() {
    // As registry.k8s.io does it.
    for says_digest in [true, false] {
        let registry = Registry::start("quay.io");
        let mirror = registry.sibling(Setup::named("europe.pkg.dev"));
        registry.script("/v2/a/*", Act::Redirect { status: 307, location: "https://europe.pkg.dev{path}".to_owned() });
        if !says_digest {
            mirror.script("*", Act::NoDigest);
        }
        let proxy = Plan::new().registry(&registry, "").host("europe.pkg.dev", &mirror).start().await;
        let image = registry.push_image("a", "1", &[layer(1000, 7)]);
        let by_digest = format!("/v2/a/manifests/{}", image.digest);
        for path in ["/v2/a/manifests/1", &by_digest, &by_digest] {
            let got = proxy.client().get(QUAY, path).await;
            assert_eq!((got.status.as_u16(), got.bytes()), (200, &image.manifest), "{path}, says it {says_digest}");
        }
        let asked = [mirror.count("*/manifests/1"), mirror.count(&by_digest)];
        assert_eq!(asked, if says_digest { [1, 0] } else { [1, 1] }, "what nobody names has to be asked for by digest");
    }
}

#[tokio::test]
async fn an_artifacts_manifest_is_kept_and_an_unknown_one_passes() {
    let artifact = "application/vnd.oci.artifact.manifest.v1+json";
    let table = [
        (artifact, format!(r#"{{"mediaType":"{artifact}","artifactType":"a/b","blobs":[]}}"#), 1),
        ("application/vnd.example.new+json", r#"{"schemaVersion":3}"#.to_owned(), 2),
    ];
    for (media_type, bytes, fetched) in table {
        let (registry, proxy) = quay().await;
        let digest = registry.push_manifest("a", None, media_type, bytes.clone());
        for _ in 0..2 {
            let got = proxy.client().get(QUAY, &format!("/v2/a/manifests/{digest}")).await;
            assert_eq!((got.status.as_u16(), got.bytes()[..].to_vec()), (200, bytes.clone().into_bytes()));
            assert_eq!(got.header("content-type"), media_type);
        }
        assert_eq!(registry.count("GET *"), fetched, "{media_type}");
        assert_eq!(proxy.files().0, usize::from(fetched == 1), "{media_type}");
    }
}

#[tokio::test]
async fn what_a_page_answers_to_nobodys_question_behind_a_pull_opens_nothing() {
    let lab = Lab::new("").await;
    let image = lab.registry.push_image("team/app", "1", &[layer(1000, 8)]);
    let alice = lab.bearer(ALICE, "team/app").await;
    let page = answer(200, "text/html", "<html>log in</html>");
    let shown = lab.registry.script("*", Act::Unless(alice.clone(), Box::new(page)));
    let paths = ["/v2/team/app/manifests/1".to_owned(), format!("/v2/team/app/blobs/{}", image.layers[0])];
    for path in &paths {
        assert_eq!(lab.get(path, Some(&alice)).await.status, 200);
    }
    let is_nobodys = |seen: &crate::support::Seen| !seen.headers.contains_key("authorization");
    eventually("it was asked as nobody", || lab.registry.requests().iter().any(is_nobodys)).await;
    lab.registry.unscript(shown);
    for path in &paths {
        assert_eq!(lab.get(path, None).await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn a_token_service_that_answers_with_a_page_gives_nobody_a_name() {
    for page in [answer(200, "text/html", "<html>log in</html>"), answer(200, "application/json", r#"{"token":5}"#)] {
        let lab = Lab::new("").await;
        let image = lab.registry.push_image("team/app", "1", &[layer(1000, 9)]);
        let path = format!("/v2/team/app/blobs/{}", image.layers[0]);
        let alice = lab.bearer(ALICE, "team/app").await;
        assert_eq!(lab.get(&path, Some(&alice)).await.status, 200);
        lab.auth.script("*/token", page.clone());
        let basic = crate::support::basic_value("alice", "secret-a");
        let mut session = lab.proxy.client().session(super::private::AUTH).await;
        let token = "/token?service=lab&scope=repository:team/app:pull";
        let got = session.ask("GET", token, &[("authorization", &basic)]).await;
        assert_eq!(got.status, 200, "{page:?} is passed on");
        for header in ["Bearer 5", "Bearer <html>log", "Bearer undefined"] {
            assert_eq!(lab.get(&path, Some(header)).await.status, 401, "{page:?} {header}");
        }
    }
}

#[tokio::test]
async fn a_list_that_anybody_may_read_gives_no_right_to_what_it_lists() {
    let tokens = crate::support::Tokens::new().user("alice", "secret-a", &["team/*"]);
    let (registry, auth) = (Registry::start("registry.example.com"), Registry::start("auth.example.com"));
    auth.serve_tokens(&tokens);
    for pattern in ["*/manifests/*", "*/blobs/*"] {
        registry.script(pattern, Act::Bearer(tokens.clone(), "https://auth.example.com/token".into()));
    }
    let plan = Plan::new().registry(&registry, "token_hosts: [auth.example.com]").host("auth.example.com", &auth);
    let mut proxy = plan.start().await;
    let image = registry.push_image("team/app", "1", &[layer(1000, 10)]);
    let alice = super::private::bearer(&proxy.client(), ALICE, "team/app").await;
    let paths = [format!("/v2/team/app/manifests/{}", image.digest), format!("/v2/team/app/blobs/{}", image.layers[0])];
    for path in &paths {
        assert_eq!(ask(&proxy.client(), "GET", path, Some(&alice)).await.status, 200);
    }
    for list in ["/v2/team/app/tags/list".to_owned(), format!("/v2/team/app/referrers/{}", image.digest)] {
        assert_eq!(proxy.client().get(EXAMPLE, &list).await.status, 200);
    }
    for restarted in [false, true] {
        if restarted {
            proxy.restart().await;
        }
        for path in &paths {
            assert_eq!(proxy.client().get(EXAMPLE, path).await.status, 401, "{path}, restarted {restarted}");
        }
    }
}

//! Lists and other answers at a mirror: their links, and what a registry says of its host.

use super::{ALONE, Lab, MIRROR, NAMES, Name, REGISTRY};
use crate::support::{Act, Registry};

#[tokio::test]
async fn a_lists_next_page_is_the_clients_own_path() {
    let lab = Lab::start(Registry::start(REGISTRY), "", "").await;
    let image = lab.registry.push_image("team/app", "1", &[vec![1; 100]]);
    for rest in ["tags/list".to_owned(), format!("referrers/{}", image.digest)] {
        let own = format!("/v2/team/app/{rest}?n=1&last=a%2Fb");
        for link in [own.clone(), format!("https://{REGISTRY}{own}"), format!("http://{REGISTRY}:5000{own}")] {
            let line = lab.registry.script(
                &format!("/v2/team/app/{rest}"),
                Act::Header("link".into(), format!("<{link}>; rel=\"next\", <https://evil.test/x>; rel=prev")),
            );
            // The first registry of the group says that it has no referrers, and that is an answer.
            for name in NAMES.into_iter().filter(|name| *name != Name::Group || rest == "tags/list") {
                let answer = lab.ask(name.host(), "GET", &name.path("team/app", &rest), None).await;
                let ns = if name == Name::Namespace { format!("&ns={REGISTRY}") } else { String::new() };
                let expected = format!("</v2/{}/{rest}?n=1&last=a%2Fb{ns}>; rel=\"next\"", name.written("team/app"));
                assert_eq!((answer.status.as_u16(), answer.header("link")), (200, &*expected), "{name:?} {link}");
                assert_eq!(answer.headers.get_all("link").iter().count(), 1);
            }
            lab.registry.unscript(line);
        }
    }
}

#[tokio::test]
async fn what_a_registry_says_of_its_host_is_not_said_of_the_mirror() {
    let lab = Lab::start(Registry::start(REGISTRY), "", "").await;
    lab.registry.push_image("team/app", "1", &[vec![1; 100]]);
    let said = [
        ("set-cookie", "a=b"),
        ("strict-transport-security", "max-age=63072000; includeSubDomains"),
        ("alt-svc", "h3=\":443\""),
        ("clear-site-data", "\"*\""),
        ("content-location", "https://registry.example.com/v2/team/app"),
    ];
    for (name, value) in said {
        lab.registry.script("*", Act::Header(name.into(), value.into()));
    }
    for path in ["/v2/", "/v2/team/app/tags/list", "/v2/team/app/manifests/1", "/v2/team/app/manifests/none"] {
        let answer = lab.ask(ALONE, "GET", path, None).await;
        assert!(said.iter().all(|(name, _)| !answer.headers.contains_key(*name)), "{path}: {:?}", answer.headers);
        let direct = lab.proxy.client().session("registry.example.com:443").await.get(path).await;
        assert_eq!(direct.status, answer.status, "{path}");
    }
}

#[tokio::test]
async fn a_registrys_words_reach_the_client_and_its_challenge_does_not() {
    let lab = Lab::start(Registry::start(REGISTRY), "", "").await;
    lab.registry.serve_tokens(&crate::support::Tokens::new());
    let body = r#"{"errors":[{"code":"DENIED","message":"ask the data team"}]}"#;
    lab.registry.script(
        "/v2/team/*",
        Act::Answer {
            status: 401,
            headers: vec![
                ("content-type".into(), "application/json".into()),
                (
                    "www-authenticate".into(),
                    "Bearer realm=\"https://registry.example.com/token\",error=\"invalid_token\"".into(),
                ),
                ("www-authenticate".into(), "Negotiate".into()),
            ],
            body: body.into(),
        },
    );
    for (name, error) in [(Name::Alone, "invalid_token"), (Name::Path, "insufficient_scope")] {
        for rest in ["manifests/1", "tags/list"] {
            let answer = lab.ask(name.host(), "GET", &name.path("team/app", rest), None).await;
            assert_eq!((answer.status.as_u16(), &answer.bytes()[..]), (401, body.as_bytes()), "{name:?} {rest}");
            let (host, written) = (name.host(), name.written("team/app"));
            let expected = format!(
                "Bearer realm=\"http://{host}/v2/_pullthrough/token\",service=\"{host}\",scope=\"repository:{written}:pull\",error=\"{error}\""
            );
            assert_eq!(answer.header("www-authenticate"), expected);
            assert_eq!(answer.headers.get_all("www-authenticate").iter().count(), 1);
        }
    }
}

#[tokio::test]
async fn a_client_of_a_mirror_is_sent_to_no_other_host_to_read() {
    let lab = Lab::start(Registry::start(REGISTRY), "", "").await;
    let image = lab.registry.push_image("team/app", "1", &[vec![1; 100]]);
    // The other registry wants credentials that nobody has here.
    lab.other.require_basic("alice", "secret-a");
    let location = "https://other.example.com{path}".to_owned();
    lab.registry.script("/v2/team/app/*", Act::Redirect { status: 307, location });
    for name in [Name::Alone, Name::Path] {
        for rest in ["manifests/1".to_owned(), format!("blobs/{}", image.layers[0]), "tags/list".to_owned()] {
            let answer = lab.ask(name.host(), "GET", &name.path("team/app", &rest), None).await;
            assert!(matches!(answer.status.as_u16(), 401 | 403 | 502), "{name:?} {rest}: {}", answer.status);
            assert!(!answer.headers.contains_key("location"), "{name:?} {rest}");
            assert!(!format!("{:?}", answer.headers).contains("lab"), "{:?}", answer.headers);
        }
    }
}

#[tokio::test]
async fn redirected_lists_and_blobs_are_followed_here() {
    let lab = Lab::start(Registry::start(REGISTRY), "", "").await;
    let image = lab.registry.push_image("team/app", "1", &[vec![1; 100]]);
    lab.other.push_image("team/app", "1", &[vec![1; 100]]);
    let location = "https://other.example.com{path}".to_owned();
    lab.registry.script("/v2/team/app/*", Act::Redirect { status: 307, location });
    for name in NAMES {
        for rest in ["manifests/1".to_owned(), format!("blobs/{}", image.layers[0]), "tags/list".to_owned()] {
            let answer = lab.ask(name.host(), "GET", &name.path("team/app", &rest), None).await;
            assert_eq!((answer.status.as_u16(), answer.header("location")), (200, ""), "{name:?} {rest}");
        }
    }
}

#[tokio::test]
async fn in_an_outage_a_name_without_credentials_asks_for_none() {
    let mut lab = Lab::with_tokens("tags: {fresh_for: 0s, deadline: 2s}", "").await;
    let image = lab.registry.push_image("public/app", "1", &[vec![1; 100]]);
    for path in super::paths(Name::Default, "public/app", &image) {
        assert_eq!(lab.ask(MIRROR, "GET", &path, None).await.status, 200);
    }
    for digest in image.layers.iter().chain([&image.config, &image.digest]) {
        lab.proxy.stored(digest).await;
    }
    lab.registry.stop();
    for path in super::paths(Name::Default, "public/app", &image) {
        assert_eq!(lab.ask(MIRROR, "GET", &path, None).await.status, 200, "{path}");
    }
    assert_eq!(lab.ask(MIRROR, "GET", "/v2/", None).await.status, 200);
    let missing = lab.ask(MIRROR, "GET", "/v2/public/other/manifests/1", None).await;
    assert_eq!(missing.status, 503, "it may be back soon, and no token would help");
}

#[tokio::test]
async fn a_list_of_tags_names_the_repository_as_its_client_does() {
    let lab = Lab::start(Registry::start(REGISTRY), "", "").await;
    lab.registry.push_image("team/app", "1", &[vec![1; 100]]);
    for name in NAMES {
        let answer = lab.ask(name.host(), "GET", &name.path("team/app", "tags/list"), None).await;
        let list: serde_json::Value = serde_json::from_slice(answer.bytes()).unwrap();
        assert_eq!(list, serde_json::json!({"name": name.written("team/app"), "tags": ["1"]}), "{name:?}");
        assert_eq!(answer.header("content-length"), answer.bytes().len().to_string(), "{name:?}");
    }
    let direct = lab.proxy.client().session("registry.example.com:443").await.get("/v2/team/app/tags/list").await;
    assert!(std::str::from_utf8(direct.bytes()).unwrap().contains("\"team/app\""));
}

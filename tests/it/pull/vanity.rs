//! A registry that is only a name: it redirects everything to another registry, which wants tokens of its own service.

use super::layer;
use crate::support::client::{Client, Session, Whole};
use crate::support::{Act, Image, Plan, Proxy, Registry, Tokens, basic_value};

const VANITY: &str = "vanity.test:443";
const REAL: &str = "real.test:443";
const AUTH: &str = "auth.real.test:443";

struct Lab {
    vanity: Registry,
    real: Registry,
    auth: Registry,
    tokens: Tokens,
    proxy: Proxy,
}

impl Lab {
    /// `is_known`: the other registry is one of this proxy's, too. `more` are keys of the first one's entry.
    async fn new(is_known: bool, more: &str) -> Self {
        let tokens = Tokens::new().public("public/*").user("alice", "secret", &["team/*"]);
        let [vanity, real, auth] = ["vanity.test", "real.test", "auth.real.test"].map(Registry::start);
        vanity.script("/v2/*", Act::Redirect { status: 307, location: "https://real.test{path}".to_owned() });
        real.require_token(&tokens, "https://auth.real.test/token");
        auth.serve_tokens(&tokens);
        let plan = Plan::new().registry(&vanity, &format!("tags: {{fresh_for: 1h}}, prefetch: 0{more}"));
        let plan = if is_known { plan.registry(&real, "token_hosts: [auth.real.test]") } else { plan };
        let plan = plan.host("real.test", &real).host("auth.real.test", &auth);
        let proxy = plan.tunnel("allow: ['127.0.0.0/8']").start().await;
        Self { vanity, real, auth, tokens, proxy }
    }

    fn client(&self) -> Client {
        self.proxy.client().trusting(&self.real.ca_file())
    }

    fn is_anything_told(&self, secret: &str) -> bool {
        let seen = [self.real.requests(), self.auth.requests()].concat();
        seen.iter().any(|seen| format!("{:?}", seen.headers).contains(secret))
    }
}

async fn ask(session: &mut Session, method: &str, path: &str, authorization: Option<&str>) -> Whole {
    let headers: Vec<(&str, &str)> = authorization.map(|value| ("authorization", value)).into_iter().collect();
    session.ask(method, path, &headers).await
}

fn paths(repository: &str, image: &Image) -> Vec<String> {
    let blobs = image.layers.iter().chain([&image.config]).map(|digest| format!("/v2/{repository}/blobs/{digest}"));
    let manifests = ["1".to_owned(), image.digest.to_string()].map(|last| format!("/v2/{repository}/manifests/{last}"));
    manifests.into_iter().chain(blobs).collect()
}

#[tokio::test]
async fn what_anybody_may_read_behind_a_name_pulls_for_every_client_and_is_cached() {
    // As Docker and containerd (nothing), crane and Skopeo (the other registry's token) and a user of the first one come.
    for authorization in [None, Some("Bearer of-the-other-registry"), Some("Basic dmFuaXR5OnNlY3JldA==")] {
        for is_known in [false, true] {
            let lab = Lab::new(is_known, "").await;
            let image = lab.real.push_image("public/app", "1", &[layer(50_000, 1)]);
            let mut session = lab.client().session(VANITY).await;
            let ping = ask(&mut session, "GET", "/v2/", None).await;
            assert_eq!((ping.status.as_u16(), ping.header("location")), (307, "https://real.test/v2/"));
            let head = ask(&mut session, "HEAD", "/v2/public/app/manifests/1", authorization).await;
            assert_eq!(head.header("docker-content-digest"), image.digest.to_string());
            for _ in 0..2 {
                for path in paths("public/app", &image) {
                    let got = ask(&mut session, "GET", &path, authorization).await;
                    assert!(got.status == 200 && got.body.is_ok(), "{authorization:?}: {path}: {got:?}");
                }
                lab.proxy.stored(&image.layers[0]).await;
            }
            let delivered = lab.real.requests().iter().filter(|seen| seen.status == Some(200)).count();
            let asked = lab.vanity.count("GET */blobs/*");
            assert!(asked == 2 && delivered <= 6, "{authorization:?}: {asked}, {delivered}: the second pull is ours");
            assert_eq!(lab.auth.count("*"), 1, "one token for all");
            assert!(!lab.is_anything_told("of-the-other-registry") && !lab.is_anything_told("dmFuaXR5OnNlY3JldA=="));
        }
    }
}

#[tokio::test]
async fn what_wants_credentials_behind_a_name_is_handed_over_to_the_client_who_has_some() {
    for is_known in [false, true] {
        let lab = Lab::new(is_known, "").await;
        let image = lab.real.push_image("team/app", "1", &[layer(50_000, 2)]);
        for path in paths("team/app", &image) {
            for method in ["HEAD", "GET"] {
                let answer = ask(&mut lab.client().session(VANITY).await, method, &path, Some("Bearer x")).await;
                let location = format!("https://real.test{path}");
                assert_eq!((answer.status.as_u16(), answer.header("location")), (307, &*location), "{method} {path}");
            }
            // As the client goes on, through the same proxy.
            let service = "/token?service=lab&scope=repository:team/app:pull";
            let alice = basic_value("alice", "secret");
            let token = ask(&mut lab.client().session(AUTH).await, "GET", service, Some(&alice)).await;
            let bearer = super::private::token(&token);
            let got = ask(&mut lab.client().session(REAL).await, "GET", &path, Some(&bearer)).await;
            assert!(got.status == 200 && got.body.is_ok(), "{path}: {got:?}");
            // What she was given is nobody else's.
            let other = ask(&mut lab.client().session(VANITY).await, "GET", &path, None).await;
            assert_eq!(other.status, 307, "{path}");
        }
    }
}

#[tokio::test]
async fn a_token_of_the_other_registry_that_ended_is_asked_for_anew() {
    let lab = Lab::new(false, "").await;
    let image = lab.real.push_image("public/app", "1", &[layer(1000, 3), layer(1000, 4)]);
    let mut session = lab.client().session(VANITY).await;
    for digest in &image.layers {
        let got = ask(&mut session, "GET", &format!("/v2/public/app/blobs/{digest}"), None).await;
        assert_eq!(got.status, 200, "{got:?}");
        lab.tokens.revoke_all();
    }
    assert_eq!(lab.auth.count("*"), 2);
}

#[tokio::test]
async fn the_proxys_own_credentials_go_to_the_first_registry_alone() {
    let lab = Lab::new(false, ", auth: {username: vanity, password: vanity-secret, repositories: ['public/*']}").await;
    let image = lab.real.push_image("public/app", "1", &[layer(1000, 5)]);
    let line = lab.vanity.require_basic("vanity", "vanity-secret");
    let mut session = lab.client().session(VANITY).await;
    for path in paths("public/app", &image) {
        assert_eq!(ask(&mut session, "GET", &path, None).await.status, 200, "{path}");
    }
    assert!(!lab.is_anything_told(&basic_value("vanity", "vanity-secret")));
    lab.vanity.unscript(line);
}

#[tokio::test]
async fn no_client_is_handed_a_url_that_may_hold_a_secret() {
    for location in ["https://real.test{path}?sig=secret", "https://real.test/signed-secret{path}"] {
        let lab = Lab::new(false, "").await;
        lab.real.script("/signed*", Act::Bearer(lab.tokens.clone(), "https://auth.real.test/token".to_owned()));
        let image = lab.real.push_image("team/app", "1", &[layer(1000, 6)]);
        let path = format!("/v2/team/app/blobs/{}", image.layers[0]);
        lab.vanity.script("*/blobs/*", Act::Header("location".to_owned(), location.replace("{path}", &path)));
        let answer = ask(&mut lab.client().session(VANITY).await, "GET", &path, None).await;
        assert!(answer.status.is_server_error() && answer.header("location").is_empty(), "{location}: {answer:?}");
        assert!(!String::from_utf8_lossy(answer.bytes()).contains("secret"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_subdomain_of_the_same_registry_gets_no_token_of_it_and_is_handed_over_where_it_wants_one() {
    let registry = Registry::start("example.com");
    let blobs = registry.sibling(crate::support::Setup::named("blobs.example.com"));
    let proxy = Plan::new().registry(&registry, "").host("blobs.example.com", &blobs).start().await;
    let image = registry.push_image("a", "1", &[layer(1000, 7)]);
    let to_blobs = Act::Redirect { status: 307, location: "https://blobs.example.com{path}".to_owned() };
    registry.script("*/blobs/*", Act::Unless("Bearer none".to_owned(), Box::new(to_blobs)));
    blobs.require_basic("alice", "secret");
    let path = format!("/v2/a/blobs/{}", image.layers[0]);
    let alice = basic_value("alice", "secret");
    let answer = ask(&mut proxy.client().session("example.com:443").await, "GET", &path, Some(&alice)).await;
    let location = format!("https://blobs.example.com{path}");
    assert_eq!((answer.status.as_u16(), answer.header("location")), (307, &*location), "{answer:?}");
    assert!(blobs.requests().iter().all(|seen| !seen.headers.contains_key("authorization")));
}

#[tokio::test]
async fn a_redirect_to_plain_http_is_refused_and_the_client_is_told_why() {
    let (registry, plain) = (Registry::start("quay.io"), Registry::plain("plain.example"));
    let proxy = Plan::new().registry(&registry, "").start().await;
    let image = registry.push_image("a", "1", &[layer(1000, 8)]);
    let location = format!("http://{}{{path}}?sig=secret", plain.address());
    registry.script("*/blobs/*", Act::Redirect { status: 307, location });
    let path = format!("/v2/a/blobs/{}", image.layers[0]);
    let answer = proxy.client().get(super::QUAY, &path).await;
    let words = String::from_utf8_lossy(answer.bytes()).into_owned();
    assert!(answer.status == 502 && words.contains("redirects from https to http"), "{answer:?}");
    assert!(!words.contains("secret") && plain.connections() == 0);
}

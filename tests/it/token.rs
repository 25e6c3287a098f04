//! Tokens against scripted registries: one request for all, and credentials that go where they may.

use std::time::Duration;

use futures_util::future::join_all;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use pullthrough::host::Secret;
use pullthrough::oci::{Authority, Bearer};
use pullthrough::upstream::{
    AddressRules, Config, Credential, Endpoint, HostConfig, Realm, TokenAsk, TokenError, Tokens, Upstream,
};

use crate::support::{self, Act, Gate, Registry, Setup, basic_value, eventually};

const SERVICE: &str = "lab";

struct Lab {
    registry: Registry,
    service: support::Tokens,
    tokens: Tokens,
    scopes: Vec<String>,
}

impl Lab {
    /// A registry that is its own token service, and the proxy's way to it and to `others`.
    fn new(others: &[&Registry]) -> Self {
        let registry = Registry::start("r.example.com");
        let service = service();
        registry.serve_tokens(&service);
        let upstream = upstream(&[&[&registry], others].concat());
        Self { registry, service, tokens: Tokens::new(upstream).unwrap(), scopes: pull("team/app") }
    }

    fn challenge(&self) -> Bearer {
        challenge(&self.registry)
    }

    fn home(&self) -> Authority {
        authority(&self.registry)
    }

    async fn bearer(&self, credential: Option<&Credential>) -> Result<HeaderValue, TokenError> {
        self.bearer_of(&self.challenge(), &self.scopes, credential, &[]).await
    }

    async fn bearer_of(
        &self,
        challenge: &Bearer,
        scopes: &[String],
        credential: Option<&Credential>,
        realms: &[Realm],
    ) -> Result<HeaderValue, TokenError> {
        self.tokens
            .bearer(&TokenAsk { challenge, scopes, credential, home: &Endpoint::of_host(&self.home()), realms })
            .await
    }

    /// Whether this header reads the private repository.
    async fn reads(&self, bearer: &HeaderValue) -> bool {
        let digest = self.registry.push_blob("team/app", "secret");
        let line = self.registry.require_token(&self.service, "https://r.example.com/token");
        let upstream = upstream(&[&self.registry]);
        let mut request = http::Request::get(format!("/v2/team/app/blobs/{digest}")).body(()).unwrap();
        request.headers_mut().insert(AUTHORIZATION, bearer.clone());
        let endpoint = Endpoint::of_host(&self.home());
        let answer = upstream.fetch(&endpoint, request).await.unwrap();
        self.registry.unscript(line);
        answer.status() == StatusCode::OK
    }
}

fn service() -> support::Tokens {
    support::Tokens::new().public("public/*").user("alice", "s3cret&", &["team/*"]).identity("refresh", &["team/*"])
}

fn authority(registry: &Registry) -> Authority {
    Authority::parse(&format!("{}:{}", registry.name(), registry.address().port()), 443).unwrap()
}

fn challenge(registry: &Registry) -> Bearer {
    Bearer { realm: format!("{}/token", registry.url()), service: Some(SERVICE.to_owned()), ..Bearer::default() }
}

fn upstream(servers: &[&Registry]) -> Upstream {
    let reach = |server: &&Registry| HostConfig {
        address: Some(server.address()),
        ca_file: Some(server.ca_file()),
        ..HostConfig::default()
    };
    let hosts = servers.iter().map(|server| (authority(server).to_string(), reach(server))).collect();
    Upstream::new(&Config { hosts, ..Config::default() }, &[], AddressRules::default()).unwrap()
}

fn pull(repository: &str) -> Vec<String> {
    vec![format!("repository:{repository}:pull")]
}

fn alice() -> Credential {
    Credential::new("alice".into(), Secret::new("s3cret&".into()))
}

fn identity() -> Credential {
    Credential::Identity { token: Secret::new("refresh".into()) }
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn an_anonymous_token_is_got_by_get_without_credentials() {
    let lab = Lab::new(&[]);
    let bearer = lab.bearer(None).await.unwrap();
    assert_eq!(bearer, "Bearer token-1");
    assert_eq!(format!("{bearer:?}"), "Sensitive");
    let seen = &lab.registry.requests()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/token"));
    assert_eq!(seen.query, "service=lab&scope=repository%3Ateam%2Fapp%3Apull");
    assert_eq!(authorization(&seen.headers), None);
    assert!(!lab.reads(&bearer).await);
}

#[tokio::test]
async fn a_password_and_an_identity_token_are_posted() {
    for credential in [alice(), identity()] {
        let lab = Lab::new(&[]);
        let bearer = lab.bearer(Some(&credential)).await.unwrap();
        let seen = lab.registry.requests();
        assert_eq!(seen.iter().map(|seen| seen.method.as_str()).collect::<Vec<_>>(), ["POST"]);
        assert_eq!((seen[0].query.as_str(), authorization(&seen[0].headers)), ("", None));
        assert!(lab.reads(&bearer).await, "{credential:?}");
    }
}

#[tokio::test]
async fn where_no_post_is_taken_a_password_goes_by_get_and_the_next_one_at_once() {
    for status in [400, 401, 404, 405] {
        let lab = Lab::new(&[]);
        lab.registry.script("POST /token", Act::Status(status));
        let bearer = lab.bearer(Some(&alice())).await.unwrap();
        assert!(lab.reads(&bearer).await, "{status}");
        let seen = lab.registry.requests();
        assert_eq!(authorization(&seen[1].headers), Some(basic_value("alice", "s3cret&").as_str()));
        assert_eq!(seen[1].query, "service=lab&account=alice&scope=repository%3Ateam%2Fapp%3Apull");
        lab.bearer_of(&lab.challenge(), &pull("team/other"), Some(&alice()), &[]).await.unwrap();
        assert_eq!((lab.registry.count("POST /token"), lab.registry.count("GET /token")), (1, 2), "{status}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_a_denial_and_a_broken_service_is_none() {
    let lab = Lab::new(&[]);
    let wrong = Credential::new("alice".into(), Secret::new("canary".into()));
    let error = lab.bearer(Some(&wrong)).await.unwrap_err();
    assert!(error.is_denial() && !format!("{error:?} {error}").contains("canary"), "{error}");
    for status in [429, 500, 503] {
        let answer = Act::Answer { status, headers: vec![("Retry-After".into(), "7".into())], body: "canary".into() };
        let line = lab.registry.script("/token", answer);
        let error = lab.bearer(Some(&alice())).await.unwrap_err();
        let TokenError::Refused { retry_after, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*retry_after, Some(Duration::from_secs(7)));
        assert!(!error.is_denial());
        lab.registry.unscript(line);
    }
    assert_eq!(lab.registry.count("POST /token"), 4, "a failure is not kept");
    assert!(lab.bearer(Some(&alice())).await.is_ok());
}

#[tokio::test]
async fn many_who_need_a_token_cost_one_request() {
    let lab = Lab::new(&[]);
    let gate = Gate::new();
    lab.registry.script("/token", Act::Wait(gate.clone()));
    let opened = async {
        eventually("the token service is asked", || lab.registry.count("/token") == 1).await;
        gate.open();
    };
    let (bearers, ()) = futures_util::join!(join_all((0..50).map(|_| lab.bearer(None))), opened);
    assert!(bearers.into_iter().all(|bearer| bearer.unwrap() == "Bearer token-1"));
    assert_eq!(lab.bearer(None).await.unwrap(), "Bearer token-1");
    assert_eq!(lab.registry.count("/token"), 1);
}

#[tokio::test]
async fn a_failure_is_shared_by_all_who_waited() {
    let lab = Lab::new(&[]);
    let gate = Gate::new();
    lab.registry.script("/token", Act::Wait(gate.clone()));
    lab.registry.script("/token", Act::Status(503));
    let opened = async {
        eventually("the token service is asked", || lab.registry.count("/token") == 1).await;
        gate.open();
    };
    let (bearers, ()) = futures_util::join!(join_all((0..20).map(|_| lab.bearer(None))), opened);
    assert!(bearers.iter().all(Result::is_err));
    assert_eq!(lab.registry.count("/token"), 1);
}

#[tokio::test]
async fn a_token_is_for_one_service_scope_set_and_credential() {
    let lab = Lab::new(&[]);
    let other = Bearer { service: Some("other".into()), ..lab.challenge() };
    let (one, two) = (pull("team/app"), [pull("team/app"), pull("team/b")].concat());
    let turned: Vec<String> = two.iter().rev().cloned().collect();
    let bob = Credential::new("alice".into(), Secret::new("another".into()));
    let mut seen = Vec::new();
    for (challenge, scopes, credential) in [
        (&lab.challenge(), &one, None),
        (&other, &one, None),
        (&lab.challenge(), &two, None),
        (&lab.challenge(), &turned, None),
        (&lab.challenge(), &one, Some(&alice())),
        (&lab.challenge(), &one, Some(&bob)),
    ] {
        seen.push(lab.bearer_of(challenge, scopes, credential, &[]).await.ok());
    }
    assert_eq!(seen[2], seen[3], "the order of scopes means nothing");
    assert_eq!(seen[5], None, "another's password gets no token of alice's");
    let mut different: Vec<_> = [0, 1, 2, 4].into_iter().map(|at| seen[at].clone().unwrap()).collect();
    different.dedup();
    assert_eq!(different.len(), 4);
}

#[tokio::test]
async fn a_token_that_was_refused_is_asked_for_anew_once() {
    let lab = Lab::new(&[]);
    let (challenge, home) = (lab.challenge(), lab.home());
    let ask = TokenAsk {
        challenge: &challenge,
        scopes: &lab.scopes,
        credential: None,
        home: &Endpoint::of_host(&home),
        realms: &[],
    };
    let first = lab.tokens.bearer(&ask).await.unwrap();
    lab.tokens.forget(&ask, &first);
    let second = lab.tokens.bearer(&ask).await.unwrap();
    lab.tokens.forget(&ask, &first);
    assert_eq!(lab.tokens.bearer(&ask).await.unwrap(), second, "the newer one was not refused");
    assert_eq!(lab.registry.count("/token"), 2);
}

#[tokio::test]
async fn a_token_is_kept_for_four_fifths_of_its_life() {
    let lab = Lab::new(&[]);
    let answer = |name: &str| Act::Answer {
        status: 200,
        headers: Vec::new(),
        body: format!("{{\"token\": \"{name}\", \"expires_in\": 100}}"),
    };
    let line = lab.registry.script("/token", answer("old"));
    assert_eq!(lab.bearer(None).await.unwrap(), "Bearer old");
    lab.registry.unscript(line);
    lab.registry.script("/token", answer("new"));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(79)).await;
    assert_eq!(lab.bearer(None).await.unwrap(), "Bearer old");
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
    assert_eq!(lab.bearer(None).await.unwrap(), "Bearer new");
}

#[tokio::test]
async fn a_token_for_somebody_else_lives_as_long_as_is_wished_where_the_service_gives_such() {
    for (life, wait, expected) in
        [(100, 39, ("old", 61)), (100, 41, ("new", 100)), (30, 1, ("old", 29)), (30, 3, ("new", 30))]
    {
        let lab = Lab::new(&[]);
        let (challenge, home) = (lab.challenge(), lab.home());
        let ask = TokenAsk {
            challenge: &challenge,
            scopes: &lab.scopes,
            credential: None,
            home: &Endpoint::of_host(&home),
            realms: &[],
        };
        let lasting = async || {
            let (header, left) = lab.tokens.lasting(&ask, Duration::from_secs(60)).await.unwrap();
            (header, left.as_secs_f64())
        };
        let answer = |name: &str| Act::Answer {
            status: 200,
            headers: Vec::new(),
            body: format!("{{\"token\": \"{name}\", \"expires_in\": {life}}}"),
        };
        let line = lab.registry.script("/token", answer("old"));
        assert_eq!(lasting().await.0, "Bearer old");
        lab.registry.unscript(line);
        lab.registry.script("/token", answer("new"));
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(wait)).await;
        tokio::time::resume();
        let (header, left) = lasting().await;
        assert_eq!(header, format!("Bearer {}", expected.0), "{life} s, after {wait} s");
        let most = f64::from(expected.1);
        assert!((most - 1.0..=most).contains(&left), "{life} s, after {wait} s: {left}");
    }
}

#[tokio::test]
async fn a_held_credential_goes_home_or_to_a_listed_realm_and_nowhere_else() {
    let other = Registry::start("login.example.com");
    let lab = Lab::new(&[&other]);
    other.serve_tokens(&lab.service);
    let abroad = challenge(&other);
    for credential in [alice(), identity()] {
        let error = lab.bearer_of(&abroad, &lab.scopes, Some(&credential), &[]).await.unwrap_err();
        assert!(matches!(error, TokenError::Untrusted { .. }), "{error}");
    }
    let elsewhere: Realm = format!("{}/other", other.url()).parse().unwrap();
    assert!(lab.bearer_of(&abroad, &lab.scopes, Some(&alice()), &[elsewhere]).await.is_err());
    assert_eq!(other.connections(), 0, "nothing was even dialled");
    let listed: Realm = abroad.realm.parse().unwrap();
    let bearer = lab.bearer_of(&abroad, &lab.scopes, Some(&alice()), &[listed]).await.unwrap();
    assert!(lab.reads(&bearer).await);
    assert!(lab.bearer_of(&abroad, &lab.scopes, None, &[]).await.is_ok(), "an anonymous token may come from anywhere");
}

#[tokio::test]
async fn a_realm_is_https_and_obeys_the_address_rules() {
    let lab = Lab::new(&[]);
    for realm in ["http://r.example.com/token", "token", "https://u:p@r.example.com/token", ""] {
        let challenge = Bearer { realm: realm.to_owned(), ..Bearer::default() };
        let error = lab.bearer_of(&challenge, &lab.scopes, None, &[]).await.unwrap_err();
        assert!(matches!(error, TokenError::BadRealm), "{realm}: {error}");
    }
    let challenge = Bearer { realm: "https://127.0.0.1:1/token".into(), ..Bearer::default() };
    let error = lab.bearer_of(&challenge, &lab.scopes, None, &[]).await.unwrap_err();
    let TokenError::Upstream { source, .. } = error else { panic!("{error:?}") };
    assert!(matches!(*source, pullthrough::upstream::Error::Forbidden(_)), "{source}");
}

#[tokio::test]
async fn a_redirect_takes_no_credential_along_and_gives_nobodys_token_for_somebodys() {
    let other = Registry::with(Setup::named("evil.example.com"));
    other.serve_tokens(&service());
    let lab = Lab::new(&[&other]);
    lab.registry.script("POST /token", Act::Status(405));
    lab.registry.script("GET /token", Act::Redirect { status: 307, location: format!("{}/token", other.url()) });
    let error = lab.bearer(Some(&alice())).await.unwrap_err();
    assert!(matches!(error, TokenError::Redirected { .. }), "{error}");
    assert!(other.requests().iter().all(|seen| authorization(&seen.headers).is_none()));
    let post =
        lab.registry.script("POST /token", Act::Redirect { status: 307, location: format!("{}/token", other.url()) });
    let error = lab.bearer(Some(&identity())).await.unwrap_err();
    assert!(matches!(error, TokenError::Refused { .. } | TokenError::Redirected { .. }), "{error}");
    assert_eq!(other.count("POST *"), 0);
    lab.registry.unscript(post);
    assert!(lab.bearer(None).await.is_ok(), "an anonymous ask may follow");
}

#[tokio::test]
async fn a_service_that_never_answers_is_given_up() {
    let lab = Lab::new(&[]);
    let line = lab.registry.script("/token", Act::Silence);
    let asked = lab.bearer(None);
    let advanced = async {
        eventually("the token service is asked", || lab.registry.count("/token") == 1).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(11)).await;
        tokio::time::resume();
    };
    let (error, ()) = futures_util::join!(asked, advanced);
    assert!(matches!(error.unwrap_err(), TokenError::Slow { .. }));
    lab.registry.unscript(line);
    assert!(lab.bearer(None).await.is_ok());
}

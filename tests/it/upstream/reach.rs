//! Who is reached, and by what proof: addresses, names, certificates.

use pullthrough::oci::Bearer;
use pullthrough::upstream::TokenAsk;

use super::*;
use crate::support::Tokens;

async fn asked(certificate: Certificate, ca_file: bool) -> Result<Response<Body>, Error> {
    let registry = Registry::with(Setup { certificate: Some(certificate), ..Setup::named("quay.io") });
    let mut config = endpoint_config(&registry);
    config.ca_file = config.ca_file.filter(|_| ca_file);
    let upstream = Upstream::new(&Config::default(), std::slice::from_ref(&config), AddressRules::default()).unwrap();
    let answer = upstream.send(&Endpoint::parse(&config).unwrap(), exchange("/v2/")).await;
    assert_eq!(registry.count("*") == 0, answer.is_err());
    answer
}

#[tokio::test]
async fn a_certificate_is_verified_and_its_fault_is_told() {
    assert_eq!(asked(Certificate::Good, true).await.unwrap().status(), 200);
    let error = asked(Certificate::Good, false).await.unwrap_err();
    assert!(matches!(error, Error::UnknownIssuer { .. }), "{error:?}");
    assert!(error.to_string().contains("quay.io") && error.to_string().contains("ca_file"), "{error}");
    let error = asked(Certificate::UnknownCa, true).await.unwrap_err();
    assert!(matches!(error, Error::UnknownIssuer { .. }), "{error:?}");
    for certificate in [Certificate::OtherName, Certificate::Expired] {
        let error = asked(certificate, true).await.unwrap_err();
        assert!(matches!(error, Error::Certificate { .. }), "{error:?}");
        assert!(error.is_certificate() && error.retry() == RetryAdvice::NextEndpoint && error.side() == Side::Upstream);
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_configured_and_nowhere_else() {
    let registry = Registry::with(Setup { client_certificate: true, ..Setup::named("quay.io") });
    let (cert, key) = lab::client_certificate();
    let without = endpoint_config(&registry);
    let with =
        EndpointConfig { client_cert_file: Some(cert), client_key_file: Some(key), ..endpoint_config(&registry) };
    let upstream =
        Upstream::new(&Config::default(), &[without.clone(), with.clone()], AddressRules::default()).unwrap();
    let answer = upstream.send(&Endpoint::parse(&with).unwrap(), exchange("/v2/")).await.unwrap();
    assert_eq!(answer.status(), 200);
    let error = upstream.send(&Endpoint::parse(&without).unwrap(), exchange("/v2/")).await.unwrap_err();
    assert!(matches!(error, Error::Exchange { .. } | Error::Tls { .. }), "{error:?}");
    assert_eq!(registry.count("*"), 1);
}

/// A registry that wants a client certificate, the configuration that has one for it, and the way to it.
fn with_certificate() -> (Registry, EndpointConfig) {
    let registry = Registry::with(Setup { client_certificate: true, ..Setup::named("r.example.com") });
    let (cert, key) = lab::client_certificate();
    let config =
        EndpointConfig { client_cert_file: Some(cert), client_key_file: Some(key), ..endpoint_config(&registry) };
    (registry, config)
}

#[tokio::test]
async fn a_registry_that_redirects_to_another_gets_nothing_by_that_ones_client_certificate() {
    let (private, config) = with_certificate();
    let evil = private.sibling(Setup::named("evil.example"));
    let upstream =
        Upstream::new(&Config::default(), &[endpoint_config(&evil), config.clone()], AddressRules::default());
    let upstream = upstream.unwrap();
    evil.script("*", Act::Redirect { status: 307, location: format!("{}/v2/", private.url()) });
    let error = upstream.fetch(&endpoint(&evil), get("/v2/team/app/manifests/1")).await.unwrap_err();
    assert!(matches!(error, Error::Exchange { .. } | Error::Tls { .. }), "{error:?}");
    assert_eq!(private.count("*"), 0);
    // Who asks the registry itself has it, wherever it redirects on its own host.
    let answer = upstream.fetch(&Endpoint::parse(&config).unwrap(), get("/v2/")).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_token_service_is_asked_with_a_registrys_client_certificate_at_that_registrys_host_only() {
    let (private, config) = with_certificate();
    let service = Tokens::new().public("public/*");
    private.serve_tokens(&service);
    let evil = private.sibling(Setup::named("evil.example"));
    let (own, another) = (
        Endpoint::parse(&config).unwrap(),
        EndpointConfig { client_cert_file: None, client_key_file: None, ..config.clone() },
    );
    let mirror = Endpoint::parse(&another).unwrap();
    let configs = [endpoint_config(&evil), another, config];
    let upstream = Upstream::new(&Config::default(), &configs, AddressRules::default()).unwrap();
    let tokens = pullthrough::upstream::Tokens::new(upstream).unwrap();
    let realm = format!("{}/token", private.url());
    let challenge = Bearer { realm, ..Bearer::default() };
    let scopes = ["repository:public/app:pull".to_owned()];
    // Nor does another registry's endpoint on that host have it.
    for (home, expected) in [(endpoint(&evil), false), (mirror, false), (own, true)] {
        let ask = TokenAsk { challenge: &challenge, scopes: &scopes, credential: None, home: &home, realms: &[] };
        let token = tokens.bearer(&ask).await;
        assert_eq!(token.is_ok(), expected, "{token:?}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_no_https_endpoint() {
    let registry = Registry::plain("quay.io");
    let config = EndpointConfig { url: registry.url().replace("http:", "https:"), ..endpoint_config(&registry) };
    let upstream = Upstream::new(&Config::default(), std::slice::from_ref(&config), AddressRules::default()).unwrap();
    let error = upstream.send(&Endpoint::parse(&config).unwrap(), exchange("/v2/")).await.unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn host_and_prefix_are_those_of_the_endpoint() {
    for h2 in [false, true] {
        let registry = Registry::with(Setup { h2, ..Setup::named("harbor.example") });
        let digest = registry.push_blob("proj/org/app", &b"bytes"[..]);
        let config = EndpointConfig { url: format!("{}/proj", registry.url()), ..endpoint_config(&registry) };
        let upstream =
            Upstream::new(&Config::default(), std::slice::from_ref(&config), AddressRules::default()).unwrap();
        let request =
            Request::get(format!("/v2/org/app/blobs/{digest}?a=b")).header("host", "evil.example").body(()).unwrap();
        let answer = upstream.fetch(&Endpoint::parse(&config).unwrap(), request).await.unwrap();
        assert_eq!(bytes(answer).await.unwrap(), "bytes");
        let seen = &registry.requests()[0];
        assert_eq!(seen.authority, format!("harbor.example:{}", registry.address().port()));
        assert_eq!((seen.version == http::Version::HTTP_2, seen.query.as_str()), (h2, "a=b"));
    }
}

#[tokio::test]
async fn two_addresses_of_one_host_are_two_ways() {
    let (one, two) = (Registry::start("quay.io"), Registry::start("quay.io"));
    two.script("*", Act::Status(404));
    let configs = [&one, &two].map(|r| EndpointConfig { url: "https://quay.io".to_owned(), ..endpoint_config(r) });
    let upstream = Upstream::new(&Config::default(), &configs, AddressRules::default()).unwrap();
    let ends = configs.each_ref().map(|config| Endpoint::parse(config).unwrap());
    for _ in 0..2 {
        assert_eq!(upstream.send(&ends[0], exchange("/v2/")).await.unwrap().status(), 200);
        assert_eq!(upstream.send(&ends[1], exchange("/v2/")).await.unwrap().status(), 404);
    }
    assert_eq!((one.count("*"), two.count("*")), (2, 2));
}

#[tokio::test]
async fn a_host_without_words_of_its_own_is_reached_as_upstream_hosts_says() {
    let registry = Registry::start("auth.quay.io");
    let host = Authority::parse(&format!("auth.quay.io:{}", registry.address().port()), 443).unwrap();
    let upstream = upstream(&hosts(&[&registry]), &[]);
    let answer = upstream.send(&Endpoint::of_host(&host), exchange("/v2/")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(upstream.dial(&host, "1.1 test").await.unwrap().address(), Some(registry.address()));
    assert_eq!(upstream.forbidden(&host), None);
}

fn with_rules(allow: &[&str], deny: &[&str], own: &[SocketAddr]) -> Upstream {
    let targets = |list: &[&str]| -> Vec<Target> { list.iter().map(|text| text.parse().unwrap()).collect() };
    let rules = AddressRules { allow: targets(allow), deny: targets(deny), named: Vec::new(), own: own.to_vec() };
    Upstream::new(&Config::default(), &[], rules).unwrap()
}

fn why(answer: Result<impl Sized, Error>) -> Why {
    match answer.err() {
        Some(Error::Forbidden(forbidden)) => forbidden.why,
        other => panic!("not forbidden: {other:?}"),
    }
}

#[tokio::test]
async fn a_tunnel_obeys_the_address_rules() {
    let server = Registry::plain("inside.example");
    let port = server.address().port();
    let at = |host: &str| Authority::parse(&format!("{host}:{port}"), 443).unwrap();
    let closed = with_rules(&["*", "127.0.0.0/8"], &[], &[]);
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.1", "0.0.0.0", "[::]", "127.0.0.2"] {
        assert!(matches!(why(closed.dial(&at(host), "1.1 test").await), Why::Kind(..)), "{host}");
    }
    assert_eq!(server.connections(), 0);
    let opened = with_rules(&["127.0.0.1"], &[], &[]);
    assert_eq!(opened.dial(&at("127.0.0.1"), "1.1 test").await.unwrap().address(), Some(server.address()));
    assert_eq!(opened.dial(&at("localhost"), "1.1 test").await.unwrap().address(), Some(server.address()));
    let denied = with_rules(&["127.0.0.1"], &["127.0.0.0/8"], &[]);
    assert_eq!(why(denied.dial(&at("localhost"), "1.1 test").await), Why::Denied);
    let denied = with_rules(&["127.0.0.1"], &["localhost"], &[]);
    assert_eq!(why(denied.dial(&at("localhost"), "1.1 test").await), Why::Denied);
    assert!(denied.forbidden(&at("localhost")).is_some());
}

#[tokio::test]
async fn our_own_listeners_are_not_dialled_by_any_name() {
    let server = Registry::plain("self.example");
    let port = server.address().port();
    for own in [SocketAddr::new([0, 0, 0, 0].into(), port), format!("[::]:{port}").parse().unwrap(), server.address()] {
        let upstream = with_rules(&["127.0.0.1", "::1"], &[], &[own]);
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
            let to = Authority::parse(&format!("{host}:{port}"), 443).unwrap();
            assert_eq!(why(upstream.dial(&to, "1.1 test").await), Why::Own, "{own} {host}");
        }
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn only_the_family_asked_for_is_dialled() {
    let config = Config { ip: Family::V6, ..Config::default() };
    let rules = AddressRules { allow: vec!["127.0.0.1".parse().unwrap()], ..AddressRules::default() };
    let upstream = Upstream::new(&config, &[], rules).unwrap();
    let error = upstream.dial(&Authority::parse("127.0.0.1:1", 443).unwrap(), "1.1 test").await;
    let Err(error) = error else { panic!("it was reached") };
    assert!(matches!(error, Error::NoAddress { .. }), "{error}");
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.crt");
    let config = EndpointConfig {
        url: "https://quay.io".to_owned(),
        address: None,
        ca_file: Some(path.clone()),
        client_cert_file: None,
        client_key_file: None,
        auth: None,
        authoritative: false,
    };
    let new = |config: &EndpointConfig| {
        Upstream::new(&Config::default(), std::slice::from_ref(config), AddressRules::default()).unwrap_err()
    };
    assert!(matches!(new(&config), Error::File { path: named, .. } if named == path));
    std::fs::write(&path, "no certificate").unwrap();
    assert!(matches!(new(&config), Error::Pem { path: named, .. } if named == path));
    let config = EndpointConfig { ca_file: None, client_cert_file: Some(path.clone()), ..config };
    assert!(matches!(new(&config), Error::ClientCertificate { path: named } if named == path));
    let config = EndpointConfig { url: "https://user:secret@quay.io".to_owned(), client_cert_file: None, ..config };
    assert!(!format!("{:?}", new(&config)).contains("secret"));
}

//! Parent proxies: who goes through them, how, and what becomes of one that fails.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::support::{Answering, Dns};

/// An upstream whose `upstream:` section is this YAML, and which trusts the lab for these servers; where they are, only
/// a parent knows.
fn by_parents(yaml: &str, servers: &[&Registry], rules: AddressRules) -> Upstream {
    let mut config: Config = serde_yaml::from_str(yaml).unwrap();
    for server in servers {
        let reach = HostConfig { ca_file: Some(server.ca_file()), ..HostConfig::default() };
        config.hosts.insert(format!("{}:{}", server.name(), server.address().port()), reach);
    }
    Upstream::new(&config, &[], rules).unwrap()
}

fn at(server: &Registry) -> Endpoint {
    Endpoint::parse(&EndpointConfig::of_url(server.url())).unwrap()
}

fn authority(server: &Registry) -> Authority {
    at(server).authority().clone()
}

async fn status(upstream: &Upstream, server: &Registry) -> Result<u16, Error> {
    upstream.send(&at(server), exchange("/v2/")).await.map(|answer| answer.status().as_u16())
}

/// What an error says, with its causes.
fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn failed<T>(answer: Result<T, Error>) -> Error {
    match answer {
        Ok(_) => panic!("it was reached"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn https_goes_by_connect_and_plain_http_in_absolute_form() {
    let (secure, plain) = (Registry::start("quay.io"), Registry::plain("plain.example.com"));
    let parent = Parent::start().await.knows(&secure).knows(&plain);
    let upstream = by_parents(&format!("proxy: '{}'", parent.url()), &[&secure, &plain], AddressRules::default());
    for _ in 0..2 {
        assert_eq!(status(&upstream, &secure).await.unwrap(), 200);
        assert_eq!(status(&upstream, &plain).await.unwrap(), 200);
    }
    let connect = format!("CONNECT {} HTTP/1.1", authority(&secure));
    assert_eq!(parent.count(&connect), 1, "the connection behind it is used again");
    assert_eq!(parent.count(&format!("GET http://{}/v2/ HTTP/1.1", authority(&plain))), 2);
    assert_eq!((secure.count("*"), plain.count("*"), parent.seen().len()), (2, 2, 3));
    assert_eq!(plain.requests()[0].authority, authority(&plain).to_string());
}

#[tokio::test]
async fn redirects_and_token_services_and_tunnels_go_the_same_way() {
    let (registry, cdn) = (Registry::start("quay.io"), Registry::start("cdn.quay.io"));
    let digest = cdn.push_blob("org/app", &b"bytes"[..]);
    registry.redirect_blobs(&cdn.url());
    let parent = Parent::start().await.knows(&registry).knows(&cdn);
    let upstream = by_parents(&format!("proxy: '{}'", parent.url()), &[&registry, &cdn], AddressRules::default());
    let answer = upstream.fetch(&at(&registry), get(&format!("/v2/org/app/blobs/{digest}"))).await.unwrap();
    assert_eq!(bytes(answer).await.unwrap(), "bytes");
    assert_eq!(parent.count(&format!("CONNECT {}", authority(&cdn))), 1);
    let realm = Endpoint::of_host(&authority(&cdn));
    assert_eq!(upstream.send(&realm, exchange("/token")).await.unwrap().status(), 404);
    assert_eq!(upstream.dial(&authority(&cdn), "1.1 client, 1.1 us").await.unwrap().address(), None);
    let heads = parent.seen();
    assert_eq!(heads.len(), 3, "{heads:?}");
    assert!(heads[2].contains("\r\nVia: 1.1 client, 1.1 us\r\n"), "{heads:?}");
}

#[tokio::test]
async fn what_has_an_address_or_stands_in_no_proxy_goes_direct() {
    let (given, exempt) = (Registry::start("quay.io"), Registry::plain("a.inside.example"));
    let parent = Parent::start().await;
    let dns = Dns::start(Answering::Truly).await.knows("a.inside.example", &["127.0.0.1"], 60);
    let yaml = format!("{{proxy: '{}', no_proxy: '*.inside.example', resolvers: '{}'}}", parent.url(), dns.address());
    let mut config: Config = serde_yaml::from_str(&yaml).unwrap();
    config.hosts = hosts(&[&given]).hosts;
    let rules = AddressRules { allow: vec!["127.0.0.1".parse().unwrap()], ..AddressRules::default() };
    let upstream = Upstream::new(&config, &[], rules).unwrap();
    assert_eq!(status(&upstream, &given).await.unwrap(), 200);
    assert_eq!(upstream.dial(&authority(&exempt), "1.1 us").await.unwrap().address(), Some(exempt.address()));
    assert_eq!(parent.connections(), 0);
}

#[tokio::test]
async fn tls_with_a_parent_is_verified() {
    let registry = Registry::start("quay.io");
    let parent = Parent::secure("127.0.0.1").await.knows(&registry);
    let trusting = format!("proxy: {{url: '{}', ca_file: '{}'}}", parent.url(), registry.ca_file().display());
    let upstream = by_parents(&trusting, &[&registry], AddressRules::default());
    assert_eq!(status(&upstream, &registry).await.unwrap(), 200);
    let strange = by_parents(&format!("proxy: '{}'", parent.url()), &[&registry], AddressRules::default());
    let error = failed(status(&strange, &registry).await);
    assert!(words(&error).contains("unknown CA"), "{}", words(&error));
    let other = Parent::secure("proxy.example").await.knows(&registry);
    let yaml = format!("proxy: {{url: '{}', ca_file: '{}'}}", other.url(), registry.ca_file().display());
    let error = failed(status(&by_parents(&yaml, &[&registry], AddressRules::default()), &registry).await);
    assert!(words(&error).contains("is not valid for it"), "{}", words(&error));
    assert_eq!((other.seen().len(), parent.seen().len(), registry.count("*")), (0, 1, 1));
}

/// The lab's CA is trusted for nothing but what goes through the parent that names it.
#[tokio::test]
async fn a_parents_ca_is_trusted_for_what_goes_through_it_and_nothing_else() {
    let registry = Registry::start("quay.io");
    let parent = Parent::start().await.knows(&registry);
    let ca_file = registry.ca_file();
    let yaml = format!("{{proxy: [{{url: '{}', ca_file: '{}'}}, direct]}}", parent.url(), ca_file.display());
    let upstream = by_parents(&yaml, &[], AddressRules::default());
    assert_eq!(status(&upstream, &registry).await.unwrap(), 200);
    let mut config: Config = serde_yaml::from_str(&yaml).unwrap();
    let reach = HostConfig { address: Some(registry.address()), ..HostConfig::default() };
    config.hosts.insert(authority(&registry).to_string(), reach);
    let direct = Upstream::new(&config, &[], AddressRules::default()).unwrap();
    let error = failed(status(&direct, &registry).await);
    assert!(matches!(error, Error::UnknownIssuer { .. }), "{error:?}");
}

#[tokio::test]
async fn user_and_password_go_to_the_parent_and_to_nobody_else() {
    let (secure, plain) = (Registry::start("quay.io"), Registry::plain("plain.example.com"));
    let parent = Parent::start().await.knows(&secure).knows(&plain);
    parent.require("u", "hunter2");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "hunter2\n").unwrap();
    let login = format!("auth: {{username: u, password_file: '{}'}}", file.display());
    let yaml = format!("proxy: {{url: '{}', {login}}}", parent.url());
    let upstream = by_parents(&yaml, &[&secure, &plain], AddressRules::default());
    assert_eq!(status(&upstream, &secure).await.unwrap(), 200);
    assert_eq!(status(&upstream, &plain).await.unwrap(), 200);
    assert!(secure.requests().iter().all(|seen| !seen.headers.contains_key("proxy-authorization")));
    assert!(!format!("{upstream:?}").contains("hunter2"));
}

/// A parent that answers every request with a challenge of its own.
async fn challenging() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let answer = "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn a_hosts_own_407_is_no_word_of_the_parents() {
    let (one, other) = (Registry::plain("one.example.com"), Registry::plain("other.example.com"));
    let first = Parent::start().await.knows(&one).knows(&other);
    let second = Parent::start().await.knows(&one).knows(&other);
    first.behave(Manner::Status("one.", 407));
    let yaml = format!("proxy: ['{}', '{}']", first.url(), second.url());
    let upstream = by_parents(&yaml, &[&one, &other], AddressRules::default());
    let text = words(&failed(status(&upstream, &one).await));
    assert!(text.contains("the host behind the proxy answered 407"), "{text}");
    assert_eq!(status(&upstream, &other).await.unwrap(), 200);
    assert_eq!((first.connections(), second.connections()), (2, 0), "the first one is not passed over");
}

#[tokio::test]
async fn a_407_names_the_key() {
    let (secure, plain) = (Registry::start("quay.io"), Registry::plain("plain.example.com"));
    let parent = Parent::start().await.knows(&secure).knows(&plain);
    parent.require("u", "hunter2");
    let upstream = by_parents(&format!("proxy: '{}'", parent.url()), &[&secure, &plain], AddressRules::default());
    let text = words(&failed(status(&upstream, &secure).await));
    assert!(text.contains("asks for a user and a password (407)") && text.contains("upstream.proxy"), "{text}");
    let challenging = challenging().await;
    let upstream = by_parents(&format!("proxy: 'http://{challenging}'"), &[&plain], AddressRules::default());
    let text = words(&failed(status(&upstream, &plain).await));
    assert!(text.contains("asks for a user and a password (407)") && text.contains("upstream.proxy"), "{text}");
    let login = "auth: {username: u, password: hunter3}";
    let wrong =
        by_parents(&format!("proxy: {{url: '{}', {login}}}", parent.url()), &[&secure], AddressRules::default());
    let error = failed(status(&wrong, &secure).await);
    let text = words(&error);
    assert!(text.contains("does not accept the user and the password (407)"), "{text}");
    assert!(!format!("{text} {error:?}").contains("hunter3"));
    assert_eq!((secure.count("*"), plain.count("*")), (0, 0));
}

#[tokio::test]
async fn a_parent_that_fails_is_passed_over_and_the_next_one_asked() {
    let registry = Registry::start("quay.io");
    for manner in [Manner::Closing, Manner::Silent, Manner::Status("*", 407)] {
        let (ill, well) = (Parent::start().await, Parent::start().await.knows(&registry));
        ill.behave(manner.clone());
        let yaml = format!("{{proxy: ['{}', '{}'], connect_timeout: 2s}}", ill.url(), well.url());
        let upstream = by_parents(&yaml, &[&registry], AddressRules::default());
        for _ in 0..3 {
            upstream.dial(&authority(&registry), "1.1 us").await.unwrap();
        }
        assert_eq!((ill.connections(), well.connections()), (1, 3), "{manner:?}");
    }
}

#[tokio::test]
async fn a_parent_that_is_passed_over_is_asked_after_all_where_no_other_way_is_left() {
    let registry = Registry::start("quay.io");
    let parent = Parent::start().await.knows(&registry);
    let dns = Dns::start(Answering::Truly).await; // knows nobody: `direct` leads nowhere
    let yaml = format!("{{proxy: ['{}', direct], resolvers: '{}'}}", parent.url(), dns.address());
    let upstream = by_parents(&yaml, &[&registry], AddressRules::default());
    parent.behave(Manner::Closing);
    failed(status(&upstream, &registry).await);
    parent.behave(Manner::Willing);
    assert_eq!(status(&upstream, &registry).await.unwrap(), 200);
}

#[tokio::test]
async fn what_a_parent_says_of_one_host_is_no_word_about_itself() {
    let (one, other) = (Registry::start("one.example.com"), Registry::start("other.example.com"));
    for code in [502, 503, 504] {
        let first = Parent::start().await.knows(&one).knows(&other);
        let second = Parent::start().await.knows(&one).knows(&other);
        first.behave(Manner::Status("one.", code));
        let yaml = format!("proxy: ['{}', '{}']", first.url(), second.url());
        let upstream = by_parents(&yaml, &[&one, &other], AddressRules::default());
        upstream.dial(&authority(&one), "1.1 us").await.unwrap();
        upstream.dial(&authority(&other), "1.1 us").await.unwrap();
        assert_eq!((first.connections(), second.connections()), (2, 1), "{code}");
    }
}

#[tokio::test]
async fn what_a_parent_forbids_no_other_road_allows() {
    let registry = Registry::start("quay.io");
    let (strict, lax) = (Parent::start().await.knows(&registry), Parent::start().await.knows(&registry));
    strict.behave(Manner::Status("*", 403));
    let yaml = format!("proxy: ['{}', '{}']", strict.url(), lax.url());
    let upstream = by_parents(&yaml, &[&registry], AddressRules::default());
    let error = failed(upstream.dial(&authority(&registry), "1.1 us").await);
    assert!(words(&error).contains("the proxy refused it (403)"), "{}", words(&error));
    assert_eq!(lax.connections(), 0);
}

/// A registry's probe and a client's ping have deadlines of their own, shorter than a connection's.
#[tokio::test]
async fn a_silent_parent_is_passed_over_though_nobody_waits_for_it_to_the_end() {
    let registry = Registry::start("quay.io");
    let (silent, well) = (Parent::start().await, Parent::start().await.knows(&registry));
    silent.behave(Manner::Silent);
    let yaml = format!("{{proxy: ['{}', '{}'], connect_timeout: 4s}}", silent.url(), well.url());
    let upstream = by_parents(&yaml, &[&registry], AddressRules::default());
    let to = authority(&registry);
    assert!(tokio::time::timeout(Duration::from_secs(3), upstream.dial(&to, "1.1 us")).await.is_err());
    upstream.dial(&to, "1.1 us").await.unwrap();
    assert_eq!((silent.connections(), well.connections()), (1, 1));
}

#[tokio::test]
async fn direct_is_the_way_out_while_a_parent_is_ill_and_under_the_full_rules() {
    let registry = Registry::start("quay.io");
    for allow in [vec!["127.0.0.1".parse().unwrap()], Vec::new()] {
        let is_open = !allow.is_empty();
        let parent = Parent::start().await.knows(&registry);
        parent.behave(Manner::Closing);
        let dns = Dns::start(Answering::Truly).await.knows("quay.io", &["127.0.0.1"], 60);
        let yaml = format!("{{proxy: ['{}', direct], resolvers: '{}'}}", parent.url(), dns.address());
        let upstream = by_parents(&yaml, &[&registry], AddressRules { allow, ..AddressRules::default() });
        for _ in 0..2 {
            match upstream.dial(&authority(&registry), "1.1 us").await {
                Ok(line) => assert_eq!((line.address(), is_open), (Some(registry.address()), true)),
                Err(error) => assert!(matches!(error, Error::Forbidden(_)) && !is_open, "{error:?}"),
            }
        }
        assert_eq!(parent.connections(), 1, "what is forbidden here is not asked of a parent that was passed over");
    }
}

#[tokio::test]
async fn names_and_addresses_from_inside_are_judged_before_a_parent_is_asked() {
    let parent = Parent::start().await;
    let yaml = format!("proxy: '{}'", parent.url());
    let closed = by_parents(&yaml, &[], AddressRules::default());
    let hosts =
        ["10.0.0.1", "192.168.1.1", "db.local", "intranet", "a.internal", "127.0.0.1", "localhost", "169.254.169.254"];
    for host in hosts {
        let to = Authority::parse(host, 443).unwrap();
        let error = failed(closed.dial(&to, "1.1 us").await);
        assert!(matches!(error, Error::Forbidden(_)), "{host}: {error:?}");
        assert_eq!(closed.forbidden(&to).is_some(), host != "localhost", "{host}");
    }
    assert_eq!(parent.connections(), 0);
    let allow = ["10.0.0.1", "db.local", "a.internal", "127.0.0.1"].map(|text| text.parse().unwrap()).to_vec();
    let opened = by_parents(&yaml, &[], AddressRules { allow, ..AddressRules::default() });
    for host in ["10.0.0.1", "db.local", "a.internal"] {
        let error = failed(opened.dial(&Authority::parse(host, 443).unwrap(), "1.1 us").await);
        assert!(words(&error).contains("the proxy refused it (502)"), "{host}: {}", words(&error));
    }
    assert_eq!(parent.connections(), 3);
    // Our own loopback is here, whatever stands in tunnel.allow: the parent's is another one.
    let here = Authority::parse(&parent.address().to_string(), 443).unwrap();
    assert_eq!(opened.dial(&here, "1.1 us").await.unwrap().address(), Some(parent.address()));
    assert_eq!(parent.count("CONNECT 127"), 0);
}

#[tokio::test]
async fn a_parent_may_be_anywhere_but_here() {
    let registry = Registry::start("quay.io");
    let parent = Parent::start().await.knows(&registry);
    let yaml = format!("proxy: '{}'", parent.url());
    let denied = AddressRules { deny: vec!["127.0.0.0/8".parse().unwrap()], ..AddressRules::default() };
    assert_eq!(status(&by_parents(&yaml, &[&registry], denied), &registry).await.unwrap(), 200);
    let own = AddressRules { own: vec![parent.address()], ..AddressRules::default() };
    let error = failed(status(&by_parents(&yaml, &[&registry], own), &registry).await);
    assert!(words(&error).contains("that is this proxy itself"), "{}", words(&error));
    assert_eq!(parent.connections(), 1);
}

//! Names asked of the DNS servers of the configuration.

use super::*;
use crate::support::{Answering, Dns};

fn asking(servers: &[&Dns], more: &str) -> Upstream {
    let servers: Vec<String> = servers.iter().map(|server| format!("'{}'", server.address())).collect();
    let config: Config = serde_yaml::from_str(&format!("{{resolvers: [{}], {more}}}", servers.join(", "))).unwrap();
    let rules = AddressRules { allow: vec!["127.0.0.1".parse().unwrap()], ..AddressRules::default() };
    Upstream::new(&config, &[], rules).unwrap()
}

async fn reached(upstream: &Upstream, host: &str, server: &Registry) -> Result<Option<SocketAddr>, Error> {
    let to = Authority::parse(&format!("{host}:{}", server.address().port()), 443).unwrap();
    upstream.dial(&to, "1.1 us").await.map(|line| line.address())
}

/// A registry, and a DNS server with that manner that knows it as `quay.example`.
async fn known(answering: Answering) -> (Registry, Dns) {
    let dns = Dns::start(answering).await.knows("quay.example", &["127.0.0.1"], 60);
    (Registry::plain("quay.io"), dns)
}

fn said<T>(answer: Result<T, Error>) -> String {
    let Err(error) = answer else { panic!("it was reached") };
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

#[tokio::test]
async fn a_name_is_asked_for_as_it_is_and_in_the_families_that_are_wanted() {
    let server = Registry::plain("quay.io");
    for (ip, expected) in [
        ("any", vec!["udp A quay.example", "udp AAAA quay.example"]),
        ("v4", vec!["udp A quay.example"]),
        ("v6", vec!["udp AAAA quay.example"]),
    ] {
        let dns = Dns::start(Answering::Truly).await.knows("quay.example", &["127.0.0.1", "2001:db8::1"], 60);
        let upstream = asking(&[&dns], &format!("ip: {ip}, connect_timeout: 2s"));
        if ip == "v6" {
            // A documentation address is judged as what it is.
            assert!(said(reached(&upstream, "quay.example", &server).await).contains("for documentation"));
        } else {
            assert_eq!(reached(&upstream, "quay.example", &server).await.unwrap(), Some(server.address()), "{ip}");
        }
        let mut asked = dns.asked();
        asked.sort();
        assert_eq!(asked, expected, "{ip}");
    }
}

#[tokio::test]
async fn no_search_domain_is_put_behind_a_name() {
    let server = Registry::plain("quay.io");
    let dns = Dns::start(Answering::Truly).await;
    let upstream = asking(&[&dns], "ip: v4");
    let text = said(reached(&upstream, "quay", &server).await);
    let refused = text.contains("the DNS server 127.0.0.1") && text.contains("says that the name does not exist");
    assert!(refused, "{text}");
    assert_eq!(dns.asked(), ["udp A quay"]);
}

#[tokio::test]
async fn an_answer_holds_as_long_as_it_says() {
    let server = Registry::plain("quay.io");
    let dns = Dns::start(Answering::Truly).await.knows("long.example", &["127.0.0.1"], 60).knows(
        "now.example",
        &["127.0.0.1"],
        0,
    );
    let upstream = asking(&[&dns], "ip: v4");
    for _ in 0..3 {
        reached(&upstream, "long.example", &server).await.unwrap();
        reached(&upstream, "now.example", &server).await.unwrap();
    }
    let count = |name: &str| dns.asked().iter().filter(|asked| asked.ends_with(name)).count();
    assert_eq!((count("long.example"), count("now.example")), (1, 3));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    reached(&upstream, "long.example", &server).await.unwrap();
    assert_eq!(count("long.example"), 2);
}

#[tokio::test]
async fn an_answer_that_was_cut_is_asked_for_by_tcp() {
    let (server, dns) = known(Answering::Cut).await;
    let upstream = asking(&[&dns], "ip: v4");
    assert_eq!(reached(&upstream, "quay.example", &server).await.unwrap(), Some(server.address()));
    assert_eq!(dns.asked(), ["udp A quay.example", "tcp A quay.example"]);
}

#[tokio::test]
async fn a_question_that_was_lost_is_asked_again() {
    let (server, dns) = known(Answering::Losing).await;
    let upstream = asking(&[&dns], "ip: v4");
    assert_eq!(reached(&upstream, "quay.example", &server).await.unwrap(), Some(server.address()));
    assert_eq!(dns.asked(), ["udp A quay.example"; 2]);
}

#[tokio::test]
async fn a_server_that_never_answers_for_ipv6_is_waited_for_once() {
    let (server, dns) = known(Answering::WithoutV6).await;
    let upstream = asking(&[&dns], "");
    assert_eq!(reached(&upstream, "quay.example", &server).await.unwrap(), Some(server.address()));
    let asked = dns.asked().len();
    assert_eq!(reached(&upstream, "quay.example", &server).await.unwrap(), Some(server.address()));
    assert_eq!(dns.asked().len(), asked, "what is known is kept for a moment");
}

#[tokio::test]
async fn a_forged_answer_is_passed_over() {
    let (server, dns) = known(Answering::AfterForgery).await;
    let upstream = asking(&[&dns], "ip: v4");
    assert_eq!(reached(&upstream, "quay.example", &server).await.unwrap(), Some(server.address()));
}

#[tokio::test]
async fn a_server_that_fails_gives_way_to_the_next_which_is_asked_first_from_then_on() {
    let server = Registry::plain("quay.io");
    let failing = Dns::start(Answering::Failing).await;
    let dns = Dns::start(Answering::Truly).await.knows("quay.example", &["127.0.0.1"], 0);
    let upstream = asking(&[&failing, &dns], "ip: v4");
    for _ in 0..3 {
        assert_eq!(reached(&upstream, "quay.example", &server).await.unwrap(), Some(server.address()));
    }
    assert_eq!((failing.asked().len(), dns.asked().len()), (1, 3));
    let text = said(reached(&asking(&[&failing], "ip: v4"), "quay.example", &server).await);
    assert!(text.contains("answered ServerFailure"), "{text}");
}

#[tokio::test]
async fn what_a_dns_server_says_is_judged_like_any_address() {
    let server = Registry::plain("quay.io");
    let dns = Dns::start(Answering::Truly).await.knows("quay.example", &["127.0.0.2"], 60);
    let upstream = asking(&[&dns], "ip: v4");
    let text = said(reached(&upstream, "quay.example", &server).await);
    assert!(text.contains("127.0.0.2 is a loopback address"), "{text}");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_parents_name_is_asked_for_and_that_of_what_it_leads_to_is_not() {
    let registry = Registry::start("quay.io");
    let parent = Parent::start().await.knows(&registry);
    let dns = Dns::start(Answering::Truly).await.knows("proxy.example", &["127.0.0.1"], 60);
    let proxy = format!("proxy: 'http://proxy.example:{}', ip: v4", parent.address().port());
    let upstream = asking(&[&dns], &proxy);
    assert_eq!(reached(&upstream, "quay.io", &registry).await.unwrap(), None);
    assert_eq!(dns.asked(), ["udp A proxy.example"]);
}

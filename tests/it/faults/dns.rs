//! DNS that refuses, hangs, is slow, is cut, or lies about a registry.

use std::cell::Cell;

use super::net::pull;
use crate::pull::layer;
use crate::support::{Answering, Dns, Image, Plan, Proxy, Registry, Setup, until};

const NAME: &str = "registry.test";

/// A registry that is found by its name alone, and the DNS server that knows it.
struct Named {
    registry: Registry,
    dns: Dns,
    proxy: Proxy,
    warm: Image,
    cold: Image,
}

impl Named {
    async fn start() -> Self {
        let registry = Registry::with(Setup { h2: false, ..Setup::named(NAME) });
        let dns = Dns::start(Answering::Truly).await.knows(NAME, &["127.0.0.1"], 0);
        let endpoint =
            format!("{{url: '{}', ca_file: '{}', authoritative: true}}", registry.url(), registry.ca_file().display());
        let entry = format!("'{NAME}': {{endpoints: [{endpoint}], tags: {{fresh_for: 0s, deadline: 1s}}}}");
        let plan = Plan::new().raw_registry(&entry).tunnel("allow: [127.0.0.1]");
        let proxy = plan.upstream(&format!("resolvers: ['{}']", dns.address())).upstream("ip: v4").start().await;
        let warm = registry.push_image("warm", "1", &[layer(50_000, 1)]);
        let cold = registry.push_image("cold", "1", &[layer(50_000, 2)]);
        let named = Self { registry, dns, proxy, warm, cold };
        pull(&named.proxy, NAME, "warm", &named.warm).await.expect("nothing is wrong yet");
        for digest in super::net::digests(&named.warm) {
            named.proxy.stored(digest).await;
        }
        named
    }
}

#[tokio::test]
async fn dns_with_each_fault_costs_no_pull_of_what_is_cached() {
    type Begin = fn(&mut Dns);
    let away: &[u16] = &[401, 502, 503, 504];
    let faults: [(&str, Begin, &[u16]); 8] = [
        ("refuses", Dns::stop, away),
        ("says nothing", |dns| dns.answer(Answering::Silent), away),
        ("loses a question", |dns| dns.answer(Answering::Losing), &[]),
        ("answers by TCP alone", |dns| dns.answer(Answering::Cut), &[]),
        ("fails", |dns| dns.answer(Answering::Failing), away),
        ("knows no such name", |dns| dns.know(NAME, None), away),
        ("leads to an inside address", |dns| dns.know(NAME, Some("127.0.0.2")), &[401, 403, 502, 503]),
        ("is forged at first", |dns| dns.answer(Answering::AfterForgery), &[]),
    ];
    let played = faults.map(|(what, begin, expected)| async move {
        let mut named = Named::start().await;
        named.registry.stop(); // no connection is left over which it would go without a name
        named.registry.start_again();
        named.registry.forget();
        begin(&mut named.dns);
        let status = Cell::new(0);
        for _ in 0..2 {
            let warm = pull(&named.proxy, NAME, "warm", &named.warm).await;
            assert!(warm.is_ok(), "{what}: what is cached does not pull: {warm:?}");
            match pull(&named.proxy, NAME, "cold", &named.cold).await {
                Ok(()) => assert!(expected.is_empty(), "{what}: it pulls"),
                Err(failed) => {
                    assert!(expected.contains(&failed.status), "{what}: {failed:?}");
                    status.set(failed.status);
                }
            }
        }
        let unreached = !expected.is_empty();
        assert!(!unreached || named.registry.requests().is_empty(), "{what}: it was reached");
        named.dns.again().await;
        named.dns.know(NAME, Some("127.0.0.1"));
        let again = async || pull(&named.proxy, NAME, "cold", &named.cold).await.is_ok();
        until("the cold image pulls when the fault is over", again).await;
    });
    futures_util::future::join_all(played).await;
}

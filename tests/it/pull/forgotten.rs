//! A pull behind a NAT that forgot every connection: it goes on over new ones, and nothing is taken for away.

use std::time::Duration;

use super::layer;
use super::private::{EXAMPLE, bearer};
use crate::support::client::Whole;
use crate::support::{Image, Plan, Proxy, Registry, Relay, Setup, Tokens};

/// A registry, its token service and its CDN, each behind a NAT.
struct Lab {
    servers: [Registry; 3],
    relays: [Relay; 3],
    proxy: Proxy,
}

impl Lab {
    async fn new(h2: bool) -> Self {
        let registry = Registry::with(Setup { h2, ..Setup::named("registry.example.com") });
        let auth = Registry::with(Setup { h2, ..Setup::named("auth.example.com") });
        let cdn = registry.sibling(Setup { h2, ..Setup::named("cdn.example.com") });
        let tokens = Tokens::new().public("public/*");
        auth.serve_tokens(&tokens);
        registry.redirect_blobs("https://cdn.example.com");
        registry.require_token(&tokens, "https://auth.example.com/token");
        let servers = [registry, auth, cdn];
        let relays = servers.each_ref().map(|server| Relay::to(server.address()));
        let more = ", token_hosts: [auth.example.com], auth: client, tags: {fresh_for: 0s}, prefetch: 0";
        let plan = Plan::new().registry_through(&relays[0], "registry.example.com", more);
        let plan = plan.host_through(&relays[1], "auth.example.com").host_through(&relays[2], "cdn.example.com");
        Self { servers, relays, proxy: plan.start().await }
    }

    async fn get(&self, path: &str, authorization: &str) -> Whole {
        self.proxy.client().session(EXAMPLE).await.ask("GET", path, &[("authorization", authorization)]).await
    }

    /// Token, tag, blobs: as a client does it.
    async fn pull(&self, repository: &str, image: &Image) {
        let authorization = bearer(&self.proxy.client(), None, repository).await;
        let tagged = self.get(&format!("/v2/{repository}/manifests/1"), &authorization).await;
        assert_eq!((tagged.status.as_u16(), tagged.header("warning")), (200, ""), "{tagged:?}");
        for digest in image.layers.iter().chain([&image.config]) {
            let blob = self.get(&format!("/v2/{repository}/blobs/{digest}"), &authorization).await;
            assert!(blob.status == 200 && blob.body.is_ok(), "{repository}: {blob:?}");
        }
    }
}

#[tokio::test]
async fn a_pull_goes_on_when_every_connection_was_forgotten() {
    for h2 in [false, true] {
        let lab = Lab::new(h2).await;
        let images = [1, 2, 3].map(|seed| {
            lab.servers[0].push_image(
                &format!("public/app{seed}"),
                "1",
                &[layer(50_000, seed), layer(70_000, seed + 9)],
            )
        });
        lab.pull("public/app1", &images[0]).await;
        lab.relays.iter().for_each(Relay::forget);
        lab.servers.iter().for_each(Registry::forget);
        let patience = Duration::from_secs(12); // a second for each host, and the rest for a loaded machine
        tokio::time::timeout(patience, lab.pull("public/app2", &images[1])).await.expect("nobody waits for long");
        let [registry, auth, cdn] = &lab.servers;
        assert_eq!(cdn.count("GET */blobs/*"), 3, "h2: {h2}: each once");
        assert_eq!(registry.count("GET */blobs/*"), 3, "h2: {h2}");
        let probes = |server: &Registry| {
            server.requests().iter().filter(|seen| matches!(seen.path.as_str(), "/" | "/v2/")).count()
        };
        assert_eq!(lab.servers.each_ref().map(probes), [0; 3], "h2: {h2}: nothing was suspected");
        assert!(auth.count("GET /token") >= 1);
        tokio::time::timeout(patience, lab.pull("public/app3", &images[2])).await.expect("nor again");
    }
}

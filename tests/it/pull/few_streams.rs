//! Registries that serve few streams at a time on a connection of HTTP/2: downloads hold up nothing else.

use super::layer;
use super::outage::{Kind, Puller, TAGS, is_fresh};
use crate::support::{Act, Gate, Plan, Registry, Setup, eventually};

#[tokio::test]
async fn layers_under_way_hold_up_no_tag_no_ping_and_no_other_layer() {
    for (streams, is_elsewhere) in [(1, false), (2, false), (1, true)] {
        let few = |name: &str| Setup { streams: Some(streams), ..Setup::named(name) };
        let registry = Registry::with(few("quay.io"));
        let cdn = registry.sibling(few("cdn.example.com"));
        let plan = Plan::new().registry(&registry, &format!("{TAGS}, prefetch: 0")).host("cdn.example.com", &cdn);
        let proxy = plan.start().await;
        let home = if is_elsewhere { &cdn } else { &registry };
        if is_elsewhere {
            registry.redirect_blobs("https://cdn.example.com");
        }
        let large = registry.push_image("a", "large", &[1, 2, 3].map(|seed| layer(300_000, seed)));
        let small = registry.push_image("a", "1", &[layer(1000, 4)]);
        let gate = Gate::new();
        for digest in &large.layers {
            home.script(&format!("GET */blobs/{digest}"), Act::Hold(100_000, gate.clone()));
        }
        let pulls = futures_util::future::join_all(large.layers.iter().map(|digest| {
            let client = proxy.client();
            async move { client.get(super::QUAY, &format!("/v2/a/blobs/{digest}")).await }
        }));
        let others = async {
            eventually("all layers are under way", || home.count("GET */blobs/*") == 3).await;
            for _ in 0..3 {
                assert!(is_fresh(&proxy.client().get(super::QUAY, "/v2/").await));
                assert!(is_fresh(&proxy.client().get(super::QUAY, "/v2/a/manifests/large").await));
            }
            Puller::new(&proxy, Kind::Docker).await.pull("a", "1", &small).await.unwrap();
            gate.open();
        };
        for blob in futures_util::future::join(pulls, others).await.0 {
            assert_eq!(blob.bytes().len(), 300_000);
        }
        let probes = registry.requests().iter().filter(|seen| !seen.headers.contains_key("via")).count();
        let once = large.layers.iter().all(|digest| home.count(&format!("GET */blobs/{digest}")) == 1);
        assert!(once, "{streams}, {is_elsewhere}: each layer once: {probes}");
    }
}

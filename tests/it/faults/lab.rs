//! A registry with an image that was pulled through the proxy and one that was not, for faults of the cache directory.

use std::path::Path;

use super::net::{digests, pull};
use crate::pull::layer;
use crate::support::{Image, Plan, Proxy, Registry};

const NAME: &str = "registry.test";

/// A registry, a proxy, and an image that was pulled.
pub(super) struct Lab {
    pub(super) registry: Registry,
    pub(super) proxy: Proxy,
    pub(super) warm: Image,
    pub(super) cold: Image,
}

impl Lab {
    /// The proxy's folder is prepared before it starts.
    pub(super) async fn start(prepare: impl FnOnce(&Path)) -> Self {
        let registry = Registry::start(NAME);
        let plan = Plan::new().registry(&registry, "tags: {fresh_for: 0s}");
        let proxy = Proxy::of_yaml(|folder| {
            prepare(folder);
            plan.yaml(folder)
        });
        let proxy = proxy.await;
        let warm = registry.push_image("warm", "1", &[layer(200_000, 1)]);
        let cold = registry.push_image("cold", "1", &[layer(200_000, 2)]);
        let lab = Self { registry, proxy, warm, cold };
        lab.pull("warm", &lab.warm).await;
        lab.all_stored(&lab.warm).await;
        lab.registry.forget();
        lab
    }

    pub(super) async fn pull(&self, repository: &str, image: &Image) {
        let pulled = pull(&self.proxy, NAME, repository, image).await;
        assert!(pulled.is_ok(), "{repository}: {pulled:?}");
    }

    pub(super) async fn all_stored(&self, image: &Image) {
        for digest in digests(image) {
            self.proxy.stored(digest).await;
        }
    }

    pub(super) fn downloads(&self, image: &Image) -> usize {
        image.layers.iter().map(|digest| self.registry.count(&format!("GET */{digest}"))).sum()
    }

    pub(super) async fn readiness(&self) -> u16 {
        let at = self.proxy.address();
        let client = crate::support::client::Client::through(at, &self.proxy.ca_file());
        client.plain_session(&at.to_string()).await.get("/readyz").await.status.as_u16()
    }
}

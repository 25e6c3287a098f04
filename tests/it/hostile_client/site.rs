//! What the tables are tried on: one proxy with a registry that takes pushes and a plain web server behind it.

use bytes::Bytes;

use crate::pull::layer;
use crate::support::client::Client;
use crate::support::{Answering, Dns, Image, Plan, Proxy, Registry, Setup};

pub(super) const QUAY: &str = "quay.io:443";

/// A proxy, and what stands behind it.
pub(super) struct Site {
    pub(super) registry: Registry,
    pub(super) files: Registry,
    pub(super) proxy: Proxy,
    pub(super) image: Image,
    _dns: Dns,
}

impl Site {
    /// `push` is what the registry's entry says of pushes. It speaks HTTP/1.1, where framing is all there is between two
    /// requests.
    pub(super) async fn new(push: &str) -> Self {
        Self::before(push, false).await
    }

    /// The same, with an upstream that is left after `first_byte` without an answer.
    pub(super) async fn impatient(push: &str, h2: bool, first_byte: &str) -> Self {
        Self::with(push, h2, &format!("first_byte_timeout: {first_byte}")).await
    }

    /// The same, with a registry that speaks HTTP/2 or does not.
    pub(super) async fn before(push: &str, h2: bool) -> Self {
        Self::with(push, h2, "").await
    }

    async fn with(push: &str, h2: bool, line: &str) -> Self {
        let registry = Registry::with(Setup { h2, ..Setup::named("quay.io") });
        let files = Registry::plain("files.example");
        let image = registry.push_image("open/app", "latest", &[layer(1000, 1)]);
        files.push_image("open/app", "latest", &[layer(1000, 1)]);
        let allowed = format!("allow: ['{}']", files.address());
        let entry = format!("tags: {{fresh_for: 1h}}, prefetch: 0, {push}");
        let dns = Dns::start(Answering::Truly).await; // no name is known, and nobody outside is asked
        let plan = Plan::new().registry(&registry, entry.trim_end_matches(", ")).tunnel(&allowed);
        let proxy = plan.upstream(&format!("resolvers: '{}'", dns.address())).upstream(line).start().await;
        let site = Self { registry, files, proxy, image, _dns: dns };
        site.is_well("at first").await;
        for digest in [site.image.digest, site.image.layers[0]] {
            site.proxy.stored(&digest).await;
        }
        site
    }

    /// How many requests reached an upstream.
    pub(super) fn reached(&self) -> usize {
        self.registry.requests().len() + self.files.requests().len()
    }

    /// How many of them were answered with success.
    pub(super) fn granted(&self) -> usize {
        let seen = self.registry.requests().into_iter().chain(self.files.requests());
        seen.filter(|seen| seen.status.is_some_and(|status| status < 400)).count()
    }

    /// What the registry, or the web server, holds under a tag that was pushed.
    pub(super) async fn pushed(&self, is_registry: bool, tag: &str) -> Option<Bytes> {
        let server = if is_registry { &self.registry } else { &self.files };
        let client = Client::direct(server.address());
        let mut session = match is_registry {
            true => client.session(QUAY).await,
            false => client.plain_session("files.example:80").await,
        };
        let held = session.get(&format!("/v2/open/app/manifests/{tag}")).await;
        held.status.is_success().then(|| held.bytes().clone())
    }

    /// Whoever is honest is served: the proxy says that it lives, and an image pulls.
    pub(super) async fn is_well(&self, after: &str) {
        let door = self.proxy.address().to_string();
        let mut pages = self.proxy.client().plain_session(&door).await;
        assert_eq!(pages.get("/healthz").await.status, 200, "{after}");
        let mut session = self.proxy.client().session(QUAY).await;
        let manifest = session.get("/v2/open/app/manifests/latest").await;
        assert_eq!((manifest.status.as_u16(), manifest.bytes()), (200, &self.image.manifest), "{after}");
        let blob = session.get(&format!("/v2/open/app/blobs/{}", self.image.layers[0])).await;
        assert_eq!((blob.status.as_u16(), &blob.bytes()[..]), (200, &layer(1000, 1)[..]), "{after}");
    }
}

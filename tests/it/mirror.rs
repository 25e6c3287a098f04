//! Registries under other names than their own: the mirror's listener, and `/v2/` on the proxy port.

mod catalog;
mod certificates;
mod credentials;
mod groups;
mod naming;
mod refused;

use crate::support::client::{Session, Whole};
use crate::support::{Plan, Proxy, Registry};

/// A mirror before registries that are docker.io and quay.io.
struct Lab {
    hub: Registry,
    quay: Registry,
    proxy: Proxy,
}

const NAMES: &str = "names: {hub.example.org: docker.io, 'm.example.org/team': quay.io/org, /q: quay.io, \
                     all.example.org: [docker.io, quay.io], \
                     bounded.example.org: [{registry: docker.io, repositories: [library/*]}, quay.io]}";

impl Lab {
    async fn new() -> Self {
        Self::with(|plan| plan).await
    }

    async fn with(more: impl FnOnce(Plan) -> Plan) -> Self {
        Self::keyed("tags: {fresh_for: 0s}", more).await
    }

    /// `keys` are further ones of both registries' entries.
    async fn keyed(keys: &str, more: impl FnOnce(Plan) -> Plan) -> Self {
        let (hub, quay) = (Registry::start("docker.io"), Registry::start("quay.io"));
        let plan = Plan::new().registry(&hub, keys).registry(&quay, keys).mirror(NAMES);
        let proxy = more(plan).start().await;
        Self { hub, quay, proxy }
    }

    /// A session of plain HTTP with the mirror under this name.
    async fn session(&self, name: &str) -> Session {
        self.proxy.mirror_client().plain_session(name).await
    }

    async fn get(&self, name: &str, path: &str) -> Whole {
        self.session(name).await.get(path).await
    }
}

/// The code of an OCI error.
fn code(answer: &Whole) -> String {
    let json: serde_json::Value = serde_json::from_slice(answer.bytes()).unwrap();
    json["errors"][0]["code"].as_str().unwrap().to_owned()
}

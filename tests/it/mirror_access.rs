//! Who gets what at a mirror, and which credentials reach which host: by each client's shape, each registry's, and each name.

mod clients;
mod lists;
mod logins;
mod names;
mod private;
mod pushes;

use crate::support::client::{Client, Session, Whole};
use crate::support::{Image, Plan, Proxy, Registry, Tokens};

const REGISTRY: &str = "registry.example.com";
const REALM: &str = "https://registry.example.com/token";
/// A name that stands for the registry alone.
const ALONE: &str = "alone.test";
/// Every other name of the mirror.
const MIRROR: &str = "mirror.test";
const GROUP: &str = "group.test";

/// The mirror's names, as [`Name`] has them.
fn mirror() -> String {
    format!(
        "default: {REGISTRY}, names: {{{ALONE}: {REGISTRY}, {GROUP}: [other.example.com, {REGISTRY}], /corp: {REGISTRY}}}"
    )
}

/// How a client names the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Alone,
    Namespace,
    Prefix,
    Path,
    Group,
    Default,
}

const NAMES: [Name; 6] = [Name::Alone, Name::Namespace, Name::Prefix, Name::Path, Name::Group, Name::Default];

impl Name {
    fn host(self) -> &'static str {
        match self {
            Self::Alone => ALONE,
            Self::Group => GROUP,
            _ => MIRROR,
        }
    }

    /// What the client calls a repository of the registry.
    fn written(self, repository: &str) -> String {
        match self {
            Self::Prefix => format!("{REGISTRY}/{repository}"),
            Self::Path => format!("corp/{repository}"),
            _ => repository.to_owned(),
        }
    }

    fn path(self, repository: &str, rest: &str) -> String {
        let query = if self == Self::Namespace { format!("?ns={REGISTRY}") } else { String::new() };
        format!("/v2/{}/{rest}{query}", self.written(repository))
    }
}

/// A registry, and another one that has nothing and stands before it in the group.
struct Lab {
    registry: Registry,
    other: Registry,
    proxy: Proxy,
}

impl Lab {
    async fn start(registry: Registry, more: &str, clients: &str) -> Self {
        let other = Registry::start("other.example.com");
        let plan = Plan::new().registry(&registry, more).registry(&other, "").mirror(&mirror()).clients(clients);
        let proxy = plan.start().await;
        Self { registry, other, proxy }
    }

    /// One that wants tokens: `public/*` is for everybody, `alice/*` for alice, `team/*` for robot, and bob has nothing.
    async fn with_tokens(more: &str, clients: &str) -> Self {
        Self::start(token_registry(), more, clients).await
    }

    async fn session(&self, host: &str) -> Session {
        session(&self.proxy, host).await
    }

    async fn ask(&self, host: &str, method: &str, path: &str, authorization: Option<&str>) -> Whole {
        let headers: Vec<(&str, &str)> = authorization.map(|value| ("authorization", value)).into_iter().collect();
        self.session(host).await.ask(method, path, &headers).await
    }

    /// A token for a repository, as the name calls it, with user and password or without.
    async fn token(&self, host: &str, scope: &str, basic: Option<&str>) -> Result<String, u16> {
        let path = format!("/v2/_pullthrough/token?service={host}&scope={scope}");
        let answer = self.ask(host, "GET", &path, basic).await;
        if answer.status == 200 { Ok(bearer_of(&answer)) } else { Err(answer.status.as_u16()) }
    }

    /// Whether anything that these credentials say reached a registry.
    fn was_told(&self, secret: &str) -> bool {
        let mut all = self.registry.requests();
        all.extend(self.other.requests());
        all.iter().any(|seen| {
            let in_headers =
                seen.headers.values().any(|value| value.to_str().is_ok_and(|value| value.contains(secret)));
            in_headers || seen.query.contains(secret)
        })
    }
}

fn token_registry() -> Registry {
    let tokens = Tokens::new()
        .public("public/*")
        .user("alice", "secret-a", &["alice/*"])
        .user("bob", "secret-b", &[])
        .user("robot", "canary-r", &["team/*"])
        .identity("refresh-a", &["alice/*"]);
    let registry = Registry::start(REGISTRY);
    registry.serve_tokens(&tokens);
    registry.require_token(&tokens, REALM);
    registry
}

/// A connection to the mirror, called `host`.
async fn session(proxy: &Proxy, host: &str) -> Session {
    Client::through(proxy.address(), &proxy.ca_file()).plain_session(host).await
}

fn bearer_of(answer: &Whole) -> String {
    let json: serde_json::Value = serde_json::from_slice(answer.bytes()).unwrap();
    format!("Bearer {}", json["token"].as_str().unwrap())
}

/// Every path of an image at a name: by tag and by digest.
fn paths(name: Name, repository: &str, image: &Image) -> Vec<String> {
    let manifest = format!("manifests/{}", image.digest);
    let blobs = image.layers.iter().chain([&image.config]).map(|digest| format!("blobs/{digest}"));
    let all = ["manifests/1".to_owned(), manifest].into_iter().chain(blobs);
    all.map(|rest| name.path(repository, &rest)).collect()
}

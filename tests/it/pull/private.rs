//! A registry that wants tokens from a service of its own, with callers who have rights there and one who has none.

use crate::support::client::{Client, Whole};
use crate::support::{Plan, Proxy, Registry, Tokens, basic_value, until};

pub(super) const EXAMPLE: &str = "registry.example.com:443";
pub(super) const AUTH: &str = "auth.example.com:443";

/// Callers with their passwords: two who may read `team/*`, and one who may read what everybody may.
pub(super) const ALICE: Option<(&str, &str)> = Some(("alice", "secret-a"));
pub(super) const CAROL: Option<(&str, &str)> = Some(("carol", "secret-c"));
pub(super) const BOB: Option<(&str, &str)> = Some(("bob", "secret-b"));

pub(super) struct Lab {
    pub(super) registry: Registry,
    pub(super) auth: Registry,
    pub(super) proxy: Proxy,
    pub(super) tokens: Tokens,
}

impl Lab {
    /// A registry that wants tokens from `auth.example.com`, and a proxy before both. `more` are keys of its entry.
    pub(super) async fn new(more: &str) -> Self {
        Self::with(&format!("tags: {{fresh_for: 1h}}{more}")).await
    }

    /// The same, where a silent registry is waited for only a second.
    pub(super) async fn hasty(more: &str) -> Self {
        Self::with(&format!("tags: {{fresh_for: 1h, deadline: 1s}}{more}")).await
    }

    async fn with(keys: &str) -> Self {
        let tokens = Tokens::new()
            .public("public/*")
            .user("alice", "secret-a", &["team/*"])
            .user("bob", "secret-b", &[])
            .user("carol", "secret-c", &["team/*"])
            .identity("refresh-a", &["team/*"]);
        let (registry, auth) = (Registry::start("registry.example.com"), Registry::start("auth.example.com"));
        auth.serve_tokens(&tokens);
        registry.require_token(&tokens, "https://auth.example.com/token");
        let plan = Plan::new().registry(&registry, &format!("token_hosts: [auth.example.com], {keys}"));
        let proxy = plan.host("auth.example.com", &auth).start().await;
        Self { registry, auth, proxy, tokens }
    }

    pub(super) async fn bearer(&self, user: Option<(&str, &str)>, repository: &str) -> String {
        bearer(&self.proxy.client(), user, repository).await
    }

    /// Waits until nobody's question was answered.
    pub(super) async fn is_public(&self, path: &str) {
        until("it becomes public", async || self.get(path, None).await.status == 200).await;
    }

    pub(super) async fn get(&self, path: &str, authorization: Option<&str>) -> Whole {
        ask(&self.proxy.client(), "GET", path, authorization).await
    }
}

/// The header of who got a token for pulling there.
pub(super) async fn bearer(client: &Client, user: Option<(&str, &str)>, repository: &str) -> String {
    let path = format!("/token?service=lab&scope=repository:{repository}:pull");
    let basic = user.map(|(name, password)| basic_value(name, password));
    let headers: Vec<(&str, &str)> = basic.iter().map(|value| ("authorization", value.as_str())).collect();
    token(&client.session(AUTH).await.ask("GET", &path, &headers).await)
}

/// The header that shows the token of such an answer.
pub(super) fn token(answer: &Whole) -> String {
    let json: serde_json::Value = serde_json::from_slice(answer.bytes()).unwrap();
    format!("Bearer {}", json["token"].as_str().unwrap())
}

pub(super) async fn ask(client: &Client, method: &str, path: &str, authorization: Option<&str>) -> Whole {
    let headers: Vec<(&str, &str)> = authorization.map(|value| ("authorization", value)).into_iter().collect();
    client.session(EXAMPLE).await.ask(method, path, &headers).await
}

//! Many large manifests and many large tokens: the memory that they take is bounded.

use serde_json::json;

use crate::support::client::Client;
use crate::support::{Act, MANIFEST, Plan, Registry, Served};

const NAME: &str = "registry.test";
const MIB: usize = 1 << 20;
/// Less than what is sent in all, and more than the bounds and a program in debug mode need.
const MOST: usize = 176 * MIB;

fn serve(folder: &std::path::Path, plan: Plan) -> (Served, Client) {
    std::fs::write(folder.join("pullthrough.yaml"), plan.yaml(folder)).unwrap();
    let server = Served::start(folder, "warn");
    let client = Client::through(server.proxy(), &folder.join("ca/ca.crt"));
    (server, client)
}

#[tokio::test]
async fn many_large_manifests_take_a_bounded_memory() {
    let (registry, folder) = (Registry::start(NAME), tempfile::tempdir().unwrap());
    let (server, client) = serve(folder.path(), Plan::new().registry(&registry, ""));
    let mut session = client.session(&format!("{NAME}:443")).await;
    for number in 0..40 {
        let large = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
            "annotations": {"number": number.to_string(), "x": "x".repeat(4 * MIB)}});
        let digest = registry.push_manifest("a", None, MANIFEST, large.to_string());
        assert_eq!(session.get(&format!("/v2/a/manifests/{digest}")).await.status, 200, "{number}");
        registry.remove("a", &digest.to_string());
    }
    let resident = server.resident();
    assert!(resident < MOST, "{} MiB after 160 MiB of manifests", resident / MIB);
}

#[tokio::test]
async fn many_large_tokens_take_a_bounded_memory() {
    let (registry, auth) = (Registry::start(NAME), Registry::start("auth.test"));
    let folder = tempfile::tempdir().unwrap();
    let token = json!({"token": "x".repeat(200_000), "expires_in": 3600}).to_string();
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    auth.script("/token", Act::Answer { status: 200, headers, body: token });
    let challenge = "Bearer realm=\"https://auth.test/token\",service=\"lab\"";
    let unauthorized = vec![("www-authenticate".to_owned(), challenge.to_owned())];
    registry.script("*", Act::Answer { status: 401, headers: unauthorized, body: String::new() });
    let more = "token_hosts: [auth.test], auth: anonymous";
    let (server, client) = serve(folder.path(), Plan::new().registry(&registry, more).host("auth.test", &auth));
    let mut session = client.session(&format!("{NAME}:443")).await;
    for number in 0..1000 {
        let answer = session.get(&format!("/v2/a{number}/manifests/1")).await;
        assert!(!answer.status.is_success(), "{number}: {}", answer.status);
    }
    let resident = server.resident();
    assert!(resident < MOST, "{} MiB after {} tokens of 200 kB", resident / MIB, auth.count("/token"));
}

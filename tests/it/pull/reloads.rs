//! A changed configuration takes effect without a restart, and a stop lets pulls finish.

use http_body_util::BodyExt;
use pullthrough::wire::Body;
use tokio::io::AsyncReadExt;

use super::{QUAY, layer, quay};
use crate::support::{Act, Gate, MANIFEST, Plan, Registry, Seen, Tokens, basic_value, until};

#[tokio::test]
async fn a_reload_judges_the_next_request_of_an_open_connection() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "push: deny").start().await;
    let mut session = proxy.client().session(QUAY).await;
    assert_eq!(session.ask("PUT", "/v2/a/manifests/1", &[("content-type", MANIFEST)]).await.status, 405);
    proxy.reload(Plan::new().registry(&registry, "push: allow")).await;
    assert_ne!(session.ask("PUT", "/v2/a/manifests/1", &[("content-type", MANIFEST)]).await.status, 405);
    assert_eq!(proxy.metric("pullthrough_config_last_reload_successful").await, 1.0);
}

#[tokio::test]
async fn a_proof_is_asked_for_again_only_where_registries_have_changed() {
    let registry = Registry::start("quay.io");
    let tokens = Tokens::new().user("alice", "secret", &["team/*"]);
    registry.require_token(&tokens, "https://quay.io/token");
    registry.serve_tokens(&tokens);
    let digest = registry.push_blob("team/app", layer(1000, 1));
    let proxy = Plan::new().registry(&registry, "").start().await;
    let basic = basic_value("alice", "secret");
    let token = "/token?service=lab&scope=repository:team/app:pull";
    let token = proxy.client().session(QUAY).await.ask("GET", token, &[("authorization", &basic)]).await;
    let token: serde_json::Value = serde_json::from_slice(token.bytes()).unwrap();
    let authorization = format!("Bearer {}", token["token"].as_str().unwrap());
    let path = format!("/v2/team/app/blobs/{digest}");
    let pull = async || {
        let mut session = proxy.client().session(QUAY).await;
        assert_eq!(session.ask("GET", &path, &[("authorization", &authorization)]).await.status, 200);
        // Nobody's own question, whether anybody may have it, is asked behind and counts for nothing here.
        let own = |seen: &&Seen| seen.headers.get("authorization").is_some_and(|value| *value == *authorization);
        registry.requests().iter().filter(own).count()
    };
    pull().await;
    proxy.stored(&digest).await; // who joins the first one's fill is not asked for its right
    let asked = pull().await;
    proxy.reload(Plan::new().registry(&registry, "").log("access: false")).await;
    assert_eq!(pull().await, asked);
    proxy.reload(Plan::new().registry(&registry, "push: allow")).await;
    assert_eq!(pull().await, asked + 1);
}

#[tokio::test]
async fn an_invalid_file_changes_nothing_and_says_so() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").start().await;
    proxy.reload(Plan::new().registry(&registry, "push: perhaps")).await;
    assert_eq!(proxy.metric("pullthrough_config_last_reload_successful").await, 0.0);
    assert!(proxy.client().get(QUAY, "/v2/").await.status.is_success());
}

#[tokio::test]
async fn a_registry_added_by_a_reload_is_intercepted_under_the_same_root() {
    let (registry, example) = (Registry::start("quay.io"), Registry::start("registry.example.com"));
    let proxy = Plan::new().registry(&registry, "").start().await;
    proxy.client().get(QUAY, "/v2/").await;
    proxy.reload(Plan::new().registry(&registry, "").registry(&example, "")).await;
    assert!(proxy.client().get("registry.example.com:443", "/v2/").await.status.is_success());
    assert!(proxy.client().get(QUAY, "/v2/").await.status.is_success());
    assert_eq!(proxy.metric("pullthrough_leaf_certificates_total").await, 3.0, "a counter does not go back");
}

#[tokio::test]
async fn a_newly_denied_tunnel_is_closed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let registry = Registry::start("quay.io");
    let tunnel = |list: &str| format!("{list}: ['127.0.0.1:{port}']");
    let proxy = Plan::new().registry(&registry, "").tunnel(&tunnel("allow")).start().await;
    let mut stream = proxy.client().tunnel(&format!("127.0.0.1:{port}")).await.unwrap();
    let (_kept, _) = listener.accept().await.unwrap();
    proxy.reload(Plan::new().registry(&registry, "").tunnel(&tunnel("allow")).log("access: false")).await;
    proxy.reload(Plan::new().registry(&registry, "").tunnel(&tunnel("deny"))).await;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_stop_lets_a_pull_under_way_finish() {
    let (registry, mut proxy) = quay().await;
    let bytes = layer(1_000_000, 1);
    let digest = registry.push_blob("a", bytes.clone());
    let gate = Gate::new();
    registry.script("GET */blobs/*", Act::Hold(500_000, gate.clone()));
    for h2 in [false, true] {
        let client = if h2 { proxy.client().h2() } else { proxy.client() };
        let mut session = client.session(QUAY).await;
        let answer = session.send("GET", &format!("/v2/a/blobs/{digest}"), &[], Body::empty()).await.unwrap();
        let address = proxy.address();
        let (finished, got) = tokio::join!(proxy.stop(), async {
            until("its port is closed", async || tokio::net::TcpStream::connect(address).await.is_err()).await;
            gate.open();
            answer.into_body().collect().await.unwrap().to_bytes()
        });
        assert!(finished && got == bytes, "h2: {h2}");
        proxy.restart().await;
    }
}

//! Credentials that the proxy holds, from wherever it has them: a file, docker's, a helper; one of several, of each form.

use std::os::unix::fs::PermissionsExt;

use super::layer;
use crate::support::client::Whole;
use crate::support::{Act, Image, Plan, Proxy, Registry, Tokens, basic_value};

const EXAMPLE: &str = "registry.example.com:443";
const REALM: &str = "https://registry.example.com/token";

/// A registry with a token service on its own host, and an image in `team/app`.
fn registry(tokens: &Tokens) -> (Registry, Image) {
    let registry = Registry::start("registry.example.com");
    registry.serve_tokens(tokens);
    let image = registry.push_image("team/app", "1", &[layer(1000, 1)]);
    (registry, image)
}

async fn proxy(registry: &Registry, auth: &str) -> Proxy {
    Plan::new().registry(registry, &format!("auth: {auth}, tags: {{fresh_for: 1h}}")).start().await
}

async fn get(proxy: &Proxy, path: &str) -> Whole {
    proxy.client().get(EXAMPLE, path).await
}

fn sent(registry: &Registry, pattern: &str) -> Vec<String> {
    let method_and_path = pattern.split_once(' ').unwrap();
    let seen = registry.requests().into_iter();
    let seen = seen.filter(|seen| (seen.method.as_str(), seen.path.as_str()) == method_and_path);
    seen.filter_map(|seen| Some(seen.headers.get("authorization")?.to_str().unwrap().to_owned())).collect()
}

#[tokio::test]
async fn an_image_is_pulled_with_the_password_of_a_file_of_docker_and_of_a_helper() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let password = file("password", "secret-r\n");
    let basic = basic_value("robot", "secret-r").replace("Basic ", "");
    let docker =
        file("config.json", &format!("{{\"auths\": {{\"registry.example.com\": {{\"auth\": \"{basic}\"}}}}}}"));
    let identity = file("identity.json", "{\"auths\": {\"registry.example.com\": {\"identitytoken\": \"refresh-r\"}}}");
    let helper = file("helper", "#!/bin/sh\nread server\necho '{\"Username\":\"robot\",\"Secret\":\"secret-r\"}'\n");
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    for source in [
        format!("username: robot, password_file: '{password}'"),
        format!("docker_config: '{docker}'"),
        format!("docker_config: '{identity}'"),
        format!("helper: '{helper}'"),
    ] {
        let tokens = Tokens::new().user("robot", "secret-r", &["team/*"]).identity("refresh-r", &["team/*"]);
        let (registry, image) = registry(&tokens);
        registry.require_token(&tokens, REALM);
        let proxy = proxy(&registry, &format!("{{{source}, repositories: ['team/*']}}")).await;
        for path in ["/v2/team/app/manifests/1".to_owned(), format!("/v2/team/app/blobs/{}", image.layers[0])] {
            assert_eq!(get(&proxy, &path).await.status, 200, "{source} {path}");
        }
        assert_eq!(registry.count("POST /token"), 1, "{source}: one token for both");
    }
}

#[tokio::test]
async fn of_basic_and_bearer_in_one_challenge_a_token_is_got_and_no_password_is_sent() {
    let bearer = format!("Bearer realm=\"{REALM}\",service=\"lab\",scope=\"repository:team/app:pull\"");
    let basic = "Basic realm=\"lab, too\"".to_owned();
    for challenges in [
        vec![format!("{basic}, {bearer}")],
        vec![format!("{bearer}, {basic}")],
        vec![basic.clone(), bearer.clone()],
        vec![bearer.clone(), basic.clone()],
    ] {
        let tokens = Tokens::new().user("robot", "secret-r", &["team/*"]);
        let (registry, _) = registry(&tokens);
        let headers = challenges.iter().map(|text| ("www-authenticate".to_owned(), text.clone())).collect();
        registry.script_times(1, "GET /v2/team/*", Act::Answer { status: 401, headers, body: String::new() });
        let proxy = proxy(&registry, "{username: robot, password: secret-r, repositories: ['team/*']}").await;
        assert_eq!(get(&proxy, "/v2/team/app/manifests/1").await.status, 200, "{challenges:?}");
        assert_eq!(sent(&registry, "GET /v2/team/app/manifests/1"), ["Bearer token-1"], "{challenges:?}");
    }
}

#[tokio::test]
async fn the_entry_for_a_repository_wins_over_that_for_its_namespace_and_over_the_registrys() {
    let tokens = Tokens::new();
    let (registry, _) = registry(&tokens);
    for repository in ["team/other", "alpine"] {
        registry.push_image(repository, "1", &[layer(1000, 2)]);
    }
    // Who is asked as nobody is refused, so that the name shows.
    registry.script("/v2/*", Act::Header("www-authenticate".into(), "Basic realm=\"lab\"".into()));
    registry.script("/v2/*", Act::Status(401));
    let proxy = proxy(
        &registry,
        "[{username: all, password: p, repositories: ['*']}, {username: team, password: p, repositories: ['team/*']}, \
          {username: app, password: p, repositories: [team/app]}]",
    )
    .await;
    for (repository, user) in [("team/app", "app"), ("team/other", "team"), ("alpine", "all")] {
        get(&proxy, &format!("/v2/{repository}/manifests/1")).await;
        let sent = sent(&registry, &format!("GET /v2/{repository}/manifests/1"));
        assert_eq!(sent, [basic_value(user, "p")], "{repository}");
    }
}

#[tokio::test]
async fn a_credential_that_the_token_service_throttles_makes_room_for_the_next() {
    let tokens = Tokens::new().user("one", "secret-1", &["team/*"]).user("two", "secret-2", &["team/*"]);
    let (registry, image) = registry(&tokens);
    registry.require_token(&tokens, REALM);
    registry.script_times(1, "POST /token", Act::Header("retry-after".into(), "60".into()));
    registry.script_times(1, "POST /token", Act::Status(429));
    let auth = "[{username: one, password: secret-1, repositories: ['team/*']}, \
                {username: two, password: secret-2, repositories: ['team/*']}]";
    let proxy = proxy(&registry, auth).await;
    for path in ["/v2/team/app/manifests/1".to_owned(), format!("/v2/team/app/blobs/{}", image.layers[0])] {
        assert_eq!(get(&proxy, &path).await.status, 200, "{path}");
    }
    assert_eq!(registry.count("POST /token"), 2, "the first one rests");
    // When all are throttled, the client is told so, and when to come again.
    registry.push_image("team/late", "1", &[layer(1000, 3)]);
    registry.script("POST /token", Act::Header("retry-after".into(), "60".into()));
    registry.script("POST /token", Act::Status(429));
    let told = get(&proxy, "/v2/team/late/manifests/1").await;
    assert_eq!((told.status.as_u16(), told.header("retry-after")), (429, "60"));
}

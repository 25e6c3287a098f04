//! Planted secrets, as they are and in base64: they appear in no log, metric, error, catalog or staged file.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{QUAY, layer, quay};
use crate::support::client::Client;
use crate::support::{Act, Gate, Plan, Registry, Served, Tokens, basic_value, eventually};

const EXAMPLE: &str = "registry.example.com:443";
/// Password of a caller, password and user's password of the proxy's own, identity token.
const CANARIES: [&str; 4] = ["canary-caller-1", "canary-held-22", "canary-wrong-3", "canary-identity-4"];

#[tokio::test]
async fn no_secret_is_written_down_or_told() {
    let tokens = Tokens::new().user("alice", CANARIES[0], &["alice/*"]).user("robot", CANARIES[1], &["team/*"]);
    let (registry, auth) = (Registry::start("registry.example.com"), Registry::start("auth.example.com"));
    auth.serve_tokens(&tokens);
    registry.require_token(&tokens, "https://auth.example.com/token");
    let folder = tempfile::tempdir().unwrap();
    let auth_keys = format!("{{username: robot, password: {}, repositories: ['team/*']}}", CANARIES[1]);
    let keys = format!(
        "token_hosts: [auth.example.com], realms: ['https://auth.example.com/token'], auth: {auth_keys}, tags: {{fresh_for: 0s, deadline: 1s}}"
    );
    let plan = Plan::new().registry(&registry, &keys).host("auth.example.com", &auth);
    std::fs::write(folder.path().join("pullthrough.yaml"), plan.yaml(folder.path())).unwrap();
    let server = Served::start(folder.path(), "trace");
    let client = Client::through(server.proxy(), &folder.path().join("ca/ca.crt"));
    let mut told = Vec::new();
    let blobs = [registry.push_blob("team/app", layer(50_000, 1)), registry.push_blob("alice/app", layer(50_000, 2))];
    registry.push_image("team/app", "1", &[layer(1000, 3)]);
    let (right, wrong) = (basic_value("alice", CANARIES[0]), basic_value("alice", CANARIES[2]));
    let scope = "scope=repository:alice/app:pull";
    let mut issued = String::new();
    for basic in [&right, &wrong] {
        for (host, path) in [
            (EXAMPLE, format!("/v2/_pullthrough/token?{scope}")),
            ("auth.example.com:443", format!("/token?{scope}&service=lab")),
        ] {
            let answer = client.session(host).await.ask("GET", &path, &[("authorization", basic)]).await;
            if answer.status == 200 {
                let json: serde_json::Value = serde_json::from_slice(answer.bytes()).unwrap();
                issued = json["token"].as_str().unwrap().to_owned();
            } else {
                told.extend_from_slice(answer.bytes());
            }
        }
    }
    let form = format!("grant_type=refresh_token&refresh_token={}&{scope}", CANARIES[3]);
    let mut session = client.session("auth.example.com:443").await;
    let body = pullthrough::wire::Body::full(form);
    let answer = session.send("POST", "/token", &[("content-type", "application/x-www-form-urlencoded")], body).await;
    told.extend_from_slice(crate::support::client::whole(answer.unwrap()).await.bytes());
    let bearer = format!("Bearer {issued}");
    registry.script_times(1, "GET */blobs/*", Act::Cut(10_000));
    for (path, header) in [
        (format!("/v2/team/app/blobs/{}", blobs[0]), None),
        (format!("/v2/alice/app/blobs/{}", blobs[1]), Some(&bearer)),
        (format!("/v2/alice/app/blobs/{}", blobs[1]), Some(&wrong)),
        ("/v2/team/app/manifests/1".to_owned(), None),
        ("/v2/team/app/manifests/none".to_owned(), Some(&right)),
    ] {
        let headers: Vec<(&str, &str)> = header.iter().map(|value| ("authorization", value.as_str())).collect();
        let answer = client.session(EXAMPLE).await.ask("GET", &path, &headers).await;
        if answer.status != 200 {
            told.extend_from_slice(answer.bytes());
        }
    }
    registry.script("*", Act::Reset);
    for header in [&right, &bearer] {
        let answer =
            client.session(EXAMPLE).await.ask("GET", "/v2/alice/app/manifests/1", &[("authorization", header)]).await;
        assert!(answer.status.as_u16() >= 400);
        told.extend_from_slice(answer.bytes());
    }
    let catalog = folder.path().join("cache/catalog.sqlite");
    eventually("something is written down", || catalog.exists()).await;
    let admin = server.admin();
    for path in ["/metrics", "/api/v1/stats", "/api/v1/config", "/"] {
        let told_by = Client::through(admin, &folder.path().join("ca/ca.crt"));
        let answer = told_by.plain_session(&admin.to_string()).await.get(path).await;
        assert!(path != "/metrics" || (answer.status == 200 && !answer.bytes().is_empty()));
        told.extend_from_slice(answer.bytes());
    }
    drop(server); // killed: what is staged stays
    let mut places = vec![("an answer".to_owned(), told)];
    read_all(folder.path(), &mut places);
    assert!(places.iter().any(|(name, _)| name.ends_with("log")) && places.len() > 5);
    let mut secrets: Vec<String> = CANARIES.iter().map(|canary| (*canary).to_owned()).collect();
    secrets.extend(CANARIES.map(|canary| basic_value("", canary)[6..].trim_end_matches('=').to_owned()));
    secrets.extend([&right, &wrong].map(|basic| basic[6..].trim_end_matches('=').to_owned()));
    secrets.push(basic_value("robot", CANARIES[1])[6..].trim_end_matches('=').to_owned());
    secrets.push(issued);
    for (name, bytes) in &places {
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{name} holds {secret}");
        }
    }
}

/// Every file below but the configuration, in which one of them stands.
fn read_all(folder: &Path, places: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            read_all(&path, places);
        } else if path.is_file() && !path.ends_with("pullthrough.yaml") {
            places.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

#[tokio::test]
async fn what_is_kept_is_its_owners_alone() {
    let (registry, proxy) = quay().await;
    let blobs = [registry.push_blob("a", layer(50_000, 1)), registry.push_blob("a", layer(50_000, 2))];
    let path = |at: usize| format!("/v2/a/blobs/{}", blobs[at]);
    assert_eq!(proxy.client().get(QUAY, &path(0)).await.status, 200);
    proxy.stored(&blobs[0]).await;
    let gate = Gate::new();
    registry.script("GET */blobs/*", Act::Hold(10_000, gate.clone()));
    let mut session = proxy.client().session(QUAY).await;
    let under_way = session.send("GET", &path(1), &[], pullthrough::wire::Body::empty()).await.unwrap();
    eventually("it is staged", || proxy.files().1 > 0).await;
    let mut kept = vec![proxy.folder().join("cache")];
    below(&proxy.folder().join("cache"), &mut kept);
    assert!(kept.len() > 6, "{kept:?}");
    for path in kept {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o077, 0, "{} is open to others", path.display());
    }
    gate.open();
    drop(under_way);
}

fn below(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            below(&path, found);
        }
        found.push(path);
    }
}

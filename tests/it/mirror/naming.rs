//! Every name of a registry leads to the same cache, on the mirror's port and on the proxy's.

use super::Lab;
use crate::pull::layer;

#[tokio::test]
async fn every_naming_gets_the_same_blob_by_one_download_in_all() {
    let lab = Lab::new().await;
    let bytes = layer(40_000, 7);
    let digest = lab.hub.push_blob("library/app", bytes.clone());
    let blob = |repository: &str| format!("/v2/{repository}/blobs/{digest}");
    let ns = |repository: &str| format!("{}?ns=docker.io", blob(repository));
    let names = [
        ("any.example.org", ns("library/app")),
        ("any.example.org", ns("app")),
        ("any.example.org", ns("docker.io/library/app")),
        ("hub.example.org", blob("library/app")),
        ("hub.example.org:5000", blob("app")),
        ("any.example.org", blob("docker.io/app")),
        ("any.example.org", blob("docker.io/library/app")),
        ("any.example.org", blob("app")),
        ("all.example.org", blob("app")),
        ("bounded.example.org", blob("library/app")),
    ];
    for (name, path) in &names {
        let answer = lab.get(name, path).await;
        assert_eq!(answer.status, 200, "{name} {path}");
        assert_eq!(answer.bytes(), &bytes);
        assert_eq!(answer.header("docker-content-digest"), digest.to_string());
        let echoed = if path.contains("ns=") { "docker.io" } else { "" };
        assert_eq!(answer.header("oci-namespace"), echoed, "{name} {path}");
        lab.proxy.stored(&digest).await;
    }
    for (name, path) in &names {
        let mut session = lab.proxy.client().plain_session(name).await;
        assert_eq!(session.get(path).await.bytes(), &bytes, "the proxy port: {name} {path}");
    }
    let direct = lab.proxy.client().get("docker.io:443", &blob("library/app")).await;
    assert_eq!(direct.bytes(), &bytes);
    assert_eq!(lab.hub.count("GET */blobs/sha*"), 1);
    assert_eq!(lab.quay.count("*"), 0);
    assert_eq!(lab.proxy.files(), (1, 0));
}

#[tokio::test]
async fn a_part_of_a_registry_and_a_path_lead_to_the_repository_that_they_stand_for() {
    let lab = Lab::new().await;
    let digest = lab.quay.push_blob("org/app", layer(5_000, 8));
    for (name, repository) in
        [("m.example.org", "team/app"), ("any.example.org", "q/org/app"), ("any.example.org", "quay.io/org/app")]
    {
        let answer = lab.get(name, &format!("/v2/{repository}/blobs/{digest}")).await;
        assert_eq!(answer.status, 200, "{name} {repository}");
        lab.proxy.stored(&digest).await;
    }
    assert_eq!(lab.quay.count(&format!("GET /v2/org/app/blobs/{digest}")), 1);
    assert_eq!(lab.quay.count("GET */blobs/*"), 1);
}

#[tokio::test]
async fn ranges_conditions_and_accept_reach_the_content_through_a_name() {
    let lab = Lab::new().await;
    let bytes = layer(40_000, 9);
    let digest = lab.hub.push_blob("library/app", bytes.clone());
    let image = lab.hub.push_image("library/app", "1", &[layer(100, 1)]);
    let mut session = lab.session("hub.example.org").await;
    let path = format!("/v2/app/blobs/{digest}");
    let part = session.ask("GET", &path, &[("range", "bytes=100-199")]).await;
    assert_eq!((part.status.as_u16(), part.bytes().as_ref()), (206, &bytes[100..200]));
    let whole = session.get(&path).await;
    assert_eq!(whole.bytes(), &bytes);
    let unchanged = session.ask("GET", &path, &[("if-none-match", whole.header("etag"))]).await;
    assert_eq!(unchanged.status, 304);
    let head = session.ask("HEAD", "/v2/app/manifests/1", &[("accept", crate::support::MANIFEST)]).await;
    assert_eq!(head.header("docker-content-digest"), image.digest.to_string());
    let manifest = session.get("/v2/app/manifests/1").await;
    assert_eq!(manifest.bytes(), &image.manifest);
    let asked = lab.hub.requests();
    assert!(asked.iter().all(|seen| seen.path.starts_with("/v2/library/app/")), "{asked:?}");
}

#[tokio::test]
async fn http_2_and_http_1_and_tls_and_none_are_told_apart_on_one_port() {
    let lab = Lab::new().await;
    let digest = lab.hub.push_blob("library/app", layer(2_000, 10));
    let path = format!("/v2/app/blobs/{digest}");
    let client = || lab.proxy.mirror_client();
    for mut session in [
        client().plain_session("hub.example.org").await,
        client().h2().plain_session("hub.example.org").await,
        client().session("hub.example.org:443").await,
        client().h2().session("hub.example.org:443").await,
    ] {
        assert_eq!(session.get(&path).await.status, 200);
        lab.proxy.stored(&digest).await;
    }
    assert_eq!(lab.hub.count("GET */blobs/*"), 1);
    assert!(lab.proxy.metric("pullthrough_connections{door=\"mirror\"}").await >= 0.0);
}

#[tokio::test]
async fn the_proxys_own_pages_are_on_the_mirrors_port_and_it_is_no_proxy() {
    let lab = Lab::new().await;
    let root = std::fs::read(lab.proxy.ca_file()).unwrap();
    let mut session = lab.session("any.example.org").await;
    assert_eq!(session.get("/ca.crt").await.bytes().as_ref(), root);
    for page in ["/healthz", "/readyz", "/", "/setup/docker"] {
        assert_eq!(session.get(page).await.status, 200, "{page}");
    }
    assert_eq!(session.get("/no-such-page").await.status, 404);
    let through = crate::support::client::Client::through(lab.proxy.mirror(), &lab.proxy.ca_file());
    assert_eq!(through.tunnel("quay.io:443").await.unwrap_err().status, 405);
    // A URL in place of a path names the mirror's host, and no host to be fetched from.
    let answer = session.get("http://quay.io/v2/org/app/tags/list").await;
    assert_eq!(answer.status, 421);
    assert_eq!(session.get("http://10.0.0.1/secret").await.status, 404);
    assert_eq!(lab.quay.count("*"), 0);
}

//! One pullthrough below another: the example that is shipped, circles, and what the parent says of an outage.

use std::path::Path;

use super::*;
use crate::pull::{QUAY, layer};
use crate::support::{Answering, Dns};

/// `examples/region.yaml` as it stands, but for the addresses and folders of a test.
fn region(central: &Proxy, folder: &Path) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/region.yaml");
    let mut text = std::fs::read_to_string(file).unwrap();
    let own = |name: &str| folder.join(name).display().to_string();
    for (there, here) in [
        ("http://proxy.central.example:3128", format!("http://{}", central.address())),
        ("central-ca.crt", central.ca_file().display().to_string()),
        ("allow: [10.40.0.0/16]", "allow: [127.0.0.0/8]".to_owned()),
        ("/var/cache/pullthrough", own("cache")),
        ("/var/lib/pullthrough/ca", own("ca")),
        ("max_size: 1TiB", "max_size: 1GiB\n  min_free: 0%".to_owned()),
    ] {
        assert!(text.contains(there), "the example has no {there}");
        text = text.replace(there, &here);
    }
    format!("{text}\nlisten: {{proxy: '127.0.0.1:0', admin: '127.0.0.2:0'}}\n")
}

async fn pull(proxy: &Proxy, image: &crate::support::Image) {
    let mut session = proxy.client().session(QUAY).await;
    let tag = session.get("/v2/org/app/manifests/1").await;
    assert_eq!((tag.status.as_u16(), tag.header("docker-content-digest")), (200, &*image.digest.to_string()));
    for digest in &image.layers {
        assert_eq!(session.get(&format!("/v2/org/app/blobs/{digest}")).await.status, 200);
    }
}

#[tokio::test]
async fn the_shipped_example_pulls_by_the_centre_and_the_centre_answers_from_its_cache() {
    let registry = Registry::start("quay.io");
    let image = registry.push_image("org/app", "1", &[layer(300_000, 1), layer(5_000, 2)]);
    let central = Plan::new().registry(&registry, "").start().await;
    for regions in 1..=2 {
        let below = Proxy::of_yaml(|folder| region(&central, folder)).await;
        pull(&below, &image).await;
        for digest in &image.layers {
            assert_eq!(registry.count(&format!("GET /v2/org/app/blobs/{digest}")), 1, "{regions}");
            central.stored(digest).await; // else the next region joins the first one's fill
        }
    }
    let hits = central.metric("pullthrough_requests_total{registry=\"quay.io\",kind=\"blob\",cache=\"hit\"").await;
    assert!(hits >= 2.0, "{hits}");
}

fn below(parent: &Proxy, more: &str) -> Plan {
    let (url, ca_file) = (format!("http://{}", parent.address()), parent.ca_file());
    Plan::new()
        .raw_registry(&format!("quay.io: {{{more}}}"))
        .upstream(&format!("proxy: {{url: '{url}', ca_file: '{}'}}", ca_file.display()))
}

#[tokio::test]
async fn a_parents_ca_is_said_once_where_tls_is_spoken_with_it_too() {
    let registry = Registry::start("quay.io");
    let image = registry.push_image("org/app", "1", &[layer(5_000, 1)]);
    let central = Plan::new().registry(&registry, "").start().await;
    let (port, ca_file) = (central.address().port(), central.ca_file());
    let proxy = format!("proxy: {{url: 'https://localhost:{port}', ca_file: '{}'}}", ca_file.display());
    let region = Plan::new().raw_registry("quay.io: {}").upstream(&proxy).start().await;
    pull(&region, &image).await;
}

#[tokio::test]
async fn users_of_the_parent_are_named_beside_its_url() {
    let registry = Registry::start("quay.io");
    let image = registry.push_image("org/app", "1", &[layer(5_000, 1)]);
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("htpasswd");
    std::fs::write(&users, format!("region-a:{}\n", bcrypt::hash("hunter2", 4).unwrap())).unwrap();
    std::fs::write(folder.path().join("password"), "hunter2\n").unwrap();
    let clients = format!("htpasswd: '{}'", users.display());
    let central = Plan::new().registry(&registry, "").clients(&clients).start().await;
    let (url, ca_file) = (format!("http://{}", central.address()), central.ca_file());
    let login = format!("auth: {{username: region-a, password_file: '{}/password'}}", folder.path().display());
    let proxy = format!("proxy: {{url: '{url}', ca_file: '{}', {login}}}", ca_file.display());
    let region = Plan::new().raw_registry("quay.io: {}").upstream(&proxy).start().await;
    pull(&region, &image).await;
    assert!(registry.requests().iter().all(|seen| !seen.headers.contains_key("proxy-authorization")));
}

#[tokio::test]
async fn two_that_are_each_others_parent_end_in_an_error() {
    let one = Plan::new().raw_registry("quay.io: {}").start().await;
    let other = below(&one, "").start().await;
    one.reload(below(&other, "")).await;
    for proxy in [&one, &other] {
        let digest = pullthrough::oci::Digest::of(pullthrough::oci::Algorithm::Sha256, b"nowhere");
        // A ping leads to what is cached, as in any outage.
        assert_eq!(proxy.client().get(QUAY, "/v2/").await.status, 401);
        for path in ["/v2/org/app/manifests/1", "/v2/org/app/tags/list", &format!("/v2/org/app/blobs/{digest}")] {
            let answer = proxy.client().get(QUAY, path).await;
            let text = String::from_utf8_lossy(answer.bytes()).into_owned();
            assert_eq!(answer.status, 508, "{path}: {text}");
            assert!(text.contains("no two proxies may be each other's parent"), "{path}: {text}");
        }
        let refusal = proxy.client().tunnel("tunnelled.example.com:443").await.unwrap_err();
        assert_eq!(refusal.status, 508, "{}", refusal.text);
        assert!(refusal.text.contains("error=proxy_loop_detected"), "{}", refusal.text);
    }
}

#[tokio::test]
async fn a_parents_word_about_an_outage_is_the_registrys() {
    let mut registry = Registry::start("quay.io");
    let image = registry.push_image("org/app", "1", &[layer(5_000, 1)]);
    let central = Plan::new().registry(&registry, "tags: {fresh_for: 0s, deadline: 2s}").start().await;
    let region = below(&central, "tags: {fresh_for: 0s, deadline: 5s}").start().await;
    pull(&region, &image).await;
    registry.stop();
    // The centre answers from its cache, and so does the region.
    pull(&region, &image).await;
    let unknown = pullthrough::oci::Digest::of(pullthrough::oci::Algorithm::Sha256, b"nowhere");
    let answer = region.client().get(QUAY, &format!("/v2/org/app/blobs/{unknown}")).await;
    let text = String::from_utf8_lossy(answer.bytes()).into_owned();
    assert_eq!(answer.status, 503, "{text}");
    assert!(text.contains("UNAVAILABLE"), "{text}");
}

#[tokio::test]
async fn a_region_pulls_on_without_its_parent() {
    let registry = Registry::start("quay.io");
    let image = registry.push_image("org/app", "1", &[layer(5_000, 1)]);
    let mut central = Plan::new().registry(&registry, "").start().await;
    let dns = Dns::start(Answering::Truly).await; // there is no way past the parent
    let region =
        below(&central, "tags: {fresh_for: 0s}").upstream(&format!("resolvers: '{}'", dns.address())).start().await;
    pull(&region, &image).await;
    central.stop().await;
    pull(&region, &image).await;
}

#[tokio::test]
async fn tunnels_go_through_the_parent_too() {
    let server = Registry::start("tunnelled.example.com");
    let parent = Parent::start().await.knows(&server);
    let proxy = Plan::new().raw_registry("quay.io: {}").upstream(&format!("proxy: '{}'", parent.url())).start().await;
    let client = proxy.client().trusting(&server.ca_file());
    assert_eq!(client.get("tunnelled.example.com:443", "/v2/").await.status, 200);
    let heads = parent.seen();
    assert!(
        heads[0].starts_with("CONNECT tunnelled.example.com:443 ") && heads[0].contains("\r\nVia: 1.1 pullthrough-")
    );
    parent.behave(Manner::Status("*", 403));
    let refusal = proxy.client().tunnel("tunnelled.example.com:443").await.unwrap_err();
    assert_eq!(refusal.status, 403, "{}", refusal.text);
    assert!(refusal.text.contains("the proxy refused it"), "{}", refusal.text);
    let refusal = proxy.client().tunnel("db.local:443").await.unwrap_err();
    assert_eq!(refusal.status, 403, "{}", refusal.text);
    assert_eq!(parent.connections(), 2);
}

//! `pullthrough doctor`, the real program: each way a pull can fail is named, with its cure.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Act, Nowhere, Plan, Proxy, Registry, Tokens};

async fn doctor(proxy: &str, ca: Option<&Path>, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullthrough"));
    command.args(["doctor", "--proxy", proxy]).args(arguments).env_clear().current_dir("/");
    if let Some(ca) = ca {
        command.arg("--ca").arg(ca);
    }
    let done: Output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let mut lines = said.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("FAIL") || line.starts_with("warn") {
            let fix = lines.next().and_then(|next| next.strip_prefix("      fix: "));
            assert!(fix.is_some_and(|fix| !fix.is_empty()), "no fix for {line}: {said}");
        }
    }
    (done.status.code().unwrap(), said)
}

fn url(proxy: &Proxy) -> String {
    format!("http://{}", proxy.address())
}

async fn quay(tokens: bool) -> (Registry, Proxy) {
    let registry = Registry::start("quay.io");
    registry.push_image("org/app", "1", &[vec![1; 100]]);
    if tokens {
        let tokens = Tokens::new().public("org/*");
        registry.require_token(&tokens, "https://quay.io/token");
        registry.serve_tokens(&tokens);
    }
    let proxy = Plan::new().registry(&registry, "").start().await;
    (registry, proxy)
}

#[tokio::test]
async fn a_way_that_works_is_told_step_by_step() {
    for tokens in [false, true] {
        let (_registry, proxy) = quay(tokens).await;
        let (status, said) = doctor(&url(&proxy), Some(&proxy.ca_file()), &["quay.io/org/app:1"]).await;
        assert_eq!(status, 0, "{said}");
        for step in
            ["ok    name: ", "ok    proxy: ready", "ok    trust: ", "intercepted", "manifest: sha256:", "pullthrough; "]
        {
            assert!(said.contains(step), "{step}: {said}");
        }
        assert!(!said.contains("FAIL"), "{said}");
    }
    let (_registry, proxy) = quay(false).await;
    let (status, said) = doctor(&url(&proxy), Some(&proxy.ca_file()), &["quay.io/org/app:1", "--json"]).await;
    let steps: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(status == 0 && steps.as_array().unwrap().iter().all(|step| step["ok"] == true), "{said}");
}

#[tokio::test]
async fn each_failure_has_its_cure() {
    let (_registry, proxy) = quay(false).await;
    let (url, ca) = (url(&proxy), proxy.ca_file());
    let image = "quay.io/org/app:1";
    let nowhere = Nowhere::new();
    let nobody = format!("http://{}", nowhere.address());
    let table: [(&str, Option<&Path>, &str, &str, &str); 5] = [
        ("http://no-such-host.invalid:3128", Some(&ca), image, "FAIL  name: ", "DNS"),
        (&nobody, Some(&ca), image, "FAIL  proxy: ", "systemctl status pullthrough"),
        (&url, None, image, "FAIL  trust: ", "pullthrough trust install"),
        (&url, Some(&ca), "quay.io/org/app:none", "FAIL  manifest: 404", "the tag"),
        (&url, Some(&ca), "127.0.0.1:1/org/app:1", "FAIL  connect: 403", "tunnel.allow"),
    ];
    for (proxy, ca, image, failure, cure) in table {
        let (status, said) = doctor(proxy, ca, &[image]).await;
        assert!(status == 1 && said.contains(failure) && said.contains(cure), "{said}");
    }
    let other = Registry::plain("other.example.com");
    let (status, said) = doctor(&format!("http://{}", other.address()), None, &[image]).await;
    assert!(status == 1 && said.contains("FAIL  proxy: 404") && said.contains("is this pullthrough?"), "{said}");
}

#[tokio::test]
async fn each_refusal_of_a_registry_has_its_cure() {
    let table: [(&str, Act, &str, &str); 6] = [
        ("*/manifests/*", Act::Status(401), "FAIL  manifest: 401", "docker login on this machine"),
        ("*/manifests/*", Act::Status(403), "FAIL  manifest: 403", "docker login on this machine"),
        ("*/manifests/*", Act::Status(429), "FAIL  manifest: 429", "the registry's rate limit is reached"),
        ("*/manifests/*", Act::Status(500), "FAIL  manifest: 50", "the proxy"),
        ("*", Act::Status(503), "FAIL  manifest: 503", "the proxy cannot reach the registry"),
        ("GET /v2/", Act::Status(404), "FAIL  registry: 404", "check the name"),
    ];
    for (pattern, act, failure, cure) in table {
        let (registry, proxy) = quay(false).await;
        registry.script(pattern, act);
        let (status, said) = doctor(&url(&proxy), Some(&proxy.ca_file()), &["quay.io/org/app:1"]).await;
        assert!(status == 1 && said.contains(failure) && said.contains(cure), "{pattern}: {said}");
    }
    let registry = Registry::start("quay.io");
    registry.push_image("org/app", "1", &[]);
    let tokens = Tokens::new().user("owner", "secret", &["org/*"]);
    registry.require_token(&tokens, "https://quay.io/token");
    registry.serve_tokens(&tokens);
    let proxy = Plan::new().registry(&registry, "").start().await;
    let (status, said) = doctor(&url(&proxy), Some(&proxy.ca_file()), &["quay.io/org/app:1"]).await;
    assert!(status == 1 && said.contains("FAIL  ") && said.contains("docker login"), "{said}");
}

#[tokio::test]
async fn each_refusal_of_the_proxy_has_its_cure() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").clients("allow: [10.0.0.0/8]").start().await;
    let (status, said) = doctor(&url(&proxy), Some(&proxy.ca_file()), &[]).await;
    assert!(status == 1 && said.contains("FAIL  connect: 403"), "{said}");
    assert!(said.contains("fix: add this machine's network to clients.allow"), "{said}");

    let nowhere = Nowhere::new();
    let nobody = nowhere.address();
    let tunnel = format!("allow: [127.0.0.1], ports: [{}]", nobody.port());
    let proxy = Plan::new().registry(&registry, "").tunnel(&tunnel).start().await;
    let (status, said) = doctor(&url(&proxy), Some(&proxy.ca_file()), &[&format!("{nobody}/org/app:1")]).await;
    assert!(status == 1 && said.contains("FAIL  connect: 50") && said.contains("the proxy's log"), "{said}");
}

#[tokio::test]
async fn a_proxy_that_is_not_ready_is_a_warning_since_pulls_go_on() {
    let (_registry, proxy) = quay(false).await;
    let staged = proxy.folder().join("cache/fills");
    std::fs::remove_dir_all(&staged).unwrap();
    std::fs::write(&staged, "not a folder").unwrap();
    let (status, said) = doctor(&url(&proxy), Some(&proxy.ca_file()), &["quay.io/org/app:1"]).await;
    assert!(status == 0 && said.contains("warn  proxy: not ready: "), "{said}");
    assert!(said.contains("fix: fix this on the proxy's machine") && said.contains("ok    manifest: "), "{said}");
    let (_, said) = doctor(&url(&proxy), Some(&proxy.ca_file()), &["quay.io/org/app:1", "--json"]).await;
    let steps: serde_json::Value = serde_json::from_str(&said).unwrap();
    let proxy = steps.as_array().unwrap().iter().find(|step| step["step"] == "proxy").unwrap();
    assert!(proxy["ok"] == true && proxy["warning"] == true && proxy["cure"].is_string(), "{said}");
}

#[tokio::test]
async fn an_outage_is_told_and_what_is_not_cached_fails_at_its_step() {
    let (mut registry, proxy) = quay(true).await;
    let look = async || doctor(&url(&proxy), Some(&proxy.ca_file()), &["quay.io/org/app:1"]).await;
    let (status, said) = look().await;
    assert!(status == 0 && !said.contains("unreachable"), "{said}");
    registry.stop();
    let (status, said) = look().await;
    assert!(said.contains("warn  registry: unreachable; the proxy answers in its place"), "{said}");
    assert!(said.contains("ok    manifest: sha256:") && said.contains("ok    configuration: sha256:"), "{said}");
    assert!(status == 1 && said.contains("FAIL  layers: ") && said.contains("number 1 of 1: 503"), "{said}");
}

#[tokio::test]
async fn an_outage_of_a_registry_without_tokens_is_not_called_ok_though_all_is_cached() {
    let (mut registry, proxy) = quay(false).await;
    let image = registry.push_image("org/app", "1", &[vec![1; 100]]);
    let look = async || doctor(&url(&proxy), Some(&proxy.ca_file()), &["quay.io/org/app:1"]).await;
    assert_eq!(look().await.0, 0);
    let layer = format!("/v2/org/app/blobs/{}", image.layers[0]);
    proxy.client().session("quay.io:443").await.get(&layer).await.bytes();
    proxy.stored(&image.layers[0]).await;
    registry.stop();
    let (status, said) = look().await;
    assert!(said.contains("warn  registry: unreachable") && !said.contains("ok    registry"), "{said}");
    assert!(status == 0 && said.contains("ok    layers: 1 can be had"), "{said}");
}

#[tokio::test]
async fn the_step_that_fails_is_the_one_that_a_pull_fails_at() {
    let (registry, proxy) = quay(true).await;
    let image = registry.push_image("org/app", "1", &[vec![1; 100], vec![2; 100]]);
    let look = async || doctor(&url(&proxy), Some(&proxy.ca_file()), &["quay.io/org/app:1"]).await;
    let path = |digest: &pullthrough::oci::Digest| format!("*/blobs/{digest}");
    let held = registry.script(&path(&image.layers[1]), Act::Status(500));
    let (status, said) = look().await;
    assert!(status == 1 && said.contains("FAIL  layers: ") && said.contains("number 2 of 2"), "{said}");
    registry.unscript(held);
    registry.script(&path(&image.config), Act::Redirect { status: 307, location: "https://127.0.0.1:9/x".into() });
    let proxy = Plan::new().registry(&registry, "").start().await;
    let (status, said) = doctor(&url(&proxy), Some(&proxy.ca_file()), &["quay.io/org/app:1"]).await;
    assert!(status == 1 && said.contains("FAIL  configuration: 50"), "{said}");
}

#[tokio::test]
async fn an_index_is_followed_to_a_platform() {
    let (registry, proxy) = quay(true).await;
    let (amd, arm) = ("amd64", "arm64");
    let images = [amd, arm].map(|name| registry.push_image_for(name, "org/multi", name, &[vec![3; 100]]));
    registry.push_index("org/multi", "1", &[&images[0], &images[1]]);
    let (status, said) = doctor(&url(&proxy), Some(&proxy.ca_file()), &["quay.io/org/multi:1"]).await;
    assert!(status == 0 && said.contains("ok    platform linux/") && said.contains("ok    layers: 1"), "{said}");
}

#[tokio::test]
async fn a_registry_that_a_sealed_ca_does_not_cover_is_no_matter_of_the_trust_store() {
    let (registry, other) = (Registry::start("quay.io"), Registry::start("registry.example.com"));
    other.push_image("org/app", "1", &[vec![1; 100]]);
    let proxy = Proxy::of_yaml(|folder| {
        let covered = folder.join("covered.yaml");
        std::fs::write(&covered, Plan::new().registry(&registry, "").yaml(folder)).unwrap();
        let mut init = Command::new(env!("CARGO_BIN_EXE_pullthrough"));
        assert!(init.args(["ca", "init", "--config"]).arg(&covered).env_clear().status().unwrap().success());
        std::fs::remove_file(folder.join("ca/ca.key")).unwrap(); // sealed
        let plan = Plan::new().registry(&registry, "").registry(&other, "").host("registry.example.com", &other);
        plan.yaml(folder)
    })
    .await;
    let (status, said) = doctor(&url(&proxy), Some(&proxy.ca_file()), &["registry.example.com/org/app:1"]).await;
    assert!(status == 1 && said.contains("FAIL  trust: registry.example.com"), "{said}");
    assert!(said.contains("sealed CA does not cover") && said.contains("pullthrough check"), "{said}");
    assert!(!said.contains("pullthrough trust install"), "{said}");
    let (status, said) = doctor(&url(&proxy), Some(&other.ca_file()), &["registry.example.com/org/app:1"]).await;
    assert!(status == 0 && said.contains("warn  trust: registry.example.com"), "{said}");
    assert!(said.contains("ok    layers: 1 can be had") && said.contains("not through the cache"), "{said}");
}

#[tokio::test]
async fn a_password_for_the_proxy_is_asked_for_and_not_shown() {
    let registry = Registry::start("quay.io");
    registry.push_image("org/app", "1", &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("htpasswd");
    std::fs::write(&file, format!("ci:{}\n", bcrypt::hash("p@ss", 4).unwrap())).unwrap();
    let clients = format!("htpasswd: '{}'", file.display());
    let proxy = Plan::new().registry(&registry, "").clients(&clients).start().await;
    let (status, said) = doctor(&url(&proxy), Some(&proxy.ca_file()), &["quay.io/org/app:1"]).await;
    assert!(status == 1 && said.contains("FAIL  connect: 407") && said.contains("user:password@"), "{said}");
    let with = format!("http://ci:p%40ss@{}", proxy.address());
    let (status, said) = doctor(&with, Some(&proxy.ca_file()), &["quay.io/org/app:1"]).await;
    assert!(status == 0 && !said.contains("p%40ss") && !said.contains("p@ss"), "{said}");
}

#[tokio::test]
async fn without_an_image_a_registry_is_tested_that_the_proxy_has() {
    let (_registry, proxy) = quay(false).await;
    let (status, said) = doctor(&url(&proxy), Some(&proxy.ca_file()), &[]).await;
    assert!(status == 0 && said.contains("CONNECT quay.io:443 is allowed") && !said.contains("docker.io"), "{said}");
}

#[tokio::test]
async fn a_throttle_says_who_throttles() {
    let (registry, proxy) = quay(false).await;
    registry.script("*/manifests/*", Act::Status(429));
    let (status, said) = doctor(&url(&proxy), Some(&proxy.ca_file()), &["quay.io/org/app:1"]).await;
    assert!(status == 1 && said.contains("quay.io") && said.contains("rate limit is reached: wait"), "{said}");
}

/// The doctor on a machine whose clients' files are below `root`, or with a mirror's address.
async fn of_mirrors(arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullthrough"));
    command.arg("doctor").args(arguments).env_clear().current_dir("/");
    let done: Output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    (done.status.code().unwrap(), said)
}

#[tokio::test]
async fn a_mirror_that_works_is_told_step_by_step() {
    for tokens in [false, true] {
        let (_registry, proxy) = quay(tokens).await;
        let (status, said) = of_mirrors(&["quay.io/org/app:1", "--mirror", &url(&proxy)]).await;
        assert_eq!(status, 0, "{said}");
        for step in ["mirror, way: ", "mirror, /v2/: answers as a registry", "mirror, image: sha256:", "pullthrough; "]
        {
            assert!(said.contains(step) && !said.contains("FAIL"), "{step}: {said}");
        }
    }
}

#[tokio::test]
async fn a_mirror_that_its_client_passes_over_in_silence_is_named_with_the_cure() {
    let (registry, proxy) = quay(false).await;
    let other = Registry::plain("other.example.com");
    let nowhere = Nowhere::new();
    let at = |address: std::net::SocketAddr| format!("http://{address}");
    let (working, dead, stranger) = (url(&proxy), at(nowhere.address()), at(other.address()));
    let hosts = |url: &str| format!("server = \"https://quay.io\"\n\n[host.\"{url}\"]\n  capabilities = [\"pull\"]\n");
    let table = [
        (
            "etc/containerd/certs.d/quay.io/hosts.toml",
            hosts(&working),
            "quay.io/org/app:1",
            "ok    containerd mirror, image",
        ),
        (
            "etc/containerd/certs.d/_default/hosts.toml",
            hosts(&dead),
            "quay.io/org/app:1",
            "FAIL  containerd mirror, way",
        ),
        ("etc/containerd/certs.d/quay.io/hosts.toml", hosts(&stranger), "quay.io/org/app:1", "FAIL  containerd mirror"),
        (
            "etc/containerd/certs.d/quay.io/hosts.toml",
            hosts(&working.replace("http:", "https:")),
            "quay.io/org/app:1",
            "FAIL  containerd mirror, way: TLS with",
        ),
        (
            "etc/docker/daemon.json",
            format!("{{\"registry-mirrors\": [\"{dead}\"]}}"),
            "docker.io/library/alpine:3",
            "FAIL  Docker mirror, way",
        ),
        (
            "etc/containers/registries.conf.d/50-x.conf",
            format!(
                "[[registry]]\nprefix = \"quay.io\"\n[[registry.mirror]]\nlocation = \"{}/quay.io\"\ninsecure = true\n",
                proxy.address()
            ),
            "quay.io/org/app:1",
            "ok    Podman, Skopeo, Buildah, CRI-O mirror, image",
        ),
        (
            "etc/containerd/certs.d/quay.io/hosts.toml",
            hosts(&working),
            "quay.io/org/app:none",
            "FAIL  containerd mirror, image: 404",
        ),
    ];
    for (path, text, image, expected) in table {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        let (status, said) = of_mirrors(&[image, "--root", root.path().to_str().unwrap()]).await;
        assert!(said.contains(expected), "{expected}: {said}");
        assert_eq!(status, i32::from(expected.starts_with("FAIL")), "{said}");
        assert_eq!(status == 1, said.contains("and says nothing"), "{said}");
    }
    drop(registry);
}

/// The doctor with what a client's login has kept for the mirror, or without.
async fn logged_in(auths: Option<&str>, arguments: &[&str]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), auths.unwrap_or("{}")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullthrough"));
    command.arg("doctor").args(arguments).env_clear().env("DOCKER_CONFIG", folder.path()).current_dir("/");
    let done: Output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    (done.status.code().unwrap(), said)
}

#[tokio::test]
async fn a_mirrors_password_is_asked_for_and_taken_from_a_login_or_from_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("htpasswd");
    std::fs::write(&file, format!("ci:{}\n", bcrypt::hash("door-secret", 4).unwrap())).unwrap();
    let registry = Registry::start("quay.io");
    registry.push_image("org/app", "1", &[vec![1; 100]]);
    let clients = format!("htpasswd: '{}'", file.display());
    let proxy = Plan::new().registry(&registry, "").clients(&clients).mirror("default: quay.io").start().await;
    let (mirror, image) = (proxy.mirror(), "quay.io/org/app:1");
    let own_image = format!("{mirror}/org/app:1");
    let url = format!("http://{mirror}");
    let with = |password: &str| format!("http://ci:{password}@{mirror}");
    let auths = |host: &str| format!("{{\"auths\": {{\"{host}\": {{\"auth\": \"Y2k6ZG9vci1zZWNyZXQ=\"}}}}}}");
    for (kept, url, image, status, words) in [
        (None, with("door-secret"), image, 0, "knows this machine's user"),
        (None, with("wrong"), image, 1, "FAIL  the mirror, /v2/: 401"),
        (None, url.clone(), image, 1, "--mirror http://USER:PASSWORD@"),
        (Some(auths("127.0.0.9:1")), url.clone(), &own_image, 1, "--mirror http://USER:PASSWORD@"),
        (Some(auths(&mirror.to_string())), url.clone(), &own_image, 0, "ok    the mirror, image: sha256:"),
    ] {
        let (got, said) = logged_in(kept.as_deref(), &[image, "--mirror", &url]).await;
        assert!(got == status && said.contains(words) && !said.contains("door-secret"), "{words}: {said}");
        assert!(status == 0 || !said.contains("run docker login on this machine"), "{said}");
    }
}

#[tokio::test]
async fn the_cures_of_a_mirror_are_its_own() {
    let registry = Registry::start("quay.io");
    registry.push_image("org/app", "1", &[vec![1; 100]]);
    let tokens = Tokens::new().user("owner", "secret", &["org/*"]);
    registry.require_token(&tokens, "https://quay.io/token");
    registry.serve_tokens(&tokens);
    let proxy = Plan::new().registry(&registry, "").mirror("names: {q.example.org: quay.io}").start().await;
    let url = format!("http://{}", proxy.mirror());
    for (image, words) in [
        ("quay.io/org/app:1", "give it a host of its own in mirror.names"),
        ("ghcr.io/org/app:1", "add the registry to registries in the mirror's configuration"),
        ("quay.io/org/app:1", "clients pull from the registry itself, and say nothing"),
    ] {
        let (status, said) = of_mirrors(&[image, "--mirror", &url]).await;
        assert!(
            status == 1 && said.contains(words) && !said.contains("docker login on this machine"),
            "{words}: {said}"
        );
    }
    let image = format!("{}/quay.io/org/app:1", proxy.mirror());
    let (status, said) = of_mirrors(&[&image, "--mirror", &url]).await;
    assert!(status == 1 && said.contains("give it a host") && said.contains("pulls by this name fail"), "{said}");
    // Without an image, what Docker asks its mirrors for.
    let (status, said) = of_mirrors(&["--mirror", &url]).await;
    assert!(
        status == 0 && said.contains("warn  the mirror, registry: docker.io is no registry of this mirror"),
        "{said}"
    );
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("etc/docker")).unwrap();
    let daemon = format!("{{\"registry-mirrors\": [\"{url}\"]}}");
    std::fs::write(root.path().join("etc/docker/daemon.json"), daemon).unwrap();
    let (status, said) = of_mirrors(&["--root", root.path().to_str().unwrap()]).await;
    assert!(
        status == 1 && said.contains("FAIL  Docker mirror, registry") && said.contains("set mirror.default"),
        "{said}"
    );
    assert!(registry.requests().iter().all(|request| !request.path.contains("hello-world")), "nobody is asked");
}

//! docker-registry-proxy's image is swapped for ours by the page's own commands, with the real Docker Engine.

use std::time::Duration;

use crate::clean::Machine;
use crate::image::Engine;
use crate::lab::{Lab, eventually};

const MIGRATE: &str = include_str!("../../docs/migrate.md");
/// How docker-registry-proxy makes its CA: a key of RSA that is encrypted with a word that everybody knows.
const ITS_CA: &str = "mkdir --parents /srv/proxy/docker_mirror_certs; cd /srv/proxy/docker_mirror_certs
    openssl genrsa -des3 -passout pass:foobar -out ca.key 2048 2>/dev/null
    openssl req -new -x509 -days 1300 -sha256 -key ca.key -passin pass:foobar -out ca.crt -subj /CN=proxy.example \\
      -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
    echo 01 >ca.srl; chmod 644 ca.key";

#[test]
fn the_image_of_docker_registry_proxy_is_swapped_by_the_pages_commands() {
    let lab = Lab::new();
    let machine = Machine::boot(&lab);
    Engine::with_image(&lab).save(&machine.shared.join("image.tar"));
    machine.must(ITS_CA);
    machine
        .must("docker load --quiet --input /shared/image.tar; docker create --name docker_registry_proxy pullthrough");
    let swap = MIGRATE.split("\n```").filter_map(|part| part.strip_prefix("sh\n"));
    let swap = { swap }.find(|block| block.contains("docker run")).expect("the page swaps containers");
    machine.must(&format!("cd /srv/proxy; {swap}"));

    let log = || machine.must("docker logs pullthrough 2>&1");
    let serves = || log().to_lowercase().contains("sha-256") || log().contains("pullthrough: ");
    eventually("it has said how it is", Duration::from_secs(60), serves);
    let root = machine.must("openssl x509 -in /srv/proxy/docker_mirror_certs/ca.crt -noout -fingerprint -sha256");
    let (_, fingerprint) = root.trim().split_once('=').unwrap();
    assert!(log().contains(fingerprint), "nodes would not trust it: {}", log());
    let shown = machine.must("docker exec pullthrough pullthrough ca show");
    assert!(shown.contains(fingerprint) && shown.contains("quay.io") && !shown.contains("ghcr.io"), "{shown}");
    let stats = machine.must("docker exec pullthrough pullthrough cache stats --json");
    assert!(stats.contains("/docker_mirror_cache"), "{stats}");
    machine.must("test -f /srv/proxy/pullthrough_cache/oci-layout");
    machine.must("docker rm --force pullthrough");
}

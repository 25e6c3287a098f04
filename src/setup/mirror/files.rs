//! Writes the mirror files of clients that have one file for all registries.

use std::fmt::Write as _;

use super::MirrorUrl;
use crate::setup::Written;

/// The first line of a file of ours.
const OURS: &str = "# pullthrough, the cache for container images\n";

/// What a client does without its mirror.
pub(super) const FALLBACK: &str =
    "While the mirror is down, pulls go to the registry itself, and nothing says so: pullthrough doctor does";

/// A file with this text.
pub(super) fn written(path: &str, text: String) -> Written {
    Written { path: path.to_owned(), text, only_with: Vec::new() }
}

/// Where the CA goes, for a mirror that has one.
pub(super) fn ca_at(mirror: &MirrorUrl, path: String) -> Vec<String> {
    if mirror.is_tls() { vec![path] } else { Vec::new() }
}

/// `daemon.json`: what is merged into it. Docker asks a mirror for Docker Hub only. The host counts as insecure where it has no
/// TLS, so that `docker pull MIRROR/quay.io/org/app` works, too. Printed as a merge prints it.
pub(super) fn daemon_json(mirror: &MirrorUrl) -> String {
    let insecure = if mirror.is_tls() {
        String::new()
    } else {
        format!(",\n  \"insecure-registries\": [\n    \"{}\"\n  ]", mirror.authority())
    };
    format!("{{\n  \"registry-mirrors\": [\n    \"{}\"\n  ]{insecure}\n}}\n", mirror.base())
}

/// `registries.conf.d`, of Podman, Skopeo, Buildah and CRI-O. They send no `ns`, so each of the `registries` comes with the
/// mirror's host and the path there that stands for it.
pub(super) fn registries_conf(mirror: &MirrorUrl, registries: &[(&str, String)]) -> String {
    let mut text = OURS.to_owned();
    for (name, location) in registries {
        let insecure = if mirror.is_tls() { "" } else { "insecure = true\n" };
        let _ = write!(
            text,
            "\n[[registry]]\nprefix = \"{name}\"\nlocation = \"{name}\"\n\n[[registry.mirror]]\n\
             location = \"{location}\"\n{insecure}"
        );
    }
    text
}

/// `registries.yaml`, of k3s and RKE2, with the CA at `ca`.
pub(super) fn registries_yaml(mirror: &MirrorUrl, registries: &[&str], ca: &str) -> String {
    let endpoint = if mirror.has_path() { mirror.api() } else { mirror.base() };
    let mut text = format!("{OURS}mirrors:\n");
    for name in registries {
        let _ = writeln!(text, "  \"{name}\":\n    endpoint:\n      - \"{endpoint}\"");
    }
    if mirror.is_tls() {
        let _ = writeln!(text, "configs:\n  \"{}\":\n    tls:\n      ca_file: {ca}", mirror.authority());
    }
    text
}

/// `buildkitd.toml`, with the CA at `ca`.
pub(super) fn buildkitd_toml(mirror: &MirrorUrl, registries: &[&str], ca: &str) -> String {
    let mut text = String::new();
    for name in registries {
        let _ = writeln!(text, "[registry.\"{name}\"]\n  mirrors = [\"{}\"]", mirror.location());
    }
    let how = if mirror.is_tls() { format!("ca = [\"{ca}\"]") } else { "http = true".to_owned() };
    let _ = writeln!(text, "[registry.\"{}\"]\n  {how}", mirror.authority());
    text
}

/// The configuration of a kind cluster whose nodes read the folder `certs.d` beside it.
pub(super) fn kind_yaml() -> String {
    format!(
        "{OURS}kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\ncontainerdConfigPatches:\n  - |-\n    \
         [plugins.\"io.containerd.grpc.v1.cri\".registry]\n      config_path = \"/etc/containerd/certs.d\"\nnodes:\n  \
         - role: control-plane\n    extraMounts:\n      - hostPath: ./certs.d\n        \
         containerPath: /etc/containerd/certs.d\n        readOnly: true\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_what_its_client_reads() {
        let (plain, tls): (MirrorUrl, MirrorUrl) =
            ("http://m:5000".parse().unwrap(), "https://m:5000".parse().unwrap());
        let table = [
            (
                daemon_json(&plain),
                "{\n  \"registry-mirrors\": [\n    \"http://m:5000\"\n  ],\n  \"insecure-registries\": [\n    \"m:5000\"\n  ]\n}\n",
            ),
            (daemon_json(&tls), "{\n  \"registry-mirrors\": [\n    \"https://m:5000\"\n  ]\n}\n"),
            (
                registries_conf(&plain, &[("docker.io", "m:5000/docker.io".to_owned())]),
                "# pullthrough, the cache for container images\n\n[[registry]]\nprefix = \"docker.io\"\n\
                 location = \"docker.io\"\n\n[[registry.mirror]]\nlocation = \"m:5000/docker.io\"\ninsecure = true\n",
            ),
            (
                registries_conf(&"https://m/v2/x".parse().unwrap(), &[("quay.io", "m/x/quay.io".to_owned())]),
                "# pullthrough, the cache for container images\n\n[[registry]]\nprefix = \"quay.io\"\n\
                 location = \"quay.io\"\n\n[[registry.mirror]]\nlocation = \"m/x/quay.io\"\n",
            ),
            (
                registries_yaml(&tls, &["*"], "/c.crt"),
                "# pullthrough, the cache for container images\nmirrors:\n  \"*\":\n    endpoint:\n      \
                 - \"https://m:5000\"\nconfigs:\n  \"m:5000\":\n    tls:\n      ca_file: /c.crt\n",
            ),
            (
                buildkitd_toml(&plain, &["docker.io"], "/c.crt"),
                "[registry.\"docker.io\"]\n  mirrors = [\"m:5000\"]\n[registry.\"m:5000\"]\n  http = true\n",
            ),
            (
                buildkitd_toml(&tls, &["quay.io"], "/c.crt"),
                "[registry.\"quay.io\"]\n  mirrors = [\"m:5000\"]\n[registry.\"m:5000\"]\n  ca = [\"/c.crt\"]\n",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn what_is_json_or_yaml_parses_as_such() {
        let mirror: MirrorUrl = "https://m:5000/v2/hub".parse().unwrap();
        let json: serde_json::Value = serde_json::from_str(&daemon_json(&mirror)).unwrap();
        assert!(json["registry-mirrors"].is_array());
        let yaml: serde_yaml::Value =
            serde_yaml::from_str(&registries_yaml(&mirror, &["docker.io", "*"], "/c")).unwrap();
        assert_eq!(yaml["mirrors"]["*"]["endpoint"][0], "https://m:5000/v2/hub");
        assert_eq!(yaml["configs"]["m:5000"]["tls"]["ca_file"], "/c");
        let yaml: serde_yaml::Value = serde_yaml::from_str(&kind_yaml()).unwrap();
        assert_eq!(yaml["nodes"][0]["extraMounts"][0]["hostPath"], "./certs.d");
    }
}

//! Finds the mirrors that this machine's clients are told to use for a registry.

use std::fs;
use std::path::{Path, PathBuf};

use super::files::tables;
use crate::setup::MirrorUrl;

/// Those that read registries.conf.
pub(super) const PODMAN: &str = "Podman, Skopeo, Buildah, CRI-O";
/// No client: a person names the mirror.
pub(super) const THE: &str = "the";

/// How a client names the registry to its mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MirrorNaming {
    /// Not at all: the mirror is for one registry.
    Silent,
    /// By `ns`.
    Namespace,
    /// The image's name is the mirror's: nothing else is asked where it fails.
    Own,
}

/// A mirror, and the client that is to use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundMirror {
    /// The client, for people.
    pub(super) client: &'static str,
    /// The file that says so.
    pub(super) file: PathBuf,
    /// Where it is; the path has what follows `/v2/`.
    pub(super) url: MirrorUrl,
    /// The CAs that the client trusts for it, besides the system's.
    pub(super) trusted: Vec<PathBuf>,
    pub(super) naming: MirrorNaming,
}

/// The mirror that an image's own name is of, with the CAs that clients trust for it.
pub(super) fn named_by_image(url: MirrorUrl, ca: Option<&Path>) -> FoundMirror {
    let folders = ["/etc/docker/certs.d", "/etc/containers/certs.d"];
    let trusted = folders.iter().flat_map(|folder| certificates(Path::new(folder), &url));
    let trusted = trusted.chain(ca.map(Path::to_owned)).collect();
    FoundMirror { client: THE, file: "the image's name".into(), url, trusted, naming: MirrorNaming::Own }
}

/// The mirrors for the registry of this name on the machine below `root`.
pub(super) fn mirrors(root: &Path, registry: &str) -> Vec<FoundMirror> {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let mut found = Vec::new();
    if registry == "docker.io" {
        found.extend(docker(&at("/etc/docker/daemon.json"), &at("/etc/docker/certs.d")));
    }
    for (client, folder) in
        [("containerd", "/etc/containerd/certs.d"), ("MicroK8s", "/var/snap/microk8s/current/args/certs.d")]
    {
        found.extend(containerd(client, root, &at(folder), registry));
    }
    for (client, file) in [("k3s", "/etc/rancher/k3s/registries.yaml"), ("RKE2", "/etc/rancher/rke2/registries.yaml")] {
        found.extend(rancher(client, root, &at(file), registry).unwrap_or_default());
    }
    found.extend(containers(root, registry));
    found.extend(buildkit(root, &at("/etc/buildkit/buildkitd.toml"), registry));
    found
}

/// The certificates in the folder of a host.
fn certificates(folder: &Path, mirror: &MirrorUrl) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join(mirror.authority())).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "crt")).collect()
}

/// A path that a file names, in this root.
fn inside(root: &Path, base: &Path, path: &str) -> PathBuf {
    if path.starts_with('/') { root.join(path.trim_start_matches('/')) } else { base.join(path) }
}

fn docker(file: &Path, certs: &Path) -> Vec<FoundMirror> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let listed = json.get("registry-mirrors").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
    let urls = listed.iter().filter_map(|url| url.as_str()?.parse::<MirrorUrl>().ok());
    let found = |url: MirrorUrl| FoundMirror {
        client: "Docker",
        file: file.to_owned(),
        trusted: certificates(certs, &url),
        url,
        naming: MirrorNaming::Silent,
    };
    urls.map(found).collect()
}

fn containerd(client: &'static str, root: &Path, folder: &Path, registry: &str) -> Vec<FoundMirror> {
    let files = [registry, "_default"].map(|name| folder.join(name).join("hosts.toml"));
    let Some(file) = files.into_iter().find(|file| file.is_file()) else { return Vec::new() };
    let base = file.parent().unwrap_or(folder).to_owned();
    let tables = tables(&fs::read_to_string(&file).unwrap_or_default());
    let hosts = tables.iter().filter_map(|table| Some((table.name.strip_prefix("host.")?.parse().ok()?, table)));
    let mirror = |(url, table): (MirrorUrl, &super::files::Table)| FoundMirror {
        client,
        file: file.clone(),
        url,
        trusted: table.texts("ca").iter().map(|path| inside(root, &base, path)).collect(),
        naming: MirrorNaming::Namespace,
    };
    // The registry's own host is no mirror.
    let is_own = |url: &MirrorUrl| url.authority() == registry || url.authority() == "registry-1.docker.io";
    hosts.filter(|(url, _)| !is_own(url)).map(mirror).collect()
}

fn rancher(client: &'static str, root: &Path, file: &Path, registry: &str) -> Option<Vec<FoundMirror>> {
    let yaml: serde_yaml::Value = serde_yaml::from_str(&fs::read_to_string(file).ok()?).ok()?;
    let mirrors = yaml.get("mirrors")?;
    let endpoints = mirrors.get(registry).or_else(|| mirrors.get("*"))?.get("endpoint")?.as_sequence()?;
    let urls = endpoints.iter().filter_map(|url| url.as_str()?.parse::<MirrorUrl>().ok());
    let trusted = |url: &MirrorUrl| {
        let path = yaml.get("configs")?.get(url.authority())?.get("tls")?.get("ca_file")?.as_str()?;
        Some(inside(root, root, path))
    };
    let found = |url: MirrorUrl| FoundMirror {
        client,
        file: file.to_owned(),
        trusted: trusted(&url).into_iter().collect(),
        url,
        naming: MirrorNaming::Namespace,
    };
    Some(urls.map(found).collect())
}

/// A later file of the folder replaces what an earlier one says of a registry.
fn containers(root: &Path, registry: &str) -> Vec<FoundMirror> {
    let folder = root.join("etc/containers");
    let entries = fs::read_dir(folder.join("registries.conf.d")).into_iter().flatten().filter_map(Result::ok);
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "conf"));
    files.sort();
    files.insert(0, folder.join("registries.conf"));
    let mut found = Vec::new();
    for file in files {
        let mut is_ours = false;
        for table in tables(&fs::read_to_string(&file).unwrap_or_default()) {
            if table.name == "registry" {
                is_ours = table.text("prefix").or_else(|| table.text("location")) == Some(registry);
                if is_ours {
                    found.clear();
                }
            }
            let Some(location) = table.text("location").filter(|_| is_ours && table.name == "registry.mirror") else {
                continue;
            };
            let scheme = if table.is_set("insecure") { "http" } else { "https" };
            let (host, path) = location
                .split_once('/')
                .map_or((location, String::new()), |(host, path)| (host, format!("/v2/{path}")));
            let Ok(url) = format!("{scheme}://{host}{path}").parse::<MirrorUrl>() else { continue };
            let trusted = ["etc/containers/certs.d", "etc/docker/certs.d"].map(|folder| root.join(folder));
            found.push(FoundMirror {
                client: PODMAN,
                file: file.clone(),
                trusted: trusted.iter().flat_map(|folder| certificates(folder, &url)).collect(),
                url,
                naming: MirrorNaming::Silent,
            });
        }
    }
    found
}

fn buildkit(root: &Path, file: &Path, registry: &str) -> Vec<FoundMirror> {
    let tables = tables(&fs::read_to_string(file).unwrap_or_default());
    let of = |name: &str| tables.iter().find(|table| table.name == format!("registry.{name}"));
    let Some(listed) = of(registry) else { return Vec::new() };
    let found = |location: &String| {
        let (host, path) = location
            .split_once('/')
            .map_or((location.as_str(), String::new()), |(host, path)| (host, format!("/v2/{path}")));
        let how = of(host);
        let scheme = if how.is_some_and(|how| how.is_set("http")) { "http" } else { "https" };
        Some(FoundMirror {
            client: "BuildKit",
            file: file.to_owned(),
            url: format!("{scheme}://{host}{path}").parse().ok()?,
            trusted: how.iter().flat_map(|how| how.texts("ca")).map(|path| inside(root, root, path)).collect(),
            naming: MirrorNaming::Namespace,
        })
    };
    listed.texts("mirrors").iter().filter_map(found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::{ClientKind, mirror_plan};

    #[test]
    fn what_setup_writes_is_found_again() {
        let named = ["docker.io".to_owned(), "quay.io".to_owned()];
        for url in ["http://m:5000", "https://m:5000"] {
            for client in [
                ClientKind::Docker,
                ClientKind::Containerd,
                ClientKind::Microk8s,
                ClientKind::K3s,
                ClientKind::Rke2,
                ClientKind::Podman,
                ClientKind::Buildkit,
            ] {
                let root = tempfile::tempdir().unwrap();
                let plan = mirror_plan(client, &url.parse().unwrap(), &named, &[]).unwrap();
                let texts = plan.files.iter().chain(&plan.lines).chain(&plan.merged);
                let texts = texts.map(|one| (one.path.as_str(), one.text.as_str()));
                for (path, text) in texts.chain(plan.ca.iter().map(|path| (path.as_str(), "ca"))) {
                    let path = root.path().join(path.trim_start_matches('/'));
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, text).unwrap();
                }
                for registry in ["docker.io", "quay.io"] {
                    let found = mirrors(root.path(), registry);
                    if client == ClientKind::Docker && registry == "quay.io" {
                        assert_eq!(found, []);
                        continue;
                    }
                    assert_eq!(found.len(), 1, "{client} {registry} {found:?}");
                    let mirror = &found[0];
                    assert_eq!((mirror.url.authority(), mirror.url.is_tls()), ("m:5000", url.starts_with("https")));
                    let trusted: Vec<PathBuf> =
                        plan.ca.iter().map(|path| root.path().join(path.trim_start_matches('/'))).collect();
                    assert_eq!(mirror.trusted, trusted, "{client}");
                    let path =
                        if client == ClientKind::Podman { format!("m:5000/{registry}") } else { "m:5000".into() };
                    assert_eq!(mirror.url.location(), path);
                }
            }
        }
    }
}

//! Writes the `hosts.toml` files of containerd, and of what brings its own.

use super::MirrorUrl;
use crate::setup::Written;

/// The name under which an installed CA stands in a folder.
pub(super) const CA: &str = "pullthrough.crt";
/// The folder that stands for every registry without one of its own.
const EVERY: &str = "_default";

/// The files below `folder`: for each of `registries`, and for all others if none is named. Docker Hub has its own file all the
/// same, because some packages bring one, and it would win.
pub(super) fn hosts(folder: &str, mirror: &MirrorUrl, registries: &[String]) -> Vec<Written> {
    let named: Vec<&str> = match registries {
        [] => vec!["docker.io", EVERY],
        some => some.iter().map(String::as_str).collect(),
    };
    let file = |name: &str| {
        let path = format!("{folder}/{name}/hosts.toml");
        Written { path, text: text(folder, mirror, name), only_with: Vec::new() }
    };
    named.into_iter().map(file).collect()
}

fn text(folder: &str, mirror: &MirrorUrl, name: &str) -> String {
    let server = match name {
        EVERY => String::new(),
        "docker.io" => "server = \"https://registry-1.docker.io\"\n\n".to_owned(),
        other => format!("server = \"https://{other}\"\n\n"),
    };
    let address = if mirror.has_path() { mirror.api() } else { mirror.base() };
    let over = if mirror.has_path() { "  override_path = true\n" } else { "" };
    let ca = if mirror.is_tls() { format!("  ca = \"{folder}/{CA}\"\n") } else { String::new() };
    format!(
        "# pullthrough, the cache for container images\n{server}[host.\"{address}\"]\n  \
         capabilities = [\"pull\", \"resolve\"]\n{over}{ca}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_the_mirror_first_and_the_registry_behind_it() {
        let table: [(&str, &[&str], &str, &str); 4] = [
            (
                "http://m:5000",
                &[],
                "/c/docker.io/hosts.toml",
                "# pullthrough, the cache for container images\nserver = \"https://registry-1.docker.io\"\n\n\
                 [host.\"http://m:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
            ),
            (
                "https://m:5000",
                &["quay.io"],
                "/c/quay.io/hosts.toml",
                "# pullthrough, the cache for container images\nserver = \"https://quay.io\"\n\n\
                 [host.\"https://m:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = \"/c/pullthrough.crt\"\n",
            ),
            (
                "http://m:5000/v2/hub",
                &["_default"],
                "/c/_default/hosts.toml",
                "# pullthrough, the cache for container images\n\
                 [host.\"http://m:5000/v2/hub\"]\n  capabilities = [\"pull\", \"resolve\"]\n  override_path = true\n",
            ),
            (
                "http://m/cache",
                &["_default"],
                "/c/_default/hosts.toml",
                "# pullthrough, the cache for container images\n\
                 [host.\"http://m/cache/v2\"]\n  capabilities = [\"pull\", \"resolve\"]\n  override_path = true\n",
            ),
        ];
        for (url, registries, path, text) in table {
            let registries: Vec<String> = registries.iter().map(|name| (*name).to_owned()).collect();
            let files = hosts("/c", &url.parse().unwrap(), &registries);
            assert_eq!((files[0].path.as_str(), files[0].text.as_str()), (path, text), "{url}");
        }
        assert_eq!(hosts("/c", &"http://m".parse().unwrap(), &[])[1].path, "/c/_default/hosts.toml");
    }
}

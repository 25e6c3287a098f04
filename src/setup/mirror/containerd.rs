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

/// What `containerd config dump` prints is what containerd reads, with every file that is imported.
pub(super) const CONFIG_PATH: &str = r##"
# The folder with our files is read only if containerd's own configuration names it.
folder=/etc/containerd/certs.d
config=/etc/containerd/config.toml
named() {
  sed -n '/\.registry\]$/,/config_path/s/.*config_path *= *["'"'"']\([^"'"'"']*\)["'"'"'].*/\1/p' | head -n 1
}
config_path() {
  if [ "$mode" = undo ]; then
    grep -q '# pullthrough' "$root$config" 2>/dev/null || return 0
    sed -e '/^BEGIN_MARK$/,/^END_MARK$/d' -e 's/^\( *config_path = \).*# pullthrough$/\1""/' "$root$config" >"$scratch/new"
    if ! grep -v '^version = ' "$scratch/new" | grep -q '[^[:space:]]'; then
      rm -f "$root$config.before-pullthrough"
      drop "$config"
    else
      replace "$config"
      rm -f "$root$config.before-pullthrough"
    fi
    service 'systemctl restart containerd'
    return 0
  fi
  if [ -e "$root$config" ]; then
    run containerd --config "$config" config dump >"$scratch/dump" 2>"$scratch/said" ||
      fail "containerd cannot read $config: $(tail -n 1 "$scratch/said"). Mend it and run this again"
    now=$(named <"$scratch/dump")
    case ":$now:" in
      *":$folder:"*) return 0 ;;
      ::) ;;
      *) fail "config_path in $config is $now, so containerd does not read $folder: add it there, with a colon between" ;;
    esac
    if grep -q -E '^[[:space:]]*\[plugins\..*registry\.(mirrors|configs)\.' "$root$config"; then
      fail "$config has registry.mirrors or registry.configs, which containerd does not take together with config_path: move them \
to hosts.toml files, and run this again"
    fi
    version=$(sed -n 's/^[[:space:]]*version *= *\([0-9]*\).*/\1/p' "$root$config" | head -n 1)
  else
    version=new
  fi
  case ${version:-1} in
    1) table='[plugins.cri.registry]' ;;
    new | 2) table='[plugins."io.containerd.grpc.v1.cri".registry]' ;;
    *) table='[plugins."io.containerd.cri.v1.images".registry]' ;;
  esac
  line="config_path = \"$folder\" # pullthrough"
  if [ "$version" = new ]; then
    { echo 'version = 2'; echo 'BEGIN_MARK'; printf '%s\n' "$table" "  $line"; echo 'END_MARK'; } >"$scratch/new"
  elif tr -d ' \t' <"$root$config" | tr "'" '"' | grep -qxF "$table"; then
    # The table is there: its empty config_path is filled, or it gets one.
    awk -v table="$table" -v line="$line" '
      { bare = $0; gsub(/[ \t]/, "", bare); gsub(/'"'"'/, "\"", bare) }
      within && bare ~ /^config_path=/ { next }
      { print }
      bare ~ /^\[/ { within = (bare == table); if (within) print "      " line }
    ' "$root$config" >"$scratch/new"
  else
    cat "$root$config" >"$scratch/new"
    { echo 'BEGIN_MARK'; printf '%s\n' "$table" "  $line"; echo 'END_MARK'; } >>"$scratch/new"
  fi
  before=$scratch/before
  rm -f "$before"
  [ ! -e "$root$config" ] || cp -p "$root$config" "$before"
  replace "$config"
  if ! run containerd --config "$config" config dump >"$scratch/dump" 2>"$scratch/said"; then
    if [ -e "$before" ]; then cp -p "$before" "$root$config"; else rm "$root$config"; fi
    fail "containerd does not take the new $config ($(tail -n 1 "$scratch/said")): it is as it was. Set $table $line by hand"
  fi
  service 'systemctl restart containerd'
}
"##;

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

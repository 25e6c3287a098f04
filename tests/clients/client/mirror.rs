//! A mirror as each client's own files name it: registry-mirrors, hosts.toml, registries.conf.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

use crate::lab::EXAMPLE;

/// A mirror that speaks plain HTTP, and the forms in which it is named.
#[derive(Clone, Debug)]
pub(crate) struct Mirror {
    /// Where it is.
    pub(crate) at: SocketAddr,
    /// How containerd's files name it.
    pub(crate) hosts: Hosts,
}

/// How containerd's files name a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// A file for each registry.
    Each,
    /// One file for all of them, `_default`.
    Default,
    /// A file for each registry, with the whole path of the API and `override_path`, as k3s writes it for an endpoint with a path.
    Path,
}

impl Hosts {
    pub(crate) const ALL: [Self; 3] = [Self::Each, Self::Default, Self::Path];
}

/// The registries, each with the host that containerd asks by itself.
const REGISTRIES: [(&str, &str); 3] =
    [("docker.io", "registry-1.docker.io"), ("quay.io", "quay.io"), (EXAMPLE, EXAMPLE)];

impl Mirror {
    /// The path that the mirror has for the registry with a port, which no name in a registries.conf can hold.
    pub(crate) const EXAMPLE: &str = "example";
    /// The folder of containerd's files.
    pub(crate) const HOSTS: &str = "certs.d";

    /// Docker's daemon.json.
    pub(crate) fn daemon(&self) -> String {
        json!({ "registry-mirrors": [format!("http://{}", self.at)] }).to_string()
    }

    /// Writes what the others read.
    pub(crate) fn write(&self, home: &Path) {
        self.write_hosts(&home.join(Self::HOSTS));
        fs::write(home.join("registries.conf"), self.registries()).unwrap();
    }

    /// containerd's hosts.toml.
    pub(crate) fn write_hosts(&self, folder: &Path) {
        let at = self.at;
        let write = |registry: &str, text: String| {
            let folder = folder.join(registry);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("hosts.toml"), text).unwrap();
        };
        let pulls = "capabilities = ['pull', 'resolve']\n";
        match self.hosts {
            Hosts::Default => write("_default", format!("[host.'http://{at}']\n{pulls}")),
            Hosts::Each | Hosts::Path => {
                for (registry, server) in REGISTRIES {
                    let host = match self.hosts {
                        Hosts::Path => format!("[host.'http://{at}/v2/{registry}']\n{pulls}override_path = true\n"),
                        _ => format!("[host.'http://{at}']\n{pulls}"),
                    };
                    write(registry, format!("server = 'https://{server}'\n{host}"));
                }
            }
        }
    }

    /// The registries.conf of the containers/image family: it sends no `ns`, so each registry is a path.
    fn registries(&self) -> String {
        let at = self.at;
        let mut text = String::new();
        for (registry, _) in REGISTRIES {
            let path = if registry == EXAMPLE { Self::EXAMPLE } else { registry };
            let _ = write!(
                text,
                "[[registry]]\nprefix = '{registry}'\nlocation = '{registry}'\n\
                 [[registry.mirror]]\nlocation = '{at}/{path}'\ninsecure = true\n"
            );
        }
        text
    }
}

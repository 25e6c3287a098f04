//! Plans the setup of one client: files, lines in files that others write to, too, commands, and notes.

use super::{ClientKind, ProxyUrl};

/// Hosts that clients reach without the proxy. Networks matter only for image names that contain an address.
const NO_PROXY: &str =
    "localhost,127.0.0.0/8,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,169.254.0.0/16,.svc,.cluster.local";

/// Everything that is done on a machine besides trusting the CA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetupPlan {
    /// Files of our own.
    pub files: Vec<Written>,
    /// Lines to add, between two markers, to a file of others.
    pub lines: Vec<Written>,
    /// Lists, as a JSON object, to merge into a JSON file of others.
    pub merged: Vec<Written>,
    /// Where a copy of the CA's certificate goes, for this client and this host alone.
    pub ca: Vec<String>,
    /// Commands that make the change effective, one line of shell each.
    pub run: Vec<String>,
    /// Notes for a person: steps that a script cannot take.
    pub words: Vec<String>,
    /// The steps that take all of it back, if they are more than removing what was added.
    pub undo: Vec<String>,
    /// Whether a script can do all of it.
    pub scripted: bool,
    /// The systemd unit that must exist.
    pub unit: Option<&'static str>,
    /// Whether every user reads its files, so that they must not contain a password.
    pub public: bool,
    /// Whether it contains a password, so that other users must not read it.
    pub secret: bool,
}

/// A text and the file for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub path: String,
    /// Its text, or the lines.
    pub text: String,
    /// Only on a machine that has one of these files; on any machine if none is named.
    pub only_with: Vec<&'static str>,
}

/// Plans what `client` needs to pull through `proxy`.
#[must_use]
pub fn plan(client: ClientKind, proxy: &ProxyUrl) -> SetupPlan {
    let plan = match client {
        ClientKind::Docker => unit("docker", "", proxy, &["sudo docker pull alpine:3.20"]),
        ClientKind::Containerd => unit("containerd", "", proxy, &["sudo crictl pull docker.io/library/alpine:3.20"]),
        ClientKind::Crio => unit("crio", "", proxy, &["sudo crictl pull docker.io/library/alpine:3.20"]),
        ClientKind::Buildkit => buildkit(proxy),
        ClientKind::Podman | ClientKind::Buildah => podman(proxy),
        ClientKind::Skopeo => SetupPlan { words: skopeo(proxy), ..SetupPlan::default() },
        ClientKind::K3s | ClientKind::Rke2 => k3s(proxy),
        ClientKind::Microk8s => microk8s(proxy),
        ClientKind::Kind => kind(proxy),
        ClientKind::GitlabRunner => gitlab_runner(proxy),
        ClientKind::Env => env(proxy),
    };
    SetupPlan { secret: proxy.is_secret(), ..plan }
}

/// The drop-in of a systemd unit, with `prefix` before the names of its variables.
fn unit(name: &'static str, prefix: &str, proxy: &ProxyUrl, checks: &[&str]) -> SetupPlan {
    let words = checks.iter().map(|check| format!("Check: {check}, then look for it in the proxy's log")).collect();
    SetupPlan {
        files: vec![drop_in(name, prefix, proxy)],
        run: vec!["systemctl daemon-reload".to_owned(), format!("systemctl restart {name}")],
        words,
        scripted: true,
        unit: Some(name),
        ..SetupPlan::default()
    }
}

fn drop_in(name: &str, prefix: &str, proxy: &ProxyUrl) -> Written {
    let url = proxy.in_unit();
    let text = format!(
        "# pullthrough, the caching proxy for container images\n[Service]\n\
         Environment=\"{prefix}HTTP_PROXY={url}\"\nEnvironment=\"{prefix}HTTPS_PROXY={url}\"\n\
         Environment=\"{prefix}NO_PROXY={NO_PROXY}\"\n"
    );
    Written { path: format!("/etc/systemd/system/{name}.service.d/pullthrough.conf"), text, only_with: Vec::new() }
}

/// `http_proxy = false`: otherwise each container would be started with these variables.
fn podman(proxy: &ProxyUrl) -> SetupPlan {
    let path = "/etc/containers/containers.conf.d/50-pullthrough.conf".to_owned();
    if proxy.is_secret() {
        let words = vec![
            format!("every user's Podman reads {path}, so it must not contain the password"),
            "Put it into each user's own ~/.config/containers/containers.conf.d/50-pullthrough.conf (chmod 600): [engine] \
             env = [\"HTTPS_PROXY=URL\"]; for root, set HTTPS_PROXY in the environment of podman"
                .to_owned(),
        ];
        return SetupPlan { words, ..SetupPlan::default() };
    }
    let url = proxy.as_str();
    let text = format!(
        "# pullthrough, the caching proxy for container images\n[containers]\nhttp_proxy = false\n\n[engine]\n\
         env = [\"HTTP_PROXY={url}\", \"HTTPS_PROXY={url}\", \"NO_PROXY={NO_PROXY}\"]\n"
    );
    SetupPlan {
        files: vec![Written { path, text, only_with: Vec::new() }],
        words: vec![
            "Check: podman pull docker.io/library/alpine:3.20, then look for it in the proxy's log".to_owned(),
            format!("Skopeo does not read this file: {}", skopeo(proxy)[0]),
        ],
        scripted: true,
        public: true,
        ..SetupPlan::default()
    }
}

/// The two ways of a program that reads its environment alone.
fn skopeo(proxy: &ProxyUrl) -> Vec<String> {
    let url = proxy.shown();
    vec![
        format!("HTTPS_PROXY={url} skopeo inspect docker://docker.io/library/alpine"),
        "The CA: pullthrough trust install, or --src-cert-dir with the directory of ca.crt".to_owned(),
    ]
}

fn buildkit(proxy: &ProxyUrl) -> SetupPlan {
    let url = proxy.shown();
    let mut plan = unit("buildkit", "", proxy, &[]);
    plan.words = vec![
        "The command-line tool (buildctl, docker buildx) fetches tokens itself: it uses this machine's trust store and, for \
         buildctl, HTTPS_PROXY in its own environment"
            .to_owned(),
        format!(
            "For buildx with a builder in a container: docker buildx create --use --driver docker-container --driver-opt \
             env.HTTPS_PROXY={url} --buildkitd-config FILE, where FILE names the CA for each registry that is \
             pulled from: [registry.\"docker.io\"] ca=[\"/path/of/ca.crt\"]"
        ),
    ];
    plan
}

fn k3s(proxy: &ProxyUrl) -> SetupPlan {
    // RKE2's archive brings its units below /usr/local, its RPM below /usr.
    let units = [
        ("k3s", vec!["/etc/systemd/system/k3s.service"]),
        ("k3s-agent", vec!["/etc/systemd/system/k3s-agent.service"]),
        (
            "rke2-server",
            vec!["/usr/local/lib/systemd/system/rke2-server.service", "/usr/lib/systemd/system/rke2-server.service"],
        ),
        (
            "rke2-agent",
            vec!["/usr/local/lib/systemd/system/rke2-agent.service", "/usr/lib/systemd/system/rke2-agent.service"],
        ),
    ];
    let file = |(name, only_with): (&str, _)| Written { only_with, ..drop_in(name, "CONTAINERD_", proxy) };
    SetupPlan {
        files: units.into_iter().map(file).collect(),
        run: vec![
            "systemctl daemon-reload".to_owned(),
            "systemctl try-restart k3s k3s-agent rke2-server rke2-agent || true".to_owned(), // most of them do not exist
        ],
        words: vec!["Check: crictl pull docker.io/library/alpine:3.20, then look for it in the proxy's log".to_owned()],
        scripted: true,
        ..SetupPlan::default()
    }
}

fn microk8s(proxy: &ProxyUrl) -> SetupPlan {
    let url = proxy.as_str();
    let text = format!("HTTP_PROXY={url}\nHTTPS_PROXY={url}\nNO_PROXY={NO_PROXY}\n");
    let path = "/var/snap/microk8s/current/args/containerd-env".to_owned();
    SetupPlan {
        lines: vec![Written { path, text, only_with: vec!["/var/snap/microk8s/current/args/containerd-env"] }],
        run: vec!["snap restart microk8s.daemon-containerd".to_owned()],
        words: vec![
            "Check: microk8s ctr images pull docker.io/library/alpine:3.20, then look for it in the proxy's log"
                .to_owned(),
        ],
        scripted: true,
        ..SetupPlan::default()
    }
}

fn kind(proxy: &ProxyUrl) -> SetupPlan {
    let url = proxy.as_str();
    let words = vec![
        "Each node is its own machine that runs containerd under systemd. Run this once for the nodes of a cluster:".to_owned(),
        format!(
            "for node in $(kind get nodes); do curl -fsS {bare}/setup/containerd | docker exec -i -e \
             PULLTHROUGH_PROXY={url} \"$node\" sh -s -- FINGERPRINT; done",
            bare = proxy.bare()
        ),
        "FINGERPRINT is the CA's, as printed by pullthrough serve and pullthrough ca show; the proxy's name must resolve in \
         the nodes' network, so localhost does not work"
            .to_owned(),
    ];
    SetupPlan { words, ..SetupPlan::default() }
}

fn gitlab_runner(proxy: &ProxyUrl) -> SetupPlan {
    let url = proxy.as_str();
    let words = vec![
        "The Docker executor pulls through the machine's Docker Engine: it only needs pullthrough setup docker on the \
         runner's machine"
            .to_owned(),
        format!(
            "docker:dind is a second engine. Set in config.toml, below [[runners]]: environment = [\"HTTPS_PROXY={url}\", \
             \"NO_PROXY=docker,{NO_PROXY}\"] and below [runners.docker]: volumes = [\"/cache\", \
             \"/etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro\"], which is the machine's own \
             bundle, to which pullthrough trust install has added the CA"
        ),
    ];
    SetupPlan { words, ..SetupPlan::default() }
}

fn env(proxy: &ProxyUrl) -> SetupPlan {
    let url = proxy.as_str();
    let words = vec![
        format!("export HTTP_PROXY={url}"),
        format!("export HTTPS_PROXY={url}"),
        format!("export NO_PROXY={NO_PROXY}"),
        "For the CA, run pullthrough trust install, or, for programs written in Go only: export SSL_CERT_FILE=/path/of/ca.crt"
            .to_owned(),
    ];
    SetupPlan { words, ..SetupPlan::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percent_sign_is_systemds_own_in_a_unit_and_nothing_in_other_files() {
        let proxy = "http://u:p%40@proxy:3128".parse().unwrap();
        assert!(plan(ClientKind::Docker, &proxy).files[0].text.contains("HTTPS_PROXY=http://u:p%%40@proxy:3128"));
        assert!(plan(ClientKind::Microk8s, &proxy).lines[0].text.contains("HTTPS_PROXY=http://u:p%40@proxy:3128"));
        assert!(plan(ClientKind::Docker, &proxy).secret);
    }

    #[test]
    fn a_password_is_never_written_where_every_user_reads_it() {
        let plan = plan(ClientKind::Podman, &"http://u:p@proxy:3128".parse().unwrap());
        assert!(!plan.scripted && plan.files.is_empty() && plan.words[1].contains("chmod 600"), "{plan:?}");
    }

    #[test]
    fn every_plan_says_something_to_do() {
        let proxy = "http://proxy:3128".parse().unwrap();
        for client in ClientKind::ALL {
            let plan = plan(client, &proxy);
            assert_eq!(plan.scripted, !plan.files.is_empty() || !plan.lines.is_empty(), "{client}");
            assert!(plan.scripted || !plan.words.is_empty(), "{client}");
        }
    }
}

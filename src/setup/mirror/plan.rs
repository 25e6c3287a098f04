//! Plans the mirror of one client: its files, what is merged into files of others, where the CA goes, what is run.

use super::MirrorUrl;
use super::containerd::{self, CA};
use super::containers::containers;
use super::files::{self, FALLBACK, ca_at, written};
use super::known::OnMirror;
use super::refused::{Unmirrorable, is_host, one_path, refuse_path, refuse_root};
use crate::setup::{ClientKind, SetupPlan, Written};

const CERTS: &str = "/etc/containerd/certs.d";
const MICROK8S: &str = "/var/snap/microk8s/current/args/certs.d";
const BUILDKIT_CA: &str = "/etc/buildkit/pullthrough.crt";
/// Plans what `client` needs to pull from `mirror`, for the registries `named`. With none, it is the one that the mirror's path
/// names; else a client that can use a mirror for all registries does so, and each other client for those `known` that are a host
/// and no pattern.
///
/// # Errors
/// A client that has no mirrors, or none at an address like this; a registry that this client cannot name to the mirror.
pub fn mirror_plan(
    client: ClientKind,
    mirror: &MirrorUrl,
    named: &[String],
    known: &[OnMirror],
) -> Result<SetupPlan, Unmirrorable> {
    let mirror = &mirror.meant(OnMirror::names(known));
    if let Some(name) = named.iter().find(|name| !is_host(name)) {
        return Err(Unmirrorable(format!("{name} is not the host of a registry, such as quay.io")));
    }
    let owned = one_path(mirror, named)?;
    let exact: Vec<&str> = owned.iter().map(String::as_str).collect();
    let all: Vec<&str> = OnMirror::registries(known).filter(|name| is_host(name)).collect();
    let each = match (exact.as_slice(), all.as_slice()) {
        ([], []) => vec!["docker.io"],
        ([], all) => all.to_vec(),
        (named, _) => named.to_vec(),
    };
    let plan = match client {
        ClientKind::Docker => docker(mirror)?,
        ClientKind::Containerd => containerd(mirror, &owned),
        ClientKind::Microk8s => microk8s(mirror, &owned),
        ClientKind::K3s => rancher("k3s", &["/etc/rancher/k3s", "/usr/local/bin/k3s"], mirror, &exact),
        ClientKind::Rke2 => {
            rancher("rke2", &["/etc/rancher/rke2", "/usr/local/bin/rke2", "/usr/bin/rke2"], mirror, &exact)
        }
        ClientKind::Podman | ClientKind::Skopeo | ClientKind::Buildah | ClientKind::Crio => {
            containers(client, mirror, &each, known)?
        }
        ClientKind::Buildkit => buildkit(mirror, &each)?,
        ClientKind::Kind => kind(mirror, &owned),
        ClientKind::GitlabRunner => {
            let how = "the Docker executor pulls through the machine's Docker Engine: set that up (pullthrough setup docker); for \
                       docker:dind, give the service command: [\"--registry-mirror\", \"URL\"] in config.toml";
            return Err(Unmirrorable(how.to_owned()));
        }
        ClientKind::Env => {
            let how = "no variable of the environment names a mirror: set up the program that pulls, or use --proxy";
            return Err(Unmirrorable(how.to_owned()));
        }
    };
    let words = in_front(mirror).into_iter().chain(plan.words.iter().cloned()).collect();
    Ok(SetupPlan { undo: undo(client, mirror, named, &plan), words, ..plan })
}

/// What a path in front of `/v2/` is taken for.
fn in_front(mirror: &MirrorUrl) -> Option<String> {
    let root = Some(mirror.root()).filter(|root| !root.is_empty())?;
    let base = mirror.base();
    let host = base.strip_suffix(root)?;
    Some(format!(
        "{base}/v2/ has to lead to the mirror: a server in front of it takes {root} off. If {root} is in mirror.names instead, \
         say so: --mirror {host}/v2{root}"
    ))
}

/// Docker rereads these keys on a reload, which stops no container.
fn docker(mirror: &MirrorUrl) -> Result<SetupPlan, Unmirrorable> {
    refuse_path(mirror, "Docker")?;
    let also = format!(
        "Docker asks mirrors for Docker Hub only. For other registries: pullthrough setup docker --proxy URL, or name the \
         mirror in the image: docker pull {}/quay.io/org/app",
        mirror.authority()
    );
    Ok(SetupPlan {
        merged: vec![written("/etc/docker/daemon.json", files::daemon_json(mirror))],
        ca: ca_at(mirror, format!("/etc/docker/certs.d/{}/{CA}", mirror.authority())),
        run: vec!["systemctl reload docker".to_owned()],
        words: vec![
            also,
            FALLBACK.to_owned(),
            "Check: docker info lists the mirror; docker pull alpine:3.20, then look for it in the mirror's log"
                .to_owned(),
        ],
        scripted: true,
        unit: Some("docker"),
        ..SetupPlan::default()
    })
}

fn containerd(mirror: &MirrorUrl, registries: &[String]) -> SetupPlan {
    SetupPlan {
        files: containerd::hosts(CERTS, mirror, registries),
        ca: ca_at(mirror, format!("{CERTS}/{CA}")),
        words: vec![
            format!(
                "containerd reads {CERTS} if config_path in /etc/containerd/config.toml names it; --apply adds that. By hand, for \
                 containerd 1.6 and 1.7 (version = 2): [plugins.\"io.containerd.grpc.v1.cri\".registry] config_path = \"{CERTS}\"; \
                 for containerd 2 (version = 3): [plugins.\"io.containerd.cri.v1.images\".registry] config_path = \"{CERTS}\", then \
                 systemctl restart containerd. The files themselves are read at each pull"
            ),
            "ctr reads them only with --hosts-dir; nerdctl and the kubelet (CRI) do by themselves".to_owned(),
            FALLBACK.to_owned(),
            "Check: crictl pull docker.io/library/alpine:3.20, then look for it in the mirror's log".to_owned(),
        ],
        scripted: true,
        ..SetupPlan::default()
    }
}

fn microk8s(mirror: &MirrorUrl, registries: &[String]) -> SetupPlan {
    let only = |file: Written| Written { only_with: vec![MICROK8S], ..file };
    SetupPlan {
        files: containerd::hosts(MICROK8S, mirror, registries).into_iter().map(only).collect(),
        ca: ca_at(mirror, format!("{MICROK8S}/{CA}")),
        words: vec![
            FALLBACK.to_owned(),
            "Check: microk8s kubectl run try --rm -it --restart=Never --image=alpine:3.20 -- true".to_owned(),
        ],
        scripted: true,
        ..SetupPlan::default()
    }
}

fn rancher(name: &str, only_with: &[&'static str], mirror: &MirrorUrl, registries: &[&str]) -> SetupPlan {
    let ca = format!("/etc/rancher/{name}/{CA}");
    let named = if registries.is_empty() { vec!["docker.io", "*"] } else { registries.to_vec() };
    let file = written(&format!("/etc/rancher/{name}/registries.yaml"), files::registries_yaml(mirror, &named, &ca));
    let units = if name == "k3s" { "k3s k3s-agent" } else { "rke2-server rke2-agent" };
    let every = "\"*\" stands for every other registry, since k3s and RKE2 1.26.13".to_owned();
    SetupPlan {
        files: vec![Written { only_with: only_with.to_vec(), ..file }],
        ca: ca_at(mirror, ca),
        run: vec![format!("systemctl try-restart {units} || true")], // one of them does not exist
        words: [
            if registries.is_empty() { vec![every] } else { Vec::new() },
            vec![
                FALLBACK.to_owned(),
                "Check: crictl pull docker.io/library/alpine:3.20, then look for it in the mirror's log".to_owned(),
            ],
        ]
        .concat(),
        scripted: true,
        ..SetupPlan::default()
    }
}

fn buildkit(mirror: &MirrorUrl, registries: &[&str]) -> Result<SetupPlan, Unmirrorable> {
    refuse_root(mirror, "buildkitd.toml")?;
    let text = files::buildkitd_toml(mirror, registries, BUILDKIT_CA);
    Ok(SetupPlan {
        lines: vec![written("/etc/buildkit/buildkitd.toml", text)],
        ca: ca_at(mirror, BUILDKIT_CA.to_owned()),
        run: vec!["systemctl restart buildkit".to_owned()],
        words: vec![
            "For buildx with a builder in a container: docker buildx create --use --buildkitd-config FILE, with these lines in \
             FILE; it copies the CA into the builder"
                .to_owned(),
            FALLBACK.to_owned(),
            "The builder inside Docker uses Docker's own mirrors: pullthrough setup docker".to_owned(),
        ],
        scripted: true,
        unit: Some("buildkit"),
        ..SetupPlan::default()
    })
}

/// Files beside each other in the current directory, for `kind create cluster`.
fn kind(mirror: &MirrorUrl, registries: &[String]) -> SetupPlan {
    let local = |file: Written| Written { path: file.path.replace("/etc/containerd/", ""), ..file };
    let mut all = vec![written("kind-pullthrough.yaml", files::kind_yaml())];
    all.extend(containerd::hosts(CERTS, mirror, registries).into_iter().map(local));
    SetupPlan {
        files: all,
        ca: ca_at(mirror, format!("certs.d/{CA}")),
        words: vec![
            "Write these files into one directory and run there: kind create cluster --config kind-pullthrough.yaml".to_owned(),
            "The mirror's name must resolve in the nodes' network, so localhost does not work; Docker itself pulls kindest/node"
                .to_owned(),
            FALLBACK.to_owned(),
        ],
        ..SetupPlan::default()
    }
}

/// What takes back all that these very arguments wrote.
pub(super) fn undo_command(client: ClientKind, mirror: &MirrorUrl, named: &[String]) -> String {
    let named: String = named.iter().map(|name| format!(" --registry {name}")).collect();
    format!("pullthrough setup {client} --mirror {mirror}{named} --undo")
}

/// How a person takes it back.
fn undo(client: ClientKind, mirror: &MirrorUrl, named: &[String], plan: &SetupPlan) -> Vec<String> {
    if !plan.scripted {
        return vec!["kind delete cluster, and create it without this file".to_owned()];
    }
    let mut steps = vec![format!("{}   # which does this:", undo_command(client, mirror, named))];
    steps.extend(plan.merged.iter().map(|one| format!("take these entries out of {}", one.path)));
    steps.extend(plan.lines.iter().map(|one| format!("take these lines out of {}", one.path)));
    let files = plan.files.iter().map(|one| one.path.as_str()).chain(plan.ca.iter().map(String::as_str));
    let files: Vec<&str> = files.collect();
    if !files.is_empty() {
        steps.push(format!("rm -f {}", files.join(" ")));
        steps.push("move FILE.before-pullthrough back, where there is one".to_owned());
    }
    steps.extend(plan.run.iter().map(|command| command.replace("reload docker", "restart docker")));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(client: ClientKind, url: &str, registries: &[&str]) -> Result<SetupPlan, Unmirrorable> {
        let registries: Vec<String> = registries.iter().map(|name| (*name).to_owned()).collect();
        mirror_plan(client, &url.parse().unwrap(), &registries, &[])
    }

    #[test]
    fn each_client_gets_its_own_files() {
        let table = [
            (ClientKind::Docker, "/etc/docker/daemon.json", "/etc/docker/certs.d/m:5000/pullthrough.crt"),
            (
                ClientKind::Containerd,
                "/etc/containerd/certs.d/docker.io/hosts.toml",
                "/etc/containerd/certs.d/pullthrough.crt",
            ),
            (
                ClientKind::Microk8s,
                "/var/snap/microk8s/current/args/certs.d/docker.io/hosts.toml",
                "/var/snap/microk8s/current/args/certs.d/pullthrough.crt",
            ),
            (ClientKind::K3s, "/etc/rancher/k3s/registries.yaml", "/etc/rancher/k3s/pullthrough.crt"),
            (ClientKind::Rke2, "/etc/rancher/rke2/registries.yaml", "/etc/rancher/rke2/pullthrough.crt"),
            (
                ClientKind::Podman,
                "/etc/containers/registries.conf.d/50-pullthrough.conf",
                "/etc/containers/certs.d/m:5000/pullthrough.crt",
            ),
            (
                ClientKind::Skopeo,
                "/etc/containers/registries.conf.d/50-pullthrough.conf",
                "/etc/containers/certs.d/m:5000/pullthrough.crt",
            ),
            (
                ClientKind::Buildah,
                "/etc/containers/registries.conf.d/50-pullthrough.conf",
                "/etc/containers/certs.d/m:5000/pullthrough.crt",
            ),
            (
                ClientKind::Crio,
                "/etc/containers/registries.conf.d/50-pullthrough.conf",
                "/etc/containers/certs.d/m:5000/pullthrough.crt",
            ),
            (ClientKind::Buildkit, "/etc/buildkit/buildkitd.toml", "/etc/buildkit/pullthrough.crt"),
            (ClientKind::Kind, "kind-pullthrough.yaml", "certs.d/pullthrough.crt"),
        ];
        for (client, path, ca) in table {
            let plan = planned(client, "https://m:5000", &[]).unwrap();
            let first = plan.files.iter().chain(&plan.lines).chain(&plan.merged).next().unwrap();
            assert_eq!((first.path.as_str(), plan.ca.as_slice()), (path, [ca.to_owned()].as_slice()), "{client}");
            assert!(planned(client, "http://m:5000", &[]).unwrap().ca.is_empty(), "{client}");
            assert!(!plan.undo.is_empty() && plan.scripted == (client != ClientKind::Kind), "{client}");
        }
    }

    #[test]
    fn a_pattern_has_no_entry_and_nothing_but_a_host_gets_into_a_file() {
        let names = ["docker.io", "*.azurecr.io", "a\"b", "$(id)", "-x", "r.example:5000"].map(str::to_owned);
        let mirror = "http://m:5000".parse().unwrap();
        let mut known: Vec<OnMirror> = names.iter().cloned().map(OnMirror::Registry).collect();
        known.push(OnMirror::Name { name: "/r".to_owned(), registry: Some("r.example:5000".to_owned()) });
        let text = &mirror_plan(ClientKind::Podman, &mirror, &[], &known).unwrap().files[0].text;
        let prefixes: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("prefix = ")).collect();
        assert_eq!(prefixes, ["\"docker.io\"", "\"r.example:5000\""]);
        assert!(text.contains("location = \"m:5000/r\""), "{text}");
        for name in &names[1..5] {
            let refused = planned(ClientKind::Containerd, "http://m:5000", &[name]).unwrap_err();
            assert!(refused.to_string().contains("is not the host"), "{refused}");
        }
    }

    #[test]
    fn an_address_that_a_client_cannot_take_is_refused() {
        let table = [
            (ClientKind::Docker, "http://m/v2/hub", Some("takes no mirror with a path")),
            (ClientKind::Podman, "http://m/cache", Some("below a path")),
            (ClientKind::Buildkit, "http://m/cache", Some("below a path")),
            (ClientKind::Podman, "http://m/v2/hub", None),
            (ClientKind::Containerd, "http://m/cache", None),
            (ClientKind::Env, "http://m", Some("--proxy")),
            (ClientKind::GitlabRunner, "http://m", Some("setup docker")),
        ];
        for (client, url, expected) in table {
            let refused = planned(client, url, &[]).err().map(|refused| refused.to_string());
            match (expected, &refused) {
                (None, None) => {}
                (Some(words), Some(refused)) => assert!(refused.contains(words), "{client}: {refused}"),
                _ => panic!("{client} {url}: {refused:?}"),
            }
        }
    }

    #[test]
    fn a_path_that_names_a_registry_is_a_mirror_of_that_one_alone() {
        let all = ["http://m:5000/quay.io", "http://m:5000/quay.io/v2", "http://m:5000/v2/quay.io"];
        for url in all {
            let plan = planned(ClientKind::Containerd, url, &[]).unwrap();
            let paths: Vec<&str> = plan.files.iter().map(|file| file.path.as_str()).collect();
            assert_eq!(paths, ["/etc/containerd/certs.d/quay.io/hosts.toml"], "{url}");
            let text = &plan.files[0].text;
            assert!(
                text.contains("[host.\"http://m:5000/v2/quay.io\"]") && text.contains("override_path = true"),
                "{text}"
            );
            let text = &planned(ClientKind::Podman, url, &["quay.io"]).unwrap().files[0].text;
            assert!(text.contains("location = \"m:5000/quay.io\"\n"), "{text}");
            let refused = planned(ClientKind::Podman, url, &["docker.io"]).unwrap_err().to_string();
            assert!(refused.contains("a mirror of quay.io alone"), "{refused}");
        }
        let told = planned(ClientKind::Containerd, "http://m:5000/hub", &[]).unwrap().words.remove(0);
        assert!(told.contains("--mirror http://m:5000/v2/hub"), "{told}");
        let known = [OnMirror::Name { name: "/hub".to_owned(), registry: None }];
        let plan = mirror_plan(ClientKind::Containerd, &"http://m:5000/hub".parse().unwrap(), &[], &known).unwrap();
        assert!(plan.files[0].text.contains("http://m:5000/v2/hub"), "{}", plan.files[0].text);
    }

    #[test]
    fn what_takes_it_back_names_the_registries_too() {
        let plan = planned(ClientKind::Containerd, "http://m:5000", &["quay.io"]).unwrap();
        assert!(
            plan.undo[0].starts_with("pullthrough setup containerd --mirror http://m:5000 --registry quay.io --undo")
        );
    }
}

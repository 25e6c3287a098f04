//! Pages of further clients, followed word for word in a clean Debian: containerd, Docker's builder, the engine inside a CI job.

use std::time::Duration;

use crate::clean::Machine;
use crate::lab::{Lab, Shape, once_each};
use crate::packages::{ADDRESS, blocks, commands, follow, installed};

const CONTAINERD: &str = include_str!("../../docs/clients/containerd.md");
const DOCKER: &str = include_str!("../../docs/clients/docker.md");
const BUILDKIT: &str = include_str!("../../docs/clients/buildkit.md");
const GITLAB: &str = include_str!("../../docs/clients/gitlab-runner.md");
const TRUST: &str = include_str!("../../docs/trust.md");
const PULL: Duration = Duration::from_secs(60);
/// Debian 12 has no crictl, so this makes the one call that crictl and the kubelet make: PullImage of the image service.
const CRICTL: &str = include_str!("clean/crictl.sh");

/// The digest of the image's configuration, out of what containerd has of it in a namespace.
fn id(machine: &Machine, namespace: &str) -> String {
    let ctr = format!("ctr --namespace {namespace}");
    let name = "docker.io/library/alpine:3.20";
    let index =
        machine.must(&format!("{ctr} image ls name=={name} | grep --only-matching --max-count 1 'sha256:[0-9a-f]*'"));
    let of = |digest: &str| -> serde_json::Value {
        serde_json::from_str(&machine.must(&format!("{ctr} content get {}", digest.trim()))).unwrap()
    };
    let index = of(&index);
    let mut manifests = index["manifests"].as_array().unwrap().iter();
    let amd64 = manifests.find(|entry| entry["platform"]["architecture"] == "amd64").unwrap();
    of(amd64["digest"].as_str().unwrap())["config"]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn containerd_pulls_by_its_page_for_a_kubelet_and_for_ctr() {
    let lab = Lab::new();
    let image = lab.publish(&["docker.io/library/alpine:3.20"], Shape::Index, 1, 100_000);
    let (machine, address) = installed(&lab);
    std::fs::write(machine.shared.join("crictl"), CRICTL).unwrap();
    machine.must(
        "install /shared/crictl /usr/local/bin/crictl
         systemctl stop containerd; mount --types tmpfs layers /var/lib/containerd; systemctl start containerd",
    );
    let checks = blocks(CONTAINERD, "Check", address);
    let [crictl, ctr] = &checks[..] else { panic!("{checks:?}") };
    machine.run(crictl, PULL).expect_err("there is no way to a registry but the proxy");

    let shown = follow(&machine, CONTAINERD, "Set up", address);
    let (_, shown) = shown.split_once("Fingerprint=").expect("the page shows the fingerprint");
    assert!(machine.must("pullthrough ca show").contains(shown.lines().next().unwrap().trim()));
    machine.must(crictl);
    assert_eq!(id(&machine, "k8s.io"), image.id);
    machine.must(ctr);
    assert_eq!(id(&machine, "default"), image.id);
    once_each(&lab.docker.blob_fetches());

    follow(&machine, CONTAINERD, "Undo", address);
    for (namespace, check) in [("k8s.io", crictl), ("default", ctr)] {
        machine.must(&format!(
            "ctr --namespace {namespace} image ls --quiet | xargs ctr --namespace {namespace} image rm --sync"
        ));
        machine.run(check, PULL).expect_err("it is undone");
    }
}

#[test]
fn the_builder_inside_docker_pulls_by_its_page() {
    let lab = Lab::new();
    lab.publish(&["docker.io/library/alpine:3.20"], Shape::Index, 1, 100_000);
    let (machine, address) = installed(&lab);
    let build = commands(BUILDKIT, "The builder inside Docker", address);
    machine.run(&build, PULL).expect_err("the daemon has no proxy yet");
    follow(&machine, DOCKER, "Set up", address);
    machine.must(&build);
    assert!(machine.must("journalctl --unit pullthrough").contains("repository=library/alpine"));
    once_each(&lab.docker.blob_fetches());
}

#[test]
fn an_engine_inside_a_job_pulls_with_the_environment_of_the_runners_page() {
    let lab = Lab::new();
    let image = lab.publish(&["docker.io/library/alpine:3.20"], Shape::Index, 1, 100_000);
    let (machine, address) = installed(&lab);
    let bundle = commands(TRUST, "Get it", address) + "\n" + &commands(TRUST, "For one program", address);
    machine.must(&format!("mkdir /pullthrough; cd /pullthrough\n{bundle}"));
    let list =
        GITLAB.split_once("environment = [").and_then(|(_, rest)| rest.split_once(']')).expect("the page has it").0;
    let variables: Vec<_> = list.split('"').filter(|part| part.contains('=')).collect();
    let variables = variables.join(" ").replace(ADDRESS, &address.to_string());
    assert!(
        variables.contains("HTTPS_PROXY=") && variables.contains("SSL_CERT_FILE=/pullthrough/bundle.crt"),
        "{variables}"
    );
    // A daemon with nothing but that environment, as the job's service has it; its trust store knows nothing of the CA.
    let daemon =
        "dockerd --host unix:///run/job.sock --data-root /var/lib/job --exec-root /run/job --pidfile /run/job.pid";
    machine.must(&format!(
        "systemd-run --unit job env --ignore-environment PATH=/usr/sbin:/usr/bin:/sbin:/bin {variables} {daemon}
         for i in $(seq 300); do docker --host unix:///run/job.sock version >/dev/null 2>&1 && break; sleep 0.1; done
         docker --host unix:///run/job.sock pull docker.io/library/alpine:3.20"
    ));
    let id = machine.must("docker --host unix:///run/job.sock image inspect --format '{{.Id}}' alpine:3.20");
    assert_eq!(id.trim(), image.id);
    machine.run("docker pull docker.io/library/alpine:3.20", PULL).expect_err("the machine's own engine has no proxy");
    assert!(machine.must("journalctl --unit pullthrough").contains("outcome=miss"));
}

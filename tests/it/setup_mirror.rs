//! Setting clients up for a mirror: what `setup --mirror` writes into a scratch root, and takes back.

mod trust;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const PLAIN: &str = "http://m.example:5000";
const TLS: &str = "https://m.example:5000";
const SCRIPTED: [&str; 10] =
    ["docker", "containerd", "podman", "skopeo", "buildah", "crio", "buildkit", "k3s", "rke2", "microk8s"];
const DAEMON: &str = "/etc/docker/daemon.json";
const CONTAINERD: &str = "/etc/containerd/config.toml";

/// The root folder of a machine, and the programs in front of those of this one.
struct Machine {
    root: tempfile::TempDir,
    tools: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { root: tempfile::tempdir().unwrap(), tools: tempfile::tempdir().unwrap() };
        // containerd reads the file that it finds in the other root.
        machine.tool(
            "chroot",
            "root=$1; shift; [ \"$1\" = containerd ] || exit 0\ncommand -v containerd >/dev/null || exit 0\nexec containerd \
             --config \"$root$3\" config dump",
        );
        for folder in ["/etc/rancher/k3s", "/etc/rancher/rke2", "/var/snap/microk8s/current/args/certs.d"] {
            fs::create_dir_all(machine.at(folder)).unwrap();
        }
        machine
    }

    fn tool(&self, name: &str, text: &str) {
        let file = self.tools.path().join(name);
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn has(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// All files, with what is in them.
    fn files(&self) -> Vec<(PathBuf, String)> {
        let (mut found, mut folders) = (Vec::new(), vec![self.root.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    found.push((entry.path(), fs::read_to_string(entry.path()).unwrap()));
                }
            }
        }
        found.sort();
        found
    }

    fn path(&self) -> String {
        format!("{}:{}", self.tools.path().display(), std::env::var("PATH").unwrap_or_default())
    }

    fn setup(&self, client: &str, url: &str, arguments: &[&str]) -> Output {
        let mut command = program(&["setup", client, "--mirror", url, "--root", self.root.path().to_str().unwrap()]);
        command.args(arguments).current_dir(self.tools.path()).env("PATH", self.path()).output().unwrap()
    }

    fn well(&self, client: &str, url: &str, arguments: &[&str]) -> String {
        let done = self.setup(client, url, arguments);
        assert!(done.status.success(), "{client} {arguments:?}: {}", said(&done));
        said(&done)
    }

    /// Runs the script as a machine without this program does.
    fn script(&self, text: &str, arguments: &[&str], variables: &[(&str, &Path)], path: &str) -> Output {
        let mut shell = Command::new("sh");
        shell
            .args(["-s", "--"])
            .args(arguments)
            .env_clear()
            .env("PATH", path)
            .env("PULLTHROUGH_ROOT", self.root.path());
        shell.envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes());
        child.wait_with_output().unwrap()
    }
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullthrough"));
    command.args(arguments).env_clear().env("PATH", std::env::var("PATH").unwrap_or_default());
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

fn script_of(client: &str, url: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let made = program(&["setup", client, "--mirror", url, "--script"]).current_dir(folder.path()).output().unwrap();
    assert!(made.status.success(), "{client}: {}", said(&made));
    String::from_utf8(made.stdout).unwrap()
}

#[test]
fn every_client_is_set_up_twice_alike_and_undone_without_a_trace() {
    for client in SCRIPTED {
        let machine = Machine::new();
        let before = machine.files();
        machine.well(client, PLAIN, &["--apply"]);
        let once = machine.files();
        assert!(once.len() > before.len() && once.iter().any(|(_, text)| text.contains("m.example:5000")), "{client}");
        let again = machine.well(client, PLAIN, &["--apply"]);
        assert_eq!(machine.files(), once, "{client}: {again}");
        machine.well(client, PLAIN, &["--undo"]);
        assert_eq!(machine.files(), before, "{client}");
    }
}

#[test]
fn what_others_wrote_comes_back_when_it_is_undone() {
    let table = [
        ("containerd", "/etc/containerd/certs.d/docker.io/hosts.toml", "server = \"https://docker.io\"\n"),
        ("buildkit", "/etc/buildkit/buildkitd.toml", "[worker.oci]\n  enabled = true\n"),
        (
            "docker",
            DAEMON,
            "{\n  \"live-restore\": true,\n  \"registry-mirrors\": [\n    \"https://a.example\"\n  ]\n}\n",
        ),
    ];
    for (client, path, theirs) in table {
        let machine = Machine::new();
        machine.has(path, theirs);
        let before = machine.files();
        machine.well(client, PLAIN, &["--apply"]);
        assert_eq!(machine.read(&format!("{path}.before-pullthrough")), theirs, "{client}");
        assert_ne!(machine.read(path), theirs, "{client}");
        machine.well(client, PLAIN, &["--undo"]);
        assert_eq!(machine.files(), before, "{client}");
    }
}

#[test]
fn a_daemons_other_keys_stay_whichever_program_merges() {
    let theirs =
        r#"{"log-opts": {"max-size": "1m"}, "registry-mirrors": ["https://a.example"], "insecure-registries": ["b"]}"#;
    let merged = |text: &str| {
        let all: Value = serde_json::from_str(text).unwrap();
        assert_eq!(all["log-opts"]["max-size"], "1m", "{text}");
        assert_eq!(all["registry-mirrors"], serde_json::json!([PLAIN, "https://a.example"]), "{text}");
        assert_eq!(all["insecure-registries"], serde_json::json!(["m.example:5000", "b"]), "{text}");
    };
    let without = |text: &str| {
        let (all, before): (Value, Value) =
            (serde_json::from_str(text).unwrap(), serde_json::from_str(theirs).unwrap());
        assert_eq!(all, before, "{text}");
    };
    let machine = Machine::new();
    machine.has(DAEMON, theirs);
    machine.well("docker", PLAIN, &["--apply"]);
    merged(&machine.read(DAEMON));
    machine.well("docker", PLAIN, &["--undo"]);
    without(&machine.read(DAEMON));

    let script = script_of("docker", PLAIN);
    for tool in ["jq", "python3"] {
        if !is_installed(tool) {
            eprintln!("{tool} is not installed: its merge is left out");
            continue;
        }
        let machine = Machine::new();
        machine.has(DAEMON, theirs);
        // A machine with the usual programs and this one.
        let usual =
            ["sh", "sed", "grep", "cat", "tr", "cut", "head", "tail", "mktemp", "rm", "mv", "cp", "cmp", "dirname"];
        for name in usual.into_iter().chain(["mkdir", "rmdir", "id", tool]) {
            let ask = match name {
                "python3" => "python3 -c 'import sys; print(sys.executable)'".to_owned(), // it may be a shim
                other => format!("command -v {other}"),
            };
            let found = said(&Command::new("sh").args(["-c", &ask]).output().unwrap());
            machine.tool(name, &format!("exec {} \"$@\"", found.trim()));
        }
        let path = machine.tools.path().to_str().unwrap().to_owned();
        for _ in 0..2 {
            let done = machine.script(&script, &[], &[], &path);
            assert!(done.status.success(), "{tool}: {}", said(&done));
            merged(&machine.read(DAEMON));
        }
        let done = machine.script(&script, &["undo"], &[], &path);
        assert!(done.status.success(), "{tool}: {}", said(&done));
        without(&machine.read(DAEMON));
    }
}

#[test]
fn what_cannot_be_parsed_or_belongs_to_others_is_refused_and_nothing_is_changed() {
    let table = [
        ("docker", DAEMON, "{\"registry-mirrors\": [\n", "is not a JSON object"),
        ("docker", DAEMON, "[]", "is not a JSON object"),
        ("docker", DAEMON, "{\"registry-mirrors\": \"x\"}", "is not a list"),
        ("k3s", "/etc/rancher/k3s/registries.yaml", "configs: {}\n", "settings of its own"),
        ("rke2", "/etc/rancher/rke2/registries.yaml", "mirrors: {}\n", "settings of its own"),
        (
            "buildkit",
            "/etc/buildkit/buildkitd.toml",
            "[registry.'docker.io']\nmirrors = []\n",
            "already has [registry.",
        ),
        (
            "containerd",
            CONTAINERD,
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\nendpoint = [\"https://a\"]\n",
            "registry.mirrors or registry.configs",
        ),
        ("containerd", CONTAINERD, "version = [\n", "containerd cannot read"),
        (
            "containerd",
            CONTAINERD,
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/other\"\n",
            "config_path in /etc/containerd/config.toml is /etc/other",
        ),
    ];
    for (client, path, theirs, expected) in table {
        if client == "containerd" && !is_installed("containerd") && !expected.contains("mirrors") {
            eprintln!("containerd is not installed: its judgement is left out");
            continue;
        }
        let machine = Machine::new();
        machine.has(path, theirs);
        let before = machine.files();
        let refused = machine.setup(client, PLAIN, &["--apply"]);
        assert_eq!(refused.status.code(), Some(1), "{client}: {}", said(&refused));
        assert!(said(&refused).contains(expected), "{client}: {}", said(&refused));
        assert_eq!(machine.files(), before, "{client}");
    }
}

#[test]
fn containerd_reads_the_folder_afterwards_whatever_its_configuration_looks_like() {
    if !is_installed("containerd") {
        return eprintln!("containerd is not installed: its judgement is left out");
    }
    let usual = Command::new("containerd").args(["config", "default"]).output().unwrap();
    let table = [
        ("default", String::from_utf8(usual.stdout).unwrap()),
        ("version 1", "disabled_plugins = []\n[plugins.cri]\n  sandbox_image = \"pause\"\n".to_owned()),
        ("version 1 with the table", "[plugins.cri.registry]\n".to_owned()),
        ("version 2", "version = 2\nroot = \"/srv\"\n".to_owned()),
        ("version 2 with the table", "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\n".to_owned()),
        ("none", String::new()),
    ];
    for (name, theirs) in table {
        let machine = Machine::new();
        if !theirs.is_empty() {
            machine.has(CONTAINERD, &theirs);
        }
        let before = machine.files();
        for _ in 0..2 {
            machine.well("containerd", PLAIN, &["--apply"]);
        }
        let file = machine.at(CONTAINERD);
        let dump = Command::new("containerd").arg("--config").arg(&file).args(["config", "dump"]).output().unwrap();
        let dump = said(&dump);
        let paths = dump.lines().filter(|line| line.trim().starts_with("config_path")).collect::<Vec<_>>();
        assert_eq!(paths.len(), 1, "{name}: {dump}");
        assert!(paths[0].contains("/etc/containerd/certs.d"), "{name}: {paths:?}");
        machine.well("containerd", PLAIN, &["--undo"]);
        if !name.ends_with("table") {
            assert_eq!(machine.files(), before, "{name}");
        }
    }
}

#[test]
fn podman_reads_the_mirrors_in_order() {
    if !is_installed("podman") {
        return eprintln!("podman is not installed: its judgement is left out");
    }
    let machine = Machine::new();
    machine.well("podman", PLAIN, &["--apply", "--registry", "docker.io", "--registry", "quay.io"]);
    let file = machine.at("/etc/containers/registries.conf.d/50-pullthrough.conf");
    let stored = machine.root.path().join("storage");
    let mut podman = Command::new("podman");
    podman.arg("--root").arg(&stored).arg("--runroot").arg(stored.join("run")).args(["--storage-driver", "vfs"]);
    let told = podman.args(["info", "--format", "{{json .Registries}}"]).env("CONTAINERS_REGISTRIES_CONF", &file);
    let told = told.output().unwrap();
    if !told.status.success() {
        return eprintln!("podman does not run here: {}", said(&told));
    }
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    for name in ["docker.io", "quay.io"] {
        assert_eq!(told[name]["Location"], name, "{told}");
        let mirror = &told[name]["Mirrors"][0];
        assert_eq!(mirror["Location"], format!("m.example:5000/{name}"), "{told}");
        assert_eq!(mirror["Insecure"], true, "{told}");
    }
}

#[test]
fn a_registry_with_a_port_has_the_name_that_the_mirror_has_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.yaml");
    let text = "registries: {docker.io: {}, 'r.example.com:5000': {}, 's.example.com:5000': {}}\n\
                mirror: {names: {/reg: 'r.example.com:5000', /part: 's.example.com:5000/team'}}\n";
    fs::write(&config, text).unwrap();
    for client in ["podman", "skopeo", "buildah", "crio"] {
        let told = Machine::new().well(client, PLAIN, &["--config", config.to_str().unwrap()]);
        assert!(told.contains("location = \"m.example:5000/reg\""), "{told}");
        assert!(!told.contains("location = \"s.example"), "{told}");
        assert!(told.contains("s.example.com:5000 is left out"), "{told}");
    }
    let refused = Machine::new().setup("podman", PLAIN, &["--registry", "r.example.com:5000"]);
    assert!(refused.status.code() == Some(1) && said(&refused).contains("mirror.names"), "{}", said(&refused));
}

#[test]
fn a_mirror_of_one_registry_is_undone_as_it_was_applied() {
    let machine = Machine::new();
    let before = machine.files();
    let told = machine.well("containerd", "http://m.example:5000/quay.io", &["--apply"]);
    let hosts = machine.read("/etc/containerd/certs.d/quay.io/hosts.toml");
    assert!(hosts.contains("[host.\"http://m.example:5000/v2/quay.io\"]\n"), "{hosts}");
    assert!(told.contains("pullthrough setup containerd --mirror http://m.example:5000/v2/quay.io --undo"), "{told}");
    machine.well("containerd", "http://m.example:5000/v2/quay.io", &["--undo"]);
    assert_eq!(machine.files(), before);
}

#[test]
fn a_mirror_script_that_was_cut_short_changes_nothing() {
    let machine = Machine::new();
    let (script, before) = (script_of("docker", PLAIN), machine.files());
    let lines: Vec<&str> = script.lines().collect();
    for kept in (0..lines.len()).step_by(7).chain([lines.len() - 1]) {
        machine.script(&lines[..kept].join("\n"), &[], &[], &machine.path());
        assert_eq!(machine.files(), before, "{kept} of {} lines ran", lines.len());
    }
}

#[test]
fn the_mirror_scripts_are_clean() {
    if !is_installed("shellcheck") {
        return eprintln!("shellcheck is not installed: its judgement is left out");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut check = Command::new("shellcheck");
    check.args(["--shell=sh", "--severity=style"]);
    for (number, client) in SCRIPTED.iter().enumerate() {
        let file = folder.path().join(client);
        fs::write(&file, script_of(client, [PLAIN, TLS][number % 2])).unwrap();
        check.arg(file);
    }
    let judged = check.output().unwrap();
    assert!(judged.status.success(), "{}", said(&judged));
}

#[test]
fn a_client_without_mirrors_says_what_to_do_instead() {
    let machine = Machine::new();
    for (client, url, expected) in [
        ("env", PLAIN, "--proxy"),
        ("gitlab-runner", PLAIN, "setup docker"),
        ("docker", "http://m/v2/x", "with a path"),
    ] {
        let refused = machine.setup(client, url, &[]);
        assert!(refused.status.code() == Some(1) && said(&refused).contains(expected), "{}", said(&refused));
    }
    let kind = machine.well("kind", PLAIN, &[]);
    for expected in ["kind create cluster --config kind-pullthrough.yaml", "certs.d/_default/hosts.toml", "extraMounts"]
    {
        assert!(kind.contains(expected), "{kind}");
    }
    let told = machine.well("docker", PLAIN, &["--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["merged"][0]["path"], &told["can_apply"]), (&DAEMON.into(), &true.into()), "{told}");
    let both = machine.setup("docker", PLAIN, &["--proxy", "http://p:3128"]);
    assert_eq!(both.status.code(), Some(2), "{}", said(&both));
}

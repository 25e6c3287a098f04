//! Setting clients up: the scripts that the proxy serves, run in a scratch root, and the commands beside them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pullthrough::ca::Overview;

use crate::service::get;
use crate::support::{Plan, Proxy, Registry};

const SCRIPTED: [&str; 10] =
    ["docker", "systemd", "containerd", "podman", "buildah", "crio", "buildkit", "k3s", "rke2", "microk8s"];

/// A proxy, and the root folder of a machine that is to be set up for it.
struct Lab {
    proxy: Proxy,
    _registry: Registry,
    root: tempfile::TempDir,
    tools: tempfile::TempDir,
}

impl Lab {
    async fn new() -> Self {
        Self::with("").await
    }

    async fn with(clients: &str) -> Self {
        let registry = Registry::start("quay.io");
        let proxy = Plan::new().registry(&registry, "").clients(clients).start().await;
        let (root, tools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // What the script runs in the other root is written down instead.
        let chroot = "#!/bin/sh\necho \"$@\" >>\"$(dirname \"$0\")/run\"\n";
        fs::write(tools.path().join("chroot"), chroot).unwrap();
        fs::set_permissions(tools.path().join("chroot"), fs::Permissions::from_mode(0o755)).unwrap();
        let lab = Self { proxy, _registry: registry, root, tools };
        lab.has("/usr/local/share/ca-certificates/");
        lab
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    /// The machine has this file, or folder.
    fn has(&self, path: &str) {
        if path.ends_with('/') {
            return fs::create_dir_all(self.at(path)).unwrap();
        }
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), "theirs\n").unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn ran(&self) -> String {
        fs::read_to_string(self.tools.path().join("run")).unwrap_or_default()
    }

    fn fingerprint(&self) -> String {
        Overview::read(self.proxy.ca_file().parent().unwrap()).unwrap().unwrap().fingerprint
    }

    async fn page(&self, path: &str) -> (u16, String) {
        let (address, path) = (self.proxy.address(), path.to_owned());
        let page = tokio::task::spawn_blocking(move || get(address, &path)).await.unwrap().unwrap();
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    async fn script(&self, client: &str) -> String {
        let (status, script) = self.page(&format!("/setup/{client}")).await;
        assert_eq!(status, 200, "{script}");
        script
    }

    /// Runs a script as `curl | sh -s -- FINGERPRINT` does.
    async fn run(&self, script: &str, fingerprint: &str, variables: &[(&str, &Path)]) -> Output {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("sh");
        shell.args(["-s", "--", fingerprint]).env_clear();
        shell.env("PATH", format!("{}:{path}", self.tools.path().display())).env("PULLTHROUGH_ROOT", self.root.path());
        shell.envs(variables.iter().copied());
        if !["curl", "wget"].into_iter().any(is_installed) {
            shell.env("PULLTHROUGH_CA_FILE", self.proxy.ca_file());
        }
        feed(shell, script.to_owned()).await
    }
}

fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

async fn feed(mut command: Command, text: String) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = move || {
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(text.as_bytes()); // a script that gives up early reads no further
        child.wait_with_output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn words(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn pem(text: &str) -> String {
    text.split_whitespace().collect()
}

#[tokio::test]
async fn a_script_trusts_the_ca_and_writes_the_clients_files() {
    let table = [
        ("docker", "/etc/systemd/system/docker.service.d/pullthrough.conf"),
        ("systemd", "/etc/systemd/system/docker.service.d/pullthrough.conf"),
        ("containerd", "/etc/systemd/system/containerd.service.d/pullthrough.conf"),
        ("crio", "/etc/systemd/system/crio.service.d/pullthrough.conf"),
        ("buildkit", "/etc/systemd/system/buildkit.service.d/pullthrough.conf"),
        ("podman", "/etc/containers/containers.conf.d/50-pullthrough.conf"),
    ];
    for (client, file) in table {
        let lab = Lab::new().await;
        let done = lab.run(&lab.script(client).await, &lab.fingerprint(), &[]).await;
        assert!(done.status.success(), "{client}: {}", words(&done.stderr));
        let url = format!("HTTPS_PROXY=http://{}\"", lab.proxy.address());
        assert!(lab.read(file).contains(&url), "{}", lab.read(file));
        let installed = lab.read("/usr/local/share/ca-certificates/pullthrough.crt");
        assert_eq!(pem(&installed), pem(&fs::read_to_string(lab.proxy.ca_file()).unwrap()));
        assert!(lab.ran().ends_with(" update-ca-certificates\n"), "{}", lab.ran());
        let said = words(&done.stdout);
        assert!(said.contains("Undo") && said.contains(&format!("rm {file}")), "{said}");
    }
}

#[tokio::test]
async fn the_ca_goes_where_the_family_of_distributions_keeps_it() {
    for (folder, update) in [
        ("/etc/pki/ca-trust/source/anchors/", "update-ca-trust"),
        ("/etc/ca-certificates/trust-source/anchors/", "update-ca-trust"),
        ("/etc/pki/trust/anchors/", "update-ca-certificates"),
    ] {
        let lab = Lab::new().await;
        lab.has(folder);
        let done = lab.run(&lab.script("docker").await, &lab.fingerprint(), &[]).await;
        assert!(done.status.success(), "{}", words(&done.stderr));
        assert!(lab.read(&format!("{folder}pullthrough.crt")).contains("BEGIN CERTIFICATE"));
        assert!(lab.ran().ends_with(&format!(" {update}\n")), "{}", lab.ran());
    }
    let lab = Lab::new().await;
    fs::remove_dir(lab.at("/usr/local/share/ca-certificates")).unwrap();
    let failed = lab.run(&lab.script("docker").await, &lab.fingerprint(), &[]).await;
    assert!(words(&failed.stderr).contains("install the package ca-certificates"), "{}", words(&failed.stderr));
}

#[tokio::test]
async fn without_the_right_fingerprint_nothing_is_changed() {
    let lab = Lab::new().await;
    let script = lab.script("docker").await;
    let right = lab.fingerprint();
    let wrong = right.replace(|c: char| c.is_ascii_hexdigit(), "0");
    let table = [
        (String::new(), "fingerprint is missing"),
        (wrong, "this is another CA"),
        (right[..20].to_owned(), "not a SHA-256"),
        (format!("{}!", &right[..right.len() - 1]), "hexadecimal"),
    ];
    for (fingerprint, expected) in table {
        let refused = lab.run(&script, &fingerprint, &[]).await;
        assert_eq!(refused.status.code(), Some(1));
        assert!(words(&refused.stderr).contains(expected), "{}", words(&refused.stderr));
    }
    // A second certificate behind the right one would be trusted with it.
    let two = lab.root.path().join("two.crt");
    let one = fs::read_to_string(lab.proxy.ca_file()).unwrap();
    fs::write(&two, format!("{one}{one}")).unwrap();
    let refused = lab.run(&script, &right, &[("PULLTHROUGH_CA_FILE", &two)]).await;
    assert!(words(&refused.stderr).contains("exactly one certificate"), "{}", words(&refused.stderr));
    assert!(!lab.at("/etc").exists() && !lab.at("/usr/local/share/ca-certificates/pullthrough.crt").exists());
    assert_eq!(lab.ran(), "");
}

#[tokio::test]
async fn a_fingerprint_may_be_written_in_any_way_and_come_from_the_environment() {
    let lab = Lab::new().await;
    let script = lab.script("docker").await;
    let plain = lab.fingerprint().replace(':', "").to_lowercase();
    assert!(lab.run(&script, &plain, &[]).await.status.success());
    let done = lab.run(&script, "", &[("PULLTHROUGH_FINGERPRINT", Path::new(&lab.fingerprint()))]).await;
    assert!(done.status.success(), "{}", words(&done.stderr));
}

#[tokio::test]
async fn a_script_that_was_cut_short_changes_nothing() {
    let lab = Lab::new().await;
    let script = lab.script("docker").await;
    let lines: Vec<&str> = script.lines().collect();
    for kept in 0..lines.len() {
        lab.run(&lines[..kept].join("\n"), &lab.fingerprint(), &[]).await;
        assert!(!lab.at("/etc").exists() && lab.ran().is_empty(), "{kept} of {} lines ran", lines.len());
    }
}

#[tokio::test]
async fn what_the_machine_lacks_is_found_before_anything_is_changed() {
    let lab = Lab::new().await;
    let script = lab.script("docker").await;
    let tool = |name: &str, text: &str| {
        fs::write(lab.tools.path().join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(lab.tools.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    tool("id", "echo 0");
    let nobodys = "0".repeat(64); // so that this machine would not be changed, whatever the script does
    for (loaded, expected) in [("not-found", "systemd has no docker.service"), ("loaded", "this is another CA")] {
        tool("systemctl", &format!("echo LoadState={loaded}"));
        let refused = lab.run(&script, &nobodys, &[("PULLTHROUGH_ROOT", Path::new(""))]).await;
        assert!(words(&refused.stderr).contains(expected), "{}", words(&refused.stderr));
    }
}

#[tokio::test]
async fn a_password_is_for_root_alone_and_is_not_printed() {
    let lab = Lab::new().await;
    let url = format!("http://ci:p%40ss@{}", lab.proxy.address());
    let with = [("PULLTHROUGH_PROXY", Path::new(&url))];
    let (unit, env) =
        ("/etc/systemd/system/docker.service.d/pullthrough.conf", "/var/snap/microk8s/current/args/containerd-env");
    lab.has(env);
    let mode = |path: &str| fs::metadata(lab.at(path)).unwrap().permissions().mode() & 0o777;
    for (client, file, holds) in [("docker", unit, "ci:p%%40ss@"), ("microk8s", env, "ci:p%40ss@")] {
        let script = lab.script(client).await;
        for _ in 0..2 {
            let done = lab.run(&script, &lab.fingerprint(), &with).await;
            let said = format!("{}{}", words(&done.stdout), words(&done.stderr));
            assert!(done.status.success() && !said.contains("p%40ss"), "{said}");
            assert!(mode(file) == 0o600 && lab.read(file).contains(holds), "{:o} {}", mode(file), lab.read(file));
            fs::set_permissions(lab.at(file), fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
    assert_eq!(mode("/etc/systemd/system/docker.service.d"), 0o755);
    let podman = lab.script("podman").await;
    let refused = lab.run(&podman, &lab.fingerprint(), &with).await;
    assert!(!refused.status.success() && words(&refused.stderr).contains("every user reads"), "{refused:?}");
    assert!(!lab.at("/etc/containers").exists());
    assert!(lab.run(&podman, &lab.fingerprint(), &[]).await.status.success());
    assert_eq!(mode("/etc/containers/containers.conf.d/50-pullthrough.conf"), 0o644);
    let evil = [("PULLTHROUGH_PROXY", Path::new("http://a\"b:3128"))];
    let refused = lab.run(&podman, &lab.fingerprint(), &evil).await;
    assert!(words(&refused.stderr).contains("PULLTHROUGH_PROXY"), "{refused:?}");
}

#[tokio::test]
async fn where_users_are_asked_for_a_script_wants_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("htpasswd");
    fs::write(&file, format!("ci:{}\n", bcrypt::hash("p", 4).unwrap())).unwrap();
    let lab = Lab::with(&format!("htpasswd: '{}'", file.display())).await;
    let script = lab.script("docker").await;
    let refused = lab.run(&script, &lab.fingerprint(), &[]).await;
    assert!(words(&refused.stderr).contains("PULLTHROUGH_PROXY=http://user:password@"), "{refused:?}");
    assert!(!lab.at("/etc").exists());
    let url = format!("http://ci:p@{}", lab.proxy.address());
    let done = lab.run(&script, &lab.fingerprint(), &[("PULLTHROUGH_PROXY", Path::new(&url))]).await;
    assert!(done.status.success(), "{}", words(&done.stderr));
}

#[test]
fn the_scripts_own_variables_are_no_mistakes_of_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let mut page = program(&["setup", "docker"]);
    page.current_dir(folder.path())
        .env("PULLTHROUGH_FINGERPRINT", "00")
        .env("PULLTHROUGH_LISTEN_PROXY", "10.20.0.5:3128");
    let page = page.output().unwrap();
    assert!(words(&page.stdout).contains("HTTPS_PROXY=http://10.20.0.5:3128"), "{page:?}");
}

#[tokio::test]
async fn only_what_is_installed_is_set_up() {
    let lab = Lab::new().await;
    let script = lab.script("k3s").await;
    let none = lab.run(&script, &lab.fingerprint(), &[]).await;
    assert!(words(&none.stderr).contains("k3s is not installed here"), "{}", words(&none.stderr));
    lab.has("/etc/systemd/system/k3s-agent.service");
    assert!(lab.run(&script, &lab.fingerprint(), &[]).await.status.success());
    let units = lab.at("/etc/systemd/system");
    let file = fs::read_to_string(units.join("k3s-agent.service.d/pullthrough.conf")).unwrap();
    assert!(file.contains("CONTAINERD_HTTPS_PROXY=http://") && !units.join("k3s.service.d").exists(), "{file}");
    lab.has("/usr/lib/systemd/system/rke2-server.service"); // as RKE2's RPM has it
    assert!(lab.run(&script, &lab.fingerprint(), &[]).await.status.success());
    assert!(units.join("rke2-server.service.d/pullthrough.conf").exists());
}

#[tokio::test]
async fn lines_in_a_file_of_others_are_there_once_and_theirs_stay() {
    let lab = Lab::new().await;
    let file = "/var/snap/microk8s/current/args/containerd-env";
    lab.has(file);
    let script = lab.script("microk8s").await;
    for _ in 0..2 {
        let done = lab.run(&script, &lab.fingerprint(), &[]).await;
        assert!(done.status.success(), "{}", words(&done.stderr));
    }
    let text = lab.read(file);
    assert!(text.starts_with("theirs\n") && text.matches("HTTPS_PROXY=").count() == 1, "{text}");
}

#[tokio::test]
async fn what_no_script_can_do_is_told_in_words() {
    let lab = Lab::new().await;
    for (client, expected) in [("kind", "kind get nodes"), ("gitlab-runner", "config.toml"), ("nobody", "docker")] {
        let (status, page) = lab.page(&format!("/setup/{client}")).await;
        assert!(status == 404 && page.contains(expected), "{client}: {page}");
    }
}

#[tokio::test]
async fn the_scripts_are_clean() {
    if !is_installed("shellcheck") {
        return eprintln!("shellcheck is not installed: its judgement is left out");
    }
    let lab = Lab::new().await;
    for client in SCRIPTED {
        let script = lab.script(client).await;
        let mut check = Command::new("shellcheck");
        check.args(["--shell=sh", "--severity=style", "-"]);
        let judged = feed(check, script).await;
        assert!(judged.status.success(), "{client}: {}", words(&judged.stdout));
    }
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullthrough"));
    command.args(arguments).env_clear().env("PATH", std::env::var("PATH").unwrap_or_default());
    command
}

#[tokio::test]
async fn the_command_prints_what_the_script_does_and_applies_it() {
    let lab = Lab::new().await;
    let config = lab.proxy.ca_file().parent().unwrap().parent().unwrap().join("pullthrough.yaml");
    let config = config.to_str().unwrap();
    let page = program(&["setup", "docker", "--proxy", "http://p.example:3128", "--config", config]).output().unwrap();
    let page = words(&page.stdout);
    for expected in
        ["/etc/systemd/system/docker.service.d/pullthrough.conf", "HTTPS_PROXY=http://p.example:3128", "Undo"]
    {
        assert!(page.contains(expected), "{page}");
    }
    let root = lab.root.path().to_str().unwrap();
    let path = format!("{}:{}", lab.tools.path().display(), std::env::var("PATH").unwrap_or_default());
    let mut apply = program(&["setup", "docker", "--apply", "--root", root, "--config", config]);
    let applied = apply.env("PATH", &path).output().unwrap();
    assert!(applied.status.success(), "{}", words(&applied.stderr));
    assert!(lab.read("/usr/local/share/ca-certificates/pullthrough.crt").contains("BEGIN CERTIFICATE"));
    let unknown = program(&["setup", "docker", "--apply", "--proxy", "http://p.example:3128", "--config", config])
        .output()
        .unwrap();
    assert!(unknown.status.code() == Some(1) && words(&unknown.stderr).contains("--fingerprint"), "{unknown:?}");
    let told = program(&["setup", "docker", "--json", "--proxy", "http://p.example:3128", "--config", config]);
    let told: serde_json::Value = serde_json::from_slice(&{ told }.output().unwrap().stdout).unwrap();
    assert_eq!((&told["client"], &told["can_apply"]), (&"docker".into(), &true.into()));
    let file = &told["files"][0];
    assert!(page.contains(file["path"].as_str().unwrap()) && page.contains(file["text"].as_str().unwrap()), "{told}");
    assert_eq!(told["run"][1], "systemctl restart docker");
    let both = program(&["setup", "docker", "--json", "--apply"]).output().unwrap();
    assert_eq!(both.status.code(), Some(2));
    assert_eq!(program(&["setup", "nobody"]).output().unwrap().status.code(), Some(2));
}

#[tokio::test]
async fn trust_is_given_told_and_taken_back() {
    let lab = Lab::new().await;
    let (root, ca) = (lab.root.path().to_str().unwrap(), lab.proxy.ca_file());
    let path = format!("{}:{}", lab.tools.path().display(), std::env::var("PATH").unwrap_or_default());
    let asked = |what: &str, print: &[&str]| {
        let mut command = program(&["trust", what, "--root", root, "--ca", ca.to_str().unwrap()]);
        command.args(print).env("PATH", &path).output().unwrap()
    };
    let trust = |what: &str| asked(what, &[]);
    let status = |expected: i32, words_of: &str| {
        let json = asked("status", &["--json"]);
        if let Ok(json) = serde_json::from_slice::<serde_json::Value>(&json.stdout) {
            assert_eq!((&json["trusted"], &json["found"].is_null()), (&(expected == 0).into(), &(expected == 0)));
            assert_eq!(json["file"], lab.at("/usr/local/share/ca-certificates/pullthrough.crt").to_str().unwrap());
        } else {
            assert_eq!(words_of, "ca-certificates", "only without a store there is nothing to tell");
        }
        assert_eq!(json.status.code(), Some(expected));
        let told = trust("status");
        let said = format!("{}{}", words(&told.stdout), words(&told.stderr));
        assert!(told.status.code() == Some(expected) && said.contains(words_of), "{said}");
    };
    status(1, "pullthrough trust install");
    let installed = trust("install");
    assert!(installed.status.success(), "{}", words(&installed.stderr));
    status(0, "trusted");
    let other = fs::read_to_string(crate::support::lab::ca_file()).unwrap();
    fs::write(lab.at("/usr/local/share/ca-certificates/pullthrough.crt"), other).unwrap();
    status(1, "another CA");
    assert!(trust("remove").status.success());
    status(1, "pullthrough trust install");
    assert_eq!(lab.ran().lines().count(), 2);
    fs::remove_dir(lab.at("/usr/local/share/ca-certificates")).unwrap();
    status(1, "ca-certificates");
}

#[test]
fn completions_and_pages_are_made_from_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let made = program(&["completions", shell]).output().unwrap();
        assert!(made.status.success() && words(&made.stdout).contains("serve"), "{shell}");
    }
    let page = program(&["man"]).output().unwrap();
    assert!(words(&page.stdout).contains(".TH pullthrough"), "{page:?}");
    let folder = tempfile::tempdir().unwrap();
    assert!(program(&["man", "--dir", folder.path().to_str().unwrap()]).status().unwrap().success());
    assert!(folder.path().join("pullthrough-serve.1").is_file());
}

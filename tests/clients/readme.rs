//! What the README tells a newcomer to type, typed: its blocks are read out of the file and run.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::client::{Kind, Way};
use crate::lab::{Lab, Process, Shape, command, eventually, run};
use crate::proxy::{Proxy, free};

const README: &str = include_str!("../../README.md");
/// The address that the README uses; tests have another port.
const ADDRESS: &str = "127.0.0.1:3128";

/// The fenced blocks of one language, in their order.
fn blocks(language: &str) -> Vec<&'static str> {
    let opened = README.split("\n```").filter_map(|part| part.strip_prefix(language)?.strip_prefix('\n'));
    opened.collect()
}

/// The block of shell that holds `text`, for a proxy at `address`.
fn shell(text: &str, address: SocketAddr) -> String {
    let block = blocks("sh").into_iter().find(|block| block.contains(text)).expect("the README has such a block");
    block.replace(ADDRESS, &address.to_string())
}

fn bash(script: &str, home: &std::path::Path) -> Command {
    let mut bash = command("bash", home);
    bash.args(["-euo", "pipefail", "-c", script]);
    bash
}

#[test]
fn the_readme_pulls_with_podman() {
    let lab = Lab::new();
    let image = lab.publish(&["docker.io/library/alpine:3.20"], Shape::Index, 1, 100_000);
    let proxy = Proxy::start(&lab);
    let (home, dir) = (lab.folder("podman"), proxy.dir.display());
    let at = home.display();
    let storage = format!("[storage]\ndriver = 'vfs'\ngraphroot = '{at}/root'\nrunroot = '{at}/run'\n");
    fs::write(home.join("storage.conf"), storage).unwrap();
    let script = format!("cd {dir}\n{}", shell("podman pull", proxy.listen));
    let mut pull = bash(&script, &home);
    pull.env("CONTAINERS_STORAGE_CONF", home.join("storage.conf"));
    let said = run(&mut pull, Duration::from_secs(60)).unwrap();
    assert_eq!(format!("sha256:{}", said.trim()), image.id);
}

#[test]
fn the_readme_pulls_with_docker() {
    let lab = Lab::new();
    let image = lab.publish(&["docker.io/library/alpine:3.20"], Shape::Index, 1, 100_000);
    let proxy = Proxy::start(&lab);
    let script = shell("docker pull", proxy.listen);
    let line = |prefix: &str| {
        let line = script.lines().find_map(|line| line.strip_prefix(prefix));
        line.unwrap_or_else(|| panic!("no line {prefix} in\n{script}")).to_owned()
    };
    let way = Way { proxy: line("Environment=HTTPS_PROXY="), ..proxy.way() }; // trusted by SSL_CERT_FILE here
    let docker = Kind::Docker.fresh(&lab, &way);
    assert_eq!(docker.pull(&line("docker pull ")), Ok(image.id));
}

#[test]
fn the_readme_shows_the_fingerprint_that_serve_prints() {
    let lab = Lab::new();
    let proxy = Proxy::start(&lab);
    let said = run(&mut bash(&shell("openssl x509", proxy.listen), &lab.folder("trust")), Duration::from_secs(20));
    let said = said.unwrap();
    let (_, fingerprint) = said.trim().split_once("Fingerprint=").unwrap();
    let plain = |text: &str| text.replace(':', "").to_lowercase();
    assert!(plain(&proxy.log()).contains(&plain(fingerprint)), "{fingerprint} is not in\n{}", proxy.log());
}

#[test]
fn the_configuration_in_the_readme_is_valid() {
    let home = tempfile::tempdir().unwrap();
    let files = blocks("yaml");
    assert!(!files.is_empty(), "the README shows a configuration");
    for file in files {
        fs::write(home.path().join("robot.password"), "secret\n").unwrap();
        fs::write(home.path().join("config.yaml"), file).unwrap();
        let mut check = command(env!("CARGO_BIN_EXE_pullthrough"), home.path());
        run(check.args(["check", "--config", "config.yaml"]), Duration::from_secs(20)).unwrap();
    }
}

#[test]
fn without_configuration_it_serves_and_says_what_to_do_next() {
    let home = tempfile::tempdir().unwrap();
    let (listen, admin) = (free(), free());
    let mut serve = command(env!("CARGO_BIN_EXE_pullthrough"), home.path());
    serve.arg("serve").args(["--listen", &listen.to_string(), "--admin", &admin.to_string()]);
    let process = Process::spawn("pullthrough", &mut serve, &home.path().join("log"));
    eventually("it has said what to do next", Duration::from_secs(30), || {
        let log = process.log().to_lowercase();
        [&listen.port().to_string(), "ca.crt", "sha-256", "docker", "podman", "containerd", "https_proxy"]
            .iter()
            .all(|word| log.contains(word))
    });
    assert!(home.path().join("ca/ca.crt").is_file());
    assert!(home.path().join("cache/oci-layout").is_file());
}

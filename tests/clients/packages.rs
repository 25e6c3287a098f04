//! The Debian package in a clean Debian, under a real systemd, with clients configured by the pages' own commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clean::Machine;
use crate::lab::{Lab, Shape, run};
use crate::proxy::{configuration, free};

const DOCKER: &str = include_str!("../../docs/clients/docker.md");
const PODMAN: &str = include_str!("../../docs/clients/podman.md");
/// The address that pages use.
const ADDRESS: &str = "proxy.example:3128";

/// The blocks of shell under a heading of a page, for a proxy at `address`.
fn commands(page: &str, heading: &str, address: &str) -> String {
    let section = page.split("\n## ").find_map(|section| section.strip_prefix(heading)).expect("the page has it");
    let blocks: Vec<_> = section.split("\n```").filter_map(|part| part.strip_prefix("sh\n")).collect();
    assert!(!blocks.is_empty(), "no commands under {heading}");
    blocks.join("\n").replace(ADDRESS, address)
}

/// The package, of the program that is under test: cargo-deb finds it where a release would be.
fn package() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("package");
        let (binary, file) = (target.join("release/pullthrough"), target.join("pullthrough.deb"));
        fs::create_dir_all(target.join("release")).unwrap();
        let _ = fs::remove_file(&binary);
        fs::copy(env!("CARGO_BIN_EXE_pullthrough"), &binary).unwrap();
        let mut deb = Command::new("cargo-deb"); // with this process's environment, for cargo
        deb.env("CARGO_TARGET_DIR", &target).args(["--no-build", "--no-strip", "--fast", "--output"]).arg(&file);
        deb.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        run(&mut deb, Duration::from_secs(120)).unwrap();
        file
    })
}

/// A machine with the package installed and configured for the lab; where its proxy listens.
fn installed(lab: &Lab) -> (Machine, String) {
    let machine = Machine::boot(lab);
    fs::copy(package(), machine.shared.join("pullthrough.deb")).unwrap();
    fs::copy(lab.ca_file(), machine.shared.join("lab-ca.crt")).unwrap();
    let listen = free();
    let mut config: Value = configuration(lab, listen, free());
    config["cache"]["max_size"] = json!("1GiB");
    let text = format!("{config:#}").replace(&lab.ca_file().display().to_string(), "/etc/pullthrough/lab-ca.crt");
    fs::write(machine.shared.join("config.yaml"), text).unwrap();
    machine.must("mkdir /etc/pullthrough; cp /shared/config.yaml /shared/lab-ca.crt /etc/pullthrough");
    machine.must("dpkg --install /shared/pullthrough.deb; systemctl is-active pullthrough");
    (machine, listen.to_string())
}

/// Runs a section of a page, word for word.
fn follow(machine: &Machine, page: &str, heading: &str, address: &str) -> String {
    machine.must(&commands(page, heading, address))
}

#[test]
fn docker_and_podman_pull_in_a_clean_debian_by_the_package_and_the_pages() {
    let lab = Lab::new();
    let image = lab.publish(&["docker.io/library/alpine:3.20"], Shape::Index, 1, 100_000);
    let (machine, address) = installed(&lab);
    machine.must("test \"$(systemctl show --property=User --value pullthrough)\" = ''; pgrep -x pullthrough");
    machine.must("test \"$(stat --format=%U /proc/$(pgrep -x pullthrough))\" = pullthrough");

    let fingerprint = follow(&machine, DOCKER, "Set up", &address);
    let (_, shown) = fingerprint.split_once("Fingerprint=").expect("the page shows the fingerprint");
    let shown = shown.lines().next().unwrap().trim();
    assert!(machine.must("journalctl --unit pullthrough").contains(shown), "serve printed another fingerprint");
    follow(&machine, DOCKER, "Check", &address);
    let id = machine.must("docker image inspect --format '{{.Id}}' alpine:3.20");
    assert_eq!(id.trim(), image.id);
    follow(&machine, DOCKER, "Undo", &address);
    machine.must("docker image rm alpine:3.20");
    let check = commands(DOCKER, "Check", &address);
    machine.run(&check, Duration::from_secs(60)).expect_err("there is no way to a registry but the proxy");

    follow(&machine, PODMAN, "Set up", &address);
    follow(&machine, PODMAN, "Check", &address);
    let id = machine.must("podman image inspect --format '{{.Id}}' alpine:3.20");
    assert_eq!(format!("sha256:{}", id.trim()), image.id);
    let inside = machine.must("podman create --network none alpine:3.20 true >/dev/null; podman inspect --latest");
    assert!(!inside.contains("HTTPS_PROXY"), "the proxy leaks into containers: {inside}");
    follow(&machine, PODMAN, "Undo", &address);
    machine.must("podman rm --all; podman image rm alpine:3.20");
    let check = commands(PODMAN, "Check", &address);
    machine.run(&check, Duration::from_secs(60)).expect_err("there is no way to a registry but the proxy");

    let log = machine.must("journalctl --unit pullthrough");
    assert!(log.contains("outcome=hit"), "the second client did not hit:\n{log}");
    assert_eq!(lab.docker.blob_fetches().len(), 2, "a configuration and a layer, once each, for both clients");
}

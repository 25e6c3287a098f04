//! The Debian package in a clean Debian, under a real systemd, with clients configured by the pages' own commands.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::clean::Machine;
use crate::lab::{Lab, Shape, command, once_each, run};
use crate::proxy::{configuration, fetch, free};

const DOCKER: &str = include_str!("../../docs/clients/docker.md");
const SKOPEO: &str = include_str!("../../docs/clients/skopeo.md");
const BUILDAH: &str = include_str!("../../docs/clients/buildah.md");
const PODMAN: &str = include_str!("../../docs/clients/podman.md");
/// What an earlier version's package is called.
pub(crate) const EARLIER: &str = "earlier.deb";
/// The address that pages use.
pub(crate) const ADDRESS: &str = "proxy.example:3128";

/// The blocks of shell under a heading of a page, for a proxy at `address`.
pub(crate) fn blocks(page: &str, heading: &str, address: SocketAddr) -> Vec<String> {
    let section = page.split("\n## ").find_map(|section| section.strip_prefix(heading)).expect("the page has it");
    let blocks = section.split("\n```").filter_map(|part| part.strip_prefix("sh\n"));
    let blocks: Vec<_> = blocks.map(|block| block.replace(ADDRESS, &address.to_string())).collect();
    assert!(!blocks.is_empty(), "no commands under {heading}");
    blocks
}

/// All of them.
pub(crate) fn commands(page: &str, heading: &str, address: SocketAddr) -> String {
    blocks(page, heading, address).join("\n")
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
        let mut papers = command("sh", &target);
        papers.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/papers")).arg(&binary);
        run(&mut papers, Duration::from_secs(20)).unwrap();
        let mut deb = Command::new("cargo-deb"); // with this process's environment, for cargo
        deb.env("CARGO_TARGET_DIR", &target).args(["--no-build", "--no-strip", "--fast", "--output"]).arg(&file);
        deb.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        run(&mut deb, Duration::from_secs(120)).unwrap();
        file
    })
}

/// Makes the same package as an earlier version would have brought it: another number, another configuration shipped.
fn make_earlier(folder: &Path) {
    let script = "dpkg-deb --raw-extract pullthrough.deb earlier
        sed --in-place 's/^Version: .*/Version: 0.0.9-1/' earlier/DEBIAN/control
        echo '# as it was then' >>earlier/etc/pullthrough/config.yaml
        dpkg-deb --root-owner-group -Znone --build earlier earlier.deb";
    run(command("sh", folder).args(["-ec", script]), Duration::from_secs(60)).unwrap();
}

/// A machine with the package installed and configured for the lab; where its proxy listens.
pub(crate) fn installed(lab: &Lab) -> (Machine, SocketAddr) {
    installed_from(lab, "pullthrough.deb")
}

/// The same, with `earlier.deb` to choose as well.
pub(crate) fn installed_from(lab: &Lab, package_file: &str) -> (Machine, SocketAddr) {
    let machine = Machine::boot(lab);
    fs::copy(package(), machine.shared.join("pullthrough.deb")).unwrap();
    if package_file == EARLIER {
        make_earlier(&machine.shared);
    }
    fs::copy(lab.ca_file(), machine.shared.join("lab-ca.crt")).unwrap();
    let listen = free();
    let mut config: Value = configuration(lab, listen, free());
    config["cache"] = json!({ "dir": "/var/cache/pullthrough", "max_size": "1GiB", "min_free": "0%" });
    config["ca"] = json!({ "dir": "/var/lib/pullthrough/ca" });
    let text = format!("{config:#}").replace(&lab.ca_file().display().to_string(), "/etc/pullthrough/lab-ca.crt");
    fs::write(machine.shared.join("config.yaml"), text).unwrap();
    machine.must("mkdir /etc/pullthrough; cp /shared/config.yaml /shared/lab-ca.crt /etc/pullthrough");
    install(&machine, package_file);
    machine.must("systemctl is-active pullthrough");
    (machine, listen)
}

/// Installs a package over what is there, and keeps the machine's own configuration.
pub(crate) fn install(machine: &Machine, package_file: &str) {
    machine.must(&format!("dpkg --install --force-confold /shared/{package_file}"));
}

/// Gives the listening to the socket units; where they listen. The service is stopped.
pub(crate) fn listen_by_socket(machine: &Machine) -> SocketAddr {
    let listen = free();
    let drop_in = format!("[Socket]\nListenStream=\nListenStream={listen}\n");
    fs::write(machine.shared.join("socket.conf"), drop_in).unwrap();
    machine.must(
        "mkdir /etc/systemd/system/pullthrough.socket.d; cp /shared/socket.conf /etc/systemd/system/pullthrough.socket.d
         systemctl daemon-reload; systemctl stop pullthrough; systemctl start pullthrough.socket",
    );
    listen
}

/// How many requests four callers made while `change` was under way, and how many of them got no answer.
pub(crate) fn asked_and_lost<T>(listen: SocketAddr, change: impl FnOnce() -> T) -> (usize, usize) {
    let ended = AtomicBool::new(false);
    let caller = || {
        let (mut asked, mut lost) = (0, 0);
        while !ended.load(Ordering::Relaxed) {
            asked += 1;
            lost += usize::from(fetch(listen, "/healthz").is_none_or(|said| !said.contains("200 OK")));
        }
        (asked, lost)
    };
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(caller)).collect();
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(change));
        ended.store(true, Ordering::Relaxed);
        if let Err(panic) = changed {
            std::panic::resume_unwind(panic);
        }
        callers.into_iter().map(|caller| caller.join().unwrap()).fold((0, 0), |(a, l), (x, y)| (a + x, l + y))
    })
}

/// Runs a section of a page, word for word.
pub(crate) fn follow(machine: &Machine, page: &str, heading: &str, address: SocketAddr) -> String {
    machine.must(&commands(page, heading, address))
}

#[test]
fn clients_pull_in_a_clean_debian_by_the_package_and_the_pages() {
    let lab = Lab::new();
    let image = lab.publish(&["docker.io/library/alpine:3.20"], Shape::Index, 1, 100_000);
    let (machine, address) = installed(&lab);
    let user = machine.must("stat --format=%u /proc/$(systemctl show --property=MainPID --value pullthrough)");
    assert!(user.trim().parse::<u32>().unwrap() >= 61_184, "user {user}: not one made for the run");
    let kept = machine.must("dpkg-query --show --showformat '${Conffiles}' pullthrough");
    assert!(kept.contains("/etc/pullthrough/config.yaml"), "an upgrade would overwrite it: {kept}");
    machine.must("pullthrough check --config /etc/pullthrough/config.yaml.dpkg-dist; pullthrough cache ls");

    let fingerprint = follow(&machine, DOCKER, "Set up", address);
    let (_, shown) = fingerprint.split_once("Fingerprint=").expect("the page shows the fingerprint");
    let shown = shown.lines().next().unwrap().trim();
    assert!(machine.must("pullthrough ca show").contains(shown), "commands find another CA than the service's");
    assert!(machine.must("journalctl --unit pullthrough").contains(shown), "serve printed another fingerprint");
    follow(&machine, DOCKER, "Check", address);
    let id = machine.must("docker image inspect --format '{{.Id}}' alpine:3.20");
    assert_eq!(id.trim(), image.id);
    follow(&machine, DOCKER, "Undo", address);
    machine.must("docker image rm alpine:3.20");
    let check = commands(DOCKER, "Check", address);
    machine.run(&check, Duration::from_secs(60)).expect_err("there is no way to a registry but the proxy");

    follow(&machine, PODMAN, "Set up", address);
    follow(&machine, PODMAN, "Check", address);
    let id = machine.must("podman image inspect --format '{{.Id}}' alpine:3.20");
    assert_eq!(format!("sha256:{}", id.trim()), image.id);
    let inside = machine.must("podman create --network none alpine:3.20 true >/dev/null; podman inspect --latest");
    assert!(!inside.contains("HTTPS_PROXY"), "the proxy leaks into containers: {inside}");
    machine.must(&[commands(SKOPEO, "Set up", address), commands(SKOPEO, "Check", address)].join("\n"));
    machine.must("podman rm --all; podman image rm alpine:3.20");
    follow(&machine, BUILDAH, "Check", address);
    follow(&machine, PODMAN, "Undo", address);
    machine.must("podman image rm alpine:3.20");
    let check = commands(PODMAN, "Check", address);
    machine.run(&check, Duration::from_secs(60)).expect_err("there is no way to a registry but the proxy");

    let log = machine.must("journalctl --unit pullthrough");
    assert!(log.contains("outcome=hit"), "the second client did not hit:\n{log}");
    once_each(&lab.docker.blob_fetches());
}

#[test]
fn the_units_are_in_order_and_a_restart_refuses_no_connection() {
    let lab = Lab::new();
    let (machine, address) = installed(&lab);
    let units = "pullthrough.service pullthrough.socket pullthrough-admin.socket";
    let said = machine.must(&format!("systemd-analyze verify --man=no {units} 2>&1"));
    assert_eq!(said, "", "systemd-analyze has something to say");
    machine.must("systemd-analyze security --no-pager --threshold=20 pullthrough.service >/dev/null"); // 2.0

    let listen = listen_by_socket(&machine);
    assert_eq!(fetch(address, "/healthz"), None, "the service is stopped");
    let restarts = "for i in 1 2 3; do systemctl restart pullthrough; done";
    let (asked, lost) = asked_and_lost(listen, || machine.must(restarts));
    assert!(asked > 30, "{asked} requests");
    assert_eq!(lost, 0, "of {asked} requests");
}

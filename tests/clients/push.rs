//! What real clients push fills the cache: it is pulled with the registry stopped, by those who may have it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::client::{Client, Crane, Kind, Skopeo};
use crate::lab::{BOB, Lab, OWNER, Shape, command, run};
use crate::proxy::Proxy;

/// Docker Hub as its uploads name it.
const HUB: &str = "registry-1.docker.io";
/// A copy of many gigabytes on a busy machine.
const LONG: Duration = Duration::from_secs(900);

#[test]
fn what_docker_podman_skopeo_and_crane_push_is_pulled_with_the_registry_stopped_by_its_owner_alone() {
    let lab = Lab::new();
    let source = "quay.io/lab/app:1";
    let image = lab.publish(&[source], Shape::Single, 1, 3_000_000);
    let proxy = Proxy::with(&lab, |config| config["registries"]["docker.io"]["push"] = "allow".into());
    let way = proxy.way();
    let login = [("docker.io", OWNER)];
    let mut pushers: Vec<(&str, Box<dyn Client>)> = vec![
        ("docker", Kind::Docker.fresh_with(&lab, &way, &login)),
        ("podman", Kind::Podman.fresh_with(&lab, &way, &login)),
    ];
    if Crane::program().is_some() {
        pushers.push(("crane", Box::new(Crane::fresh(&lab, &way, &[(HUB, OWNER)]))));
    }
    let to = |name: &str| format!("docker.io/private/{name}:1");
    let mut names = vec![to("skopeo")];
    image.push(&names[0], &way.proxy, &way.trust).unwrap();
    for (name, pusher) in pushers {
        pusher.pull(source).unwrap();
        // An upload goes on at the name that the registry has for itself, and crane does not send its body twice.
        let host = if name == "crane" { HUB } else { "docker.io" };
        pusher.push(source, &format!("{host}/private/{name}:1")).unwrap();
        names.push(to(name));
    }
    let fetched = lab.docker.blob_fetches();
    lab.stop_all();
    for name in names {
        let pulled = Skopeo::with_credentials(&lab, &way, OWNER).pull(&name);
        assert_eq!(pulled, Ok(image.id.clone()), "{name}\n{}", proxy.log());
        Skopeo::with_credentials(&lab, &way, BOB).pull(&name).expect_err("another one's push was served");
        Kind::Podman.fresh(&lab, &way).pull(&name).expect_err("a private push was served to anybody");
    }
    assert_eq!(lab.docker.blob_fetches(), fetched);
}

#[test]
fn half_a_gigabyte_is_pushed_and_pulled_in_little_memory() {
    pushed_and_pulled(512 << 20);
}

#[test]
#[ignore = "takes minutes, and 20 GB of disk (2 for each GiB of PUSH_GIB)"]
fn ten_gigabytes_are_pushed_and_pulled_in_little_memory() {
    let gibibytes = std::env::var("PUSH_GIB").map_or(10, |said| said.parse().unwrap());
    pushed_and_pulled(gibibytes << 30);
}

/// Pushes a blob of so many bytes in one request, and pulls it with the registry stopped.
fn pushed_and_pulled(length: u64) {
    const MOST: u64 = 150 << 20;
    let lab = Lab::new();
    let proxy = Proxy::with(&lab, |config| {
        config["registries"]["quay.io"]["push"] = "allow".into();
        config["cache"]["max_size"] = json!(format!("{}MiB", 2 * (length >> 20)));
        config["cache"]["min_free"] = "0%".into();
    });
    let home = lab.folder("large");
    fs::File::create(home.join("zeros")).unwrap().set_len(length).unwrap(); // it takes no space
    let digest = shell(&home, "sha256sum zeros");
    let digest = digest.split(' ').next().unwrap();
    let (listen, trust) = (proxy.way().proxy, proxy.way().trust);
    let curl = format!("curl --silent --show-error --fail --http1.1 --proxy {listen} --cacert {}", trust.display());
    let uploads = "https://quay.io/v2/lab/large/blobs/uploads/";
    let begun = shell(&home, &format!("{curl} --dump-header - --request POST {uploads}"));
    let location =
        begun.lines().find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("location")));
    let location = location.unwrap().1.trim();
    let blob = format!("https://quay.io/v2/lab/large/blobs/sha256:{digest}");
    let start = std::time::Instant::now();
    shell(&home, &format!("{curl} --upload-file zeros --output /dev/null '{location}&digest=sha256:{digest}'"));
    let (pushed, memory) = (start.elapsed(), peak(&proxy));
    lab.stop_all();
    let start = std::time::Instant::now();
    let got = shell(&home, &format!("{curl} '{blob}' | sha256sum"));
    assert_eq!(got.split(' ').next().unwrap(), digest, "{}", proxy.log());
    println!(
        "{length} bytes pushed in {pushed:?}, {memory} bytes of memory; pulled in {:?}, {} bytes",
        start.elapsed(),
        peak(&proxy)
    );
    assert!(peak(&proxy) < MOST, "{} bytes", peak(&proxy));
}

fn shell(home: &Path, script: &str) -> String {
    let mut shell: Command = command("bash", home);
    run(shell.args(["-o", "pipefail", "-c", script]), LONG).unwrap()
}

/// The most memory that the proxy has had, in bytes.
fn peak(proxy: &Proxy) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

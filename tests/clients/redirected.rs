//! Real clients without a proxy setting, whose connections iptables leads to the transparent door.
//!
//! The test runs itself again in a network of its own (`unshare --net --mount`): nothing of this machine's rules, routes
//! or hosts file is touched, and nothing is left of them.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::client::{Curl, Kind, Way};
use crate::lab::{EXAMPLE, Lab, Seen, Shape, command, eventually, free, once_each, run};
use crate::proxy::Proxy;

/// Set in the network of the test's own.
const INSIDE: &str = "PULLTHROUGH_TEST_INSIDE";
const NAME: &str = "redirected::clients_that_iptables_redirects_pull_through_the_same_cache";
/// Addresses of no other machine, in a network whose clients are admitted: whatever answers there is the proxy.
const ANYWHERE: &str = "10.77.0.10";
const NOWHERE: &str = "10.77.0.20";
/// A host that is no registry.
const LOOP: &str = "loop.example.net";

#[test]
fn clients_that_iptables_redirects_pull_through_the_same_cache() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    // What it says is shown only where it fails: its summary is not one of this run's.
    let ended = Command::new("unshare")
        .args(["--net", "--mount", "--fork", "--kill-child"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--test-threads=1", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ended.status.success(), "{}\n{}{}", ended.status, said(&ended.stdout), said(&ended.stderr));
}

fn inside() {
    root("ip link set lo up");
    root(&format!("ip address add {ANYWHERE}/32 dev lo"));
    let lab = Lab::new();
    let names = ["docker.io/library/app:1", "quay.io/lab/app:1", &format!("{EXAMPLE}/lab/app:1")].map(str::to_owned);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let image = lab.publish(&names, Shape::Index, 1, 1_000_000);
    let hosts = lab.folder("etc").join("hosts");
    let known = ["registry-1.docker.io", "index.docker.io", "docker.io", "auth.docker.io", "quay.io"];
    let example = EXAMPLE.split(':').next().unwrap();
    std::fs::write(&hosts, format!("127.0.0.1 localhost\n{ANYWHERE} {} {example} {LOOP}\n", known.join(" "))).unwrap();
    root(&format!("mount --bind {} /etc/hosts", hosts.display()));
    let door = free(Ipv4Addr::LOCALHOST.into()).port();
    let proxy = Proxy::with(&lab, |config| {
        config["listen"]["transparent"] = json!(format!("0.0.0.0:{door}"));
        config["tunnel"]["allow"] = json!([LOOP]);
    });
    for port in ["443", "5000"] {
        root(&format!("iptables -t nat -A OUTPUT -p tcp -d {ANYWHERE} --dport {port} -j REDIRECT --to-ports {door}"));
    }
    lab.forget();
    let way = Way { proxy: String::new(), ..proxy.way() };
    for kind in Kind::ALL {
        for name in &names {
            assert_eq!(kind.fresh(&lab, &way).pull(name).as_ref(), Ok(&image.id), "{kind:?} {name}");
        }
    }
    // The same blobs through CONNECT: nothing is downloaded again.
    for name in &names {
        assert_eq!(Kind::Skopeo.fresh(&lab, &proxy.way()).pull(name).as_ref(), Ok(&image.id), "{name}");
    }
    assert!(proxy.log().contains("door=transparent"), "{}", proxy.log());
    let fetched: Vec<Seen> = lab.registries().iter().flat_map(|(_, registry)| registry.blob_fetches()).collect();
    once_each(&fetched);
    comes_back(&lab, &proxy);
    tproxy(&lab, &proxy, door);
}

/// A host that is tunnelled has an address whose connections are redirected, the proxy's own included: no loop follows.
fn comes_back(lab: &Lab, proxy: &Proxy) {
    let way = Way { proxy: String::new(), ..proxy.way() };
    let answer = Curl::new(&lab.folder("curl"), &way, &format!("https://{LOOP}/")).body(Duration::from_secs(60));
    assert!(answer.is_err(), "{answer:?}");
    let lines = |outcome: &str| {
        let log = proxy.log();
        log.lines().filter(|line| line.contains(&format!("host={LOOP}:443")) && line.contains(outcome)).count()
    };
    eventually("both connections are recorded", Duration::from_secs(30), || {
        lines("outcome=tunnel") == 1 && lines("outcome=loop") == 1
    });
}

/// The same for connections that keep their destination, which is an address of no machine.
fn tproxy(lab: &Lab, proxy: &Proxy, door: u16) {
    root("ip rule add fwmark 1 lookup 100");
    root("ip route add local 0.0.0.0/0 dev lo table 100");
    root(&format!("ip route add {NOWHERE}/32 dev lo"));
    root(&format!("iptables -t mangle -A OUTPUT -p tcp -d {NOWHERE} --dport 443 -j MARK --set-mark 1"));
    root(&format!(
        "iptables -t mangle -A PREROUTING -p tcp -d {NOWHERE} --dport 443 -j TPROXY --on-ip 127.0.0.1 --on-port {door} --tproxy-mark 1"
    ));
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap().replace(ANYWHERE, NOWHERE);
    std::fs::write("/etc/hosts", hosts).unwrap(); // the one that was mounted over it
    let way = Way { proxy: String::new(), ..proxy.way() };
    let home = lab.folder("curl");
    let answer = Curl::new(&home, &way, "https://quay.io/v2/").body(Duration::from_secs(60));
    assert!(answer.is_ok(), "{answer:?}");
}

/// Runs a command line, which must succeed: rules, routes and mounts of the test's own network.
fn root(line: &str) {
    let mut words = line.split(' ');
    let mut command = command(words.next().unwrap(), std::path::Path::new("/"));
    run(command.args(words), Duration::from_secs(30)).unwrap_or_else(|error| panic!("{line}: {error}"));
}

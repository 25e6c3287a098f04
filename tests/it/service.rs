//! The real program as a service: what it tells its manager, sockets that outlive it, files that change under it.

mod machine;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use machine::Machine;
pub(crate) use machine::get;

use crate::support::wait_until;

#[test]
fn a_start_a_reload_and_a_stop_are_told_to_the_service_manager() {
    let mut machine = Machine::new();
    machine.start(&[]);
    let ready = machine.told("READY=1");
    assert!(ready.contains("STATUS=proxy on 127.0.0.1:"), "{ready}");
    machine.hangup();
    let reloading = machine.told("RELOADING=1");
    let now: u64 = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap().parse().unwrap();
    assert!(now > 0);
    machine.told("READY=1");
    machine.terminate();
    machine.told("STOPPING=1");
    assert!(machine.wait().success());
}

#[test]
fn a_stop_takes_as_long_as_the_drain_says_and_asks_the_manager_for_that_time() {
    let mut machine = Machine::new();
    let with_drain = |machine: &Machine, drain: &str| {
        fs::write(machine.config(), format!("{}drain: {drain}\n", machine.yaml(&["docker.io"]))).unwrap();
    };
    with_drain(&machine, "7m");
    machine.start(&[]);
    machine.told("READY=1");
    machine.terminate();
    let stopping = machine.told("STOPPING=1");
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC=450000000"), "{stopping}");
    assert!(machine.wait().success());
    let mut machine = Machine::new();
    machine.start(&[]);
    machine.told("READY=1");
    with_drain(&machine, "0s");
    machine.told("READY=1"); // it was reloaded
    let held = machine.connect_tunnel();
    machine.terminate();
    assert!(machine.wait().success());
    drop(held);
}

#[test]
fn a_port_that_is_taken_is_told_with_the_program_that_has_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut serve = crate::support::program(folder.path());
    let done = serve.args(["serve", "--listen", &taken.local_addr().unwrap().to_string()]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("(process {})", std::process::id())) && said.contains("listen.proxy"), "{said}");
}

#[test]
fn the_limit_of_open_files_is_raised_to_the_hard_one_at_start() {
    let mut machine = Machine::new();
    machine.start(&[]); // with a soft limit of 256
    machine.told("READY=1");
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let hard = files.split_whitespace().nth(4).unwrap();
    assert_eq!(machine.metric("process_max_fds"), hard);
}

#[test]
fn the_watchdog_is_told_of_life_also_while_it_drains() {
    let mut machine = Machine::new();
    machine.start(&[("WATCHDOG_USEC", "300000")]);
    machine.told("READY=1");
    machine.told("WATCHDOG=1");
    let pull = machine.connect_tunnel();
    machine.terminate();
    machine.told("STOPPING=1");
    machine.told("WATCHDOG=1");
    drop(pull);
    assert!(machine.wait().success());
}

#[test]
fn a_passed_unix_socket_is_a_door_whose_peers_are_this_machine() {
    let mut machine = Machine::new();
    let path = machine.pass_unix();
    machine.start(&[("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "proxy:admin")]);
    machine.told("READY=1");
    let ask = |head: &str| {
        let mut stream = UnixStream::connect(&path).unwrap();
        write!(stream, "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("GET /readyz").starts_with("HTTP/1.1 200"));
    assert!(ask("CONNECT 169.254.169.254:443").starts_with("HTTP/1.1 403"));
    wait_until("it is recorded as from here", || {
        machine.log().lines().any(|line| line.contains("169.254.169.254") && line.contains("client=127.0.0.1"))
    });
    machine.terminate();
    assert!(machine.wait().success());
}

#[test]
fn a_passed_socket_for_a_door_that_is_not_configured_is_no_start() {
    let mut machine = Machine::new();
    machine.start(&[("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "proxy:transparent")]);
    assert_eq!(machine.wait().code(), Some(1));
    assert!(machine.log().contains("listen.transparent"), "{}", machine.log());
}

#[test]
fn a_restart_with_passed_sockets_refuses_no_connection() {
    let mut machine = Machine::new();
    machine.start(&[("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "proxy:admin")]);
    machine.told("READY=1");
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, answered, address) = (stop.clone(), answered.clone(), machine.proxy);
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let answer = get(address, "/healthz").unwrap_or_else(|error| panic!("{error}"));
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for _ in 0..3 {
        machine.terminate();
        assert!(machine.wait().success());
        machine.start(&[("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "proxy:admin")]);
        machine.told("READY=1");
        let before = answered.load(Ordering::SeqCst);
        wait_until("answers by the new process", || answered.load(Ordering::SeqCst) > before + 8);
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().unwrap();
    }
    assert!(get(machine.admin, "/metrics").unwrap().contains("pullthrough_build_info"));
}

#[test]
fn sockets_that_are_not_understood_are_an_error_with_its_cure() {
    let mut machine = Machine::new();
    machine.start(&[("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "proxy:proxy")]);
    assert_eq!(machine.wait().code(), Some(1));
    let log = machine.log();
    assert!(log.contains("FileDescriptorName=proxy"), "{log}");
}

#[test]
fn a_changed_file_is_read_again_and_a_wrong_one_changes_nothing() {
    let mut machine = Machine::new();
    machine.start(&[]);
    machine.told("READY=1");
    let registries = |machine: &Machine| get(machine.own_proxy(), "/").unwrap();
    assert!(!registries(&machine).contains("quay.io"));
    machine.write(&["docker.io", "quay.io"]);
    machine.told("READY=1");
    assert!(registries(&machine).contains("quay.io"));
    assert_eq!(machine.metric("pullthrough_config_last_reload_successful"), "1");
    fs::write(machine.config(), "registries: {docker.io: {pus").unwrap();
    machine.told("READY=1");
    assert!(registries(&machine).contains("quay.io"));
    assert_eq!(machine.metric("pullthrough_config_last_reload_successful"), "0");
    wait_until("a line in the log", || machine.log().contains("was not reloaded"));
    let log = machine.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("was not reloaded")).collect();
    assert!(lines.len() == 1 && lines[0].contains("not valid YAML"), "{log}");
    machine.write(&["ghcr.io"]);
    machine.told("READY=1");
    assert!(registries(&machine).contains("ghcr.io"));
    assert_eq!(machine.metric("pullthrough_config_last_reload_successful"), "1");
}

#[test]
fn a_config_map_that_is_swapped_is_read_again() {
    let mut machine = Machine::new();
    let at = |name: &str| machine.folder().join(name);
    for (version, registry) in [("..1", "quay.io"), ("..2", "ghcr.io")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("pullthrough.yaml"), machine.yaml(&[registry])).unwrap();
    }
    fs::remove_file(machine.config()).unwrap();
    symlink("..1", at("..data")).unwrap();
    symlink("..data/pullthrough.yaml", machine.config()).unwrap();
    let (new, data) = (at("..data_tmp"), at("..data"));
    machine.start(&[]);
    machine.told("READY=1");
    symlink("..2", &new).unwrap();
    fs::rename(&new, &data).unwrap();
    machine.told("READY=1");
    let page = get(machine.own_proxy(), "/").unwrap();
    assert!(page.contains("ghcr.io") && !page.contains("quay.io"), "{page}");
}

#[test]
fn a_configuration_that_names_a_missing_file_is_read_again_until_it_is_there() {
    let mut machine = Machine::new();
    machine.start(&[]);
    machine.told("READY=1");
    let file = machine.folder().join("later.crt");
    let mut yaml = machine.yaml(&["docker.io"]);
    yaml.push_str(&format!("upstream: {{hosts: {{cdn.test: {{ca_file: {}}}}}}}\n", file.display()));
    fs::write(machine.config(), yaml).unwrap();
    wait_until("it is refused", || machine.log().contains("was not reloaded"));
    assert!(machine.log().contains("has changed files="), "{}", machine.log());
    assert_eq!(machine.metric("pullthrough_config_last_reload_successful"), "0");
    let root = fs::read_dir(machine.folder().join("ca")).unwrap().map(|entry| entry.unwrap().path());
    let root = root.into_iter().find(|path| path.ends_with("ca.crt")).unwrap();
    fs::copy(root, &file).unwrap();
    wait_until("it is read", || machine.log().contains("the configuration was reloaded"));
    assert_eq!(machine.metric("pullthrough_config_last_reload_successful"), "1");
    assert_eq!(machine.log().matches("was not reloaded").count(), 1, "a reason is told once");
}

//! The real program: its start line, JSON on every line, and `log` keys that a reload puts into effect.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{program, wait_until};

const YAML: &str =
    "listen: {proxy: '127.0.0.1:0', admin: '127.0.0.1:0'}\ncache: {dir: cache, min_free: 0%}\nca: {dir: ca}\n";

/// A running `serve` with its output in files. Dropping it kills it.
struct Serving(Child);

impl Serving {
    fn start(folder: &Path, log: &str) -> Self {
        fs::write(folder.join("pullthrough.yaml"), format!("{YAML}{log}")).unwrap();
        let (out, err) = (File::create(folder.join("out")).unwrap(), File::create(folder.join("log")).unwrap());
        let mut command = program(folder);
        let child =
            command.args(["serve", "--config", "pullthrough.yaml"]).stdin(Stdio::null()).stdout(out).stderr(err);
        Self(child.spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap()
}

/// Each line as JSON, with a time in UTC.
fn objects(text: &str) -> Vec<serde_json::Value> {
    let object = |line: &str| {
        let object: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let time = object["timestamp"].as_str().unwrap_or_else(|| panic!("no time: {line}"));
        assert!(humantime::parse_rfc3339(time).is_ok(), "{line}");
        object
    };
    text.lines().map(object).collect()
}

#[test]
fn the_start_is_one_line_with_version_file_addresses_and_limits() {
    let folder = tempfile::tempdir().unwrap();
    let mut serving = Serving::start(folder.path(), "");
    wait_until("it has started", || read(folder.path(), "log").contains(" started "));
    serving.signal(Signal::TERM);
    assert!(serving.ended().success());
    let log = read(folder.path(), "log");
    let line = log.lines().find(|line| line.contains(" started ")).unwrap();
    let version = format!("version={}", env!("CARGO_PKG_VERSION"));
    for field in [
        version.as_str(),
        "configuration=pullthrough.yaml",
        "proxy=127.0.0.1:",
        "admin=127.0.0.1:",
        "registries=",
        "cache_limit_bytes=",
        "connections=",
        "bodies=",
        "open_files=",
        "memory_bytes=",
    ] {
        assert!(line.contains(field), "{field}: {line}");
    }
    let banner = read(folder.path(), "out");
    assert!(banner.contains("configuration pullthrough.yaml"), "{banner}");
    assert!(banner.contains("Only this machine reaches the proxy"), "{banner}");
}

#[test]
fn the_banner_suggests_only_what_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let _serving = Serving::start(folder.path(), "registries: {ghcr.io: {}}\n");
    wait_until("it has started", || read(folder.path(), "out").contains("setup/docker"));
    let banner = read(folder.path(), "out");
    assert!(banner.contains("podman pull ghcr.io/") && !banner.contains("quay.io"), "{banner}");
}

#[test]
fn with_json_each_line_is_an_object_from_the_start_to_the_end_and_of_a_fatal_error_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut serving = Serving::start(folder.path(), "log: {format: json}\n");
    wait_until("it has started", || read(folder.path(), "log").contains("\"started\""));
    serving.signal(Signal::TERM);
    assert!(serving.ended().success());
    assert_eq!(read(folder.path(), "out"), "");
    let lines = objects(&read(folder.path(), "log"));
    let start = lines.iter().find(|line| line["message"] == "started").unwrap();
    assert_eq!(start["configuration"], "pullthrough.yaml");
    assert_eq!(lines.last().unwrap()["message"], "stopped");

    let fatal = [
        ("log: {format: json}\ncache: {max_size: big}\n", 2, "cache"),
        ("log: {format: json}\nlisten: {proxy: '192.0.2.1:1', admin: '127.0.0.1:0'}\n", 1, "192.0.2.1:1"),
    ];
    for (yaml, code, words) in fatal {
        let own = tempfile::tempdir().unwrap();
        fs::write(own.path().join("pullthrough.yaml"), yaml).unwrap();
        let output = program(own.path()).args(["serve", "--config", "pullthrough.yaml"]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{yaml}");
        let lines = objects(&String::from_utf8(output.stderr).unwrap());
        let last = lines.last().unwrap();
        assert_eq!(last["level"], "ERROR");
        assert!(last["message"].as_str().unwrap().contains(words), "{last}");
    }
}

#[test]
fn the_level_and_the_choice_of_access_lines_take_effect_at_reload() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(folder.path(), "log: {level: info, access: all}\n");
    wait_until("it has started", || read(folder.path(), "out").contains("listens on "));
    let out = read(folder.path(), "out");
    let (_, rest) = out.split_once("listens on ").unwrap();
    let address: std::net::SocketAddr = rest.split(';').next().unwrap().parse().unwrap();
    let ask = || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
    };
    let count = |words: &str| read(folder.path(), "log").matches(words).count();
    ask();
    wait_until("the access line is there", || count("kind=own") == 1);
    let reload = |log: &str| {
        let before = count("was reloaded");
        fs::write(folder.path().join("pullthrough.yaml"), format!("{YAML}{log}")).unwrap();
        serving.signal(Signal::HUP);
        before
    };
    let before = reload("log: {level: info, access: off}\n");
    wait_until("it is reloaded", || count("was reloaded") > before);
    assert_eq!(count("takes effect after a restart"), 0);
    ask();
    let before = reload("log: {level: debug, access: all}\n");
    wait_until("it is reloaded once more", || count("was reloaded") > before);
    ask();
    let leave = || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "CONNECT quay.io:443 HTTP/1.1\r\nhost: quay.io:443\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 12]).unwrap();
    };
    leave(); // a handshake that fails is a detail
    wait_until("details are logged", || count("DEBUG") > 0 && count("kind=own") == 2);
    reload("log: {level: info, access: all, format: json}\n");
    wait_until("the format needs a restart", || count("takes effect after a restart") == 1);
}

//! The real program as an operator runs it: a process of its own, which ends with the test.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The program that was built with the tests, or another build to compare with.
fn binary() -> String {
    std::env::var("PULLTHROUGH_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_pullthrough").to_owned())
}

/// The program in this folder, with nothing of the test's environment.
pub(crate) fn program(folder: &Path) -> Command {
    let mut command = Command::new(binary());
    command.env_clear().current_dir(folder);
    command
}

/// A running `serve`. Dropping it kills it.
pub(crate) struct Served {
    child: Child,
    proxy: SocketAddr,
    admin: SocketAddr,
}

impl Served {
    /// Serves the folder's `pullthrough.yaml`, with its log in `log`. Returns once it listens.
    pub(crate) fn start(folder: &Path, level: &str) -> Self {
        Self::start_as(program(folder), folder, level)
    }

    /// The same where so many files may be open at a time.
    pub(crate) fn start_with_files(folder: &Path, level: &str, files: usize) -> Self {
        let mut command = Command::new("/bin/sh");
        let script = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
        command.args(["-c", &script, &binary()]).env_clear().current_dir(folder);
        Self::start_as(command, folder, level)
    }

    fn start_as(mut command: Command, folder: &Path, level: &str) -> Self {
        let log = File::create(folder.join("log")).unwrap();
        command.env(pullthrough::telemetry::LEVEL_VARIABLE, level).args(["serve", "--config", "pullthrough.yaml"]);
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let proxy = line.split_once("listens on ").and_then(|(_, rest)| rest.split(';').next()?.parse().ok());
        let admin = line.split_once("metrics on http://").and_then(|(_, rest)| rest.split('/').next()?.parse().ok());
        let told = |found: Option<_>| found.unwrap_or_else(|| panic!("it does not say where it listens: {line}"));
        Self { child, proxy: told(proxy), admin: told(admin) }
    }

    /// Where its proxy listens.
    pub(crate) fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    /// Where its metrics are.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its process.
    pub(crate) fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// How many files it has open.
    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// The highest number that one of them has.
    pub(crate) fn highest_file(&self) -> u64 {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        files.filter_map(|file| file.unwrap().file_name().to_str()?.parse().ok()).max().unwrap()
    }

    /// Its resident memory, in KiB.
    pub(crate) fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How much memory it has, in bytes.
    pub(crate) fn resident(&self) -> usize {
        let pages = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * rustix::param::page_size()
    }

    /// Ends it as a service manager does.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        kill_process(self.id(), Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

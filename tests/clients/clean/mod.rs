//! A clean Debian with systemd: made by debootstrap from this machine's own package source, booted in namespaces.
//!
//! Nothing of this machine's configuration is in it, and nothing that happens in it stays. The root is made once and
//! kept in cargo's folder for tests; each machine writes over it in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::lab::{Lab, Process, command, run};

/// What it has besides the smallest Debian: the clients, and what their packages want.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,ca-certificates,curl,openssl,docker.io,podman,crun,netavark,\
    skopeo,buildah,sudo";
const MAKING: Duration = Duration::from_secs(900);
const BOOT: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_secs(10);

/// A running one; dropping it ends all of its processes.
pub(crate) struct Machine {
    first: u32,
    /// A folder that is `/shared` in it.
    pub(crate) shared: PathBuf,
    process: Option<Process>,
}

impl Machine {
    /// Boots one and waits until its manager takes orders.
    pub(crate) fn boot(lab: &Lab) -> Self {
        let (root, shared) = (root(), lab.folder("machine"));
        fs::write(shared.join("boot.sh"), include_str!("boot.sh")).unwrap();
        let mut bash = command("bash", &shared);
        bash.arg(shared.join("boot.sh")).arg(root).arg(&shared);
        let mut process = Process::spawn("machine", &mut bash, &shared.join("log"));
        let (mut first, unshare) = (None, process.id());
        process.ready(BOOT, || {
            first = child(unshare);
            let up = "systemctl is-active --quiet multi-user.target";
            first.is_some_and(|first| run(&mut inside(first, up), LOOK).is_ok())
        });
        Self { first: first.expect("it is ready"), shared, process: Some(process) }
    }

    /// A file of it, as this machine reaches it.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first))
    }

    /// Runs a script of bash in it, as root; what it printed, or all that was said when it failed.
    pub(crate) fn run(&self, script: &str, within: Duration) -> Result<String, String> {
        run(&mut inside(self.first, script), within)
    }

    /// The same, and it must not fail.
    pub(crate) fn must(&self, script: &str) -> String {
        let journal = || self.run("journalctl --no-pager --lines 60", LOOK).unwrap_or_default();
        self.run(script, Duration::from_secs(120)).unwrap_or_else(|said| panic!("{said}\n{}", journal()))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(first) = Pid::from_raw(self.first.cast_signed()) {
            let _ = kill_process(first, Signal::KILL); // and with it all others of its namespace; unshare waits for it
        }
        self.process.take();
        let own = self.shared.file_name().unwrap().to_str().unwrap();
        let groups = format!("find /sys/fs/cgroup -depth -type d -path '*/{own}*' -exec rmdir {{}} +");
        let remove = || run(command("sh", Path::new("/")).args(["-c", &groups]), LOOK).is_ok();
        let end = std::time::Instant::now() + LOOK;
        while !remove() && std::time::Instant::now() < end {} // its last processes are still ending
    }
}

/// A command in the namespaces of `first`, with an environment of its own.
fn inside(first: u32, script: &str) -> Command {
    let mut nsenter = command("nsenter", Path::new("/"));
    nsenter.args(["--target", &first.to_string(), "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wd"]);
    nsenter.args(["--", "env", "--ignore-environment", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"]);
    nsenter.args(["LC_ALL=C.UTF-8", "bash", "-euo", "pipefail", "-c", script]);
    nsenter
}

/// The process that `unshare` started: the first one of the new machine.
fn child(parent: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// The folder with the root, made if it is not there.
fn root() -> PathBuf {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clean-debian");
    let listed = kept.with_extension("packages"); // of another list of packages: made anew
    if fs::read_to_string(&listed).ok().as_deref() != Some(PACKAGES) {
        let _ = fs::remove_file(&listed);
        let _ = fs::remove_dir_all(&kept);
        let making = kept.with_extension("new");
        let _ = fs::remove_dir_all(&making); // of a run that was broken off
        let (source, suite) = source();
        let mut debootstrap = command("debootstrap", &std::env::temp_dir());
        debootstrap.args(["--variant=minbase", "--include", PACKAGES]).arg(suite).arg(&making).arg(source);
        run(&mut debootstrap, MAKING).unwrap();
        fs::rename(making, &kept).unwrap();
        fs::write(listed, PACKAGES).unwrap();
    }
    kept
}

/// Where this machine gets its packages from, and the release's name.
fn source() -> (String, String) {
    let format = ["indextargets", "--format", "$(SITE) $(REPO_URI) $(RELEASE)", "Created-By: Packages"];
    let targets = run(command("apt-get", Path::new("/")).args(format), LOOK).unwrap();
    let os = fs::read_to_string("/etc/os-release").unwrap();
    let suite = os.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).expect("a Debian with a name");
    let source = targets.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (uri, release) = (words.next()?, words.next()?);
        (release == suite).then(|| uri.to_owned())
    });
    (source.unwrap_or_else(|| panic!("no source of {suite} in\n{targets}")), suite.to_owned())
}

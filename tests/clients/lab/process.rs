//! Programs that a test starts: each is waited for in bounded time and ends with the test, by its process id.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How many lines of a program's log are shown where a test failed: the test's own words must stay in sight.
const SHOWN: usize = 20;

/// Looks again and again until there is something to see, for so long at most: the one place that waits.
pub(super) fn look<T>(within: Duration, mut see: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + within;
    loop {
        match see() {
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)), // between two looks
            seen => return seen,
        }
    }
}

/// Waits until `ready` says so; panics with `what` after `within`.
pub(crate) fn eventually(what: &str, within: Duration, mut ready: impl FnMut() -> bool) {
    let seen = look(within, || ready().then_some(()));
    assert!(seen.is_some(), "waited {within:?} in vain until {what}");
}

/// A command with nothing of this process's environment but the search path, and a home of its own.
pub(crate) fn command(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env_clear().env("PATH", format!("{path}:/usr/sbin:/sbin")).env("HOME", home).env("TMPDIR", home);
    command.env("XDG_RUNTIME_DIR", home).env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).current_dir(home);
    command
}

/// Runs to the end, at most `within`; the standard output, or everything that was said on failure.
pub(crate) fn run(command: &mut Command, within: Duration) -> Result<String, String> {
    let (out, err) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    command.stdout(out.reopen().unwrap()).stderr(err.reopen().unwrap());
    let shown = format!("{command:?}");
    let mut child = command.spawn().map_err(|error| format!("{shown}: {error}"))?;
    let status = wait(&mut child, within);
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let said = fs::read(out.path()).unwrap();
    let said = String::from_utf8_lossy(&said).into_owned();
    match status {
        Some(status) if status.success() => Ok(said),
        status => {
            let status = status.map_or_else(|| format!("still running after {within:?}"), |status| status.to_string());
            let complaint = fs::read(err.path()).unwrap();
            Err(format!("{shown}\n{status}\n{said}\n{}", String::from_utf8_lossy(&complaint)))
        }
    }
}

fn wait(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    look(within, || child.try_wait().unwrap())
}

/// A running program with a log file. Dropping it ends it, and shows the log's end when a test failed.
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it says is appended to `log`.
    pub(crate) fn spawn(name: &str, command: &mut Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { child, name: name.to_owned(), log: log.to_owned() }
    }

    /// Waits until `ready` says so; panics with the log when the program ends first, or after `within`.
    pub(crate) fn ready(&mut self, within: Duration, mut ready: impl FnMut() -> bool) {
        let seen = look(within, || {
            if ready() {
                return Some(());
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended at start, {status}:\n{}", self.name, self.log());
            }
            None
        });
        assert!(seen.is_some(), "{} is not ready after {within:?}:\n{}", self.name, self.log());
    }

    /// Everything it has said so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        let _ = kill_process(pid, signal); // it may have ended already
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        wait(&mut self.child, within)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            // Each push asks for blobs that are not there yet.
            let lines: Vec<_> = log.lines().filter(|line| !line.contains("blob unknown")).collect();
            let tail = &lines[lines.len().saturating_sub(SHOWN)..];
            let tail: Vec<_> = tail.iter().map(|line| line.get(..300).unwrap_or(line)).collect();
            if !tail.is_empty() {
                eprintln!("--- the end of {}'s log:\n{}", self.name, tail.join("\n"));
            }
        }
        self.signal(Signal::TERM);
        if self.ended(Duration::from_secs(15)).is_none() {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

//! A program under measurement: started, measured with all its children, and ended by its own id.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// Scheduler ticks a second: what /proc counts CPU in on every Linux of today.
const TICKS: f64 = 100.0;

/// A running program; dropping it ends it and its children.
pub(crate) struct Program {
    child: Child,
}

impl Program {
    /// Starts `command`, its output in `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let output = File::create(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("{command:?} cannot be started"))?;
        Ok(Self { child })
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// CPU seconds of it and its children so far, user and system.
    pub(crate) fn cpu(&self) -> f64 {
        self.family().iter().map(|pid| cpu_of(*pid)).sum()
    }

    /// Resident memory of it and its children in bytes. What they share is counted for each.
    pub(crate) fn resident(&self) -> u64 {
        self.family().iter().map(|pid| resident_of(*pid)).sum()
    }

    fn family(&self) -> Vec<u32> {
        let mut family = vec![self.child.id()];
        let parents = parents();
        let mut next = 0;
        while next < family.len() {
            let parent = family[next];
            family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        family
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let family = self.family();
        signal(self.child.id(), Signal::TERM);
        let patience = Instant::now();
        while patience.elapsed() < Duration::from_secs(3) && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Only what still has the parent that it was found with: a number may be another program's by now.
        let alive = parents();
        for pid in
            family.iter().skip(1).filter(|pid| alive.iter().any(|(of, parent)| of == *pid && family.contains(parent)))
        {
            signal(*pid, Signal::KILL);
        }
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

/// CPU seconds of this process itself: the load generator and the origin.
pub(crate) fn own_cpu() -> f64 {
    cpu_of(std::process::id())
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal); // gone already is what was wanted
    }
}

fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| Some((pid, field(pid, 1)? as u32))).collect()
}

/// A number of /proc/PID/stat, counted behind the command's name (proc(5): `state` is 0).
fn field(pid: u32, index: usize) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(index)?.parse().ok()
}

fn cpu_of(pid: u32) -> f64 {
    let (user, system) = (field(pid, 11).unwrap_or(0), field(pid, 12).unwrap_or(0));
    (user + system) as f64 / TICKS
}

fn resident_of(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

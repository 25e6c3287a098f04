//! Queues audit lines and writes them off the network task.
//!
//! A pull never waits for the log's disk. Where the queue is full or the disk refuses, lines are lost, and that
//! is counted, told in the log, and written into the audit log itself as soon as it can be. Refusals of a client that
//! sends little else are left out beyond its ration, and the next line is preceded by their number.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use serde_json::json;
use tracing::{error, info};

use super::error::AuditError;
use super::flood::Ration;
use super::line::{AuditLine, AuditOutcome, time};
use super::sink::Sink;
use crate::proxy::clients::rule_config::AuditConfig;

/// Lines that may wait: at 300 bytes each, about a megabyte.
const QUEUE: usize = 4096;

/// An open audit log. Cheap to clone; the last clone to go writes what waits and closes it.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    queue: Option<SyncSender<Arc<AuditLine>>>,
    counts: Arc<Counts>,
    ration: Mutex<Ration>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Counts {
    dropped: AtomicU64,
    /// Refusals beyond the ration.
    left_out: AtomicU64,
    reopen: AtomicBool,
}

impl Audit {
    /// Opens it and starts its writer. Blocks on the file.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn open(config: &AuditConfig) -> Result<Self, AuditError> {
        Self::with(Sink::open(config)?)
    }

    fn with(sink: Sink) -> Result<Self, AuditError> {
        let (queue, lines) = sync_channel(QUEUE);
        let counts = Arc::new(Counts::default());
        let shared = counts.clone();
        let writer = std::thread::Builder::new().name("audit".into()).spawn(move || write(sink, &lines, &shared));
        let ration = Mutex::new(Ration::new(Instant::now()));
        let writer = Mutex::new(Some(writer.map_err(AuditError::Thread)?));
        Ok(Self(Arc::new(Inner { queue: Some(queue), counts, ration, writer })))
    }

    /// Queues a line; never waits. One that finds no room is dropped and counted, as is a refusal too many.
    pub fn write(&self, line: AuditLine) {
        let Some(queue) = &self.0.queue else { return };
        let ration = || self.0.ration.lock().unwrap_or_else(PoisonError::into_inner);
        if line.outcome == AuditOutcome::Refused && !ration().takes(line.client, Instant::now()) {
            self.0.counts.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = queue.try_send(Arc::new(line)) {
            self.0.counts.lose(1);
        }
    }

    /// Lines lost since the start: for the metrics.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.counts.dropped.load(Ordering::Relaxed)
    }

    /// The file is opened anew before the next line, as log rotation wants on SIGHUP.
    pub fn reopen(&self) {
        self.0.counts.reopen.store(true, Ordering::Relaxed);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.queue.take()); // ends the writer once the queue is empty
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            error!("the writer of the audit log failed");
        }
    }
}

impl Counts {
    /// The first loss is told at once, each thousandth after it again.
    fn lose(&self, lines: u64) {
        let before = self.dropped.fetch_add(lines, Ordering::Relaxed);
        if before.is_multiple_of(1000) {
            error!(dropped = before + lines, "the audit log cannot keep up; lines are lost");
        }
    }
}

/// The writer's life: until the last [`Audit`] is gone and the queue is empty.
fn write(mut sink: Sink, lines: &Receiver<Arc<AuditLine>>, counts: &Counts) {
    let mut told = 0;
    let mut left_out = 0;
    let mut failing = false;
    while let Ok(line) = lines.recv() {
        if counts.reopen.swap(false, Ordering::Relaxed) {
            sink.reopen();
        }
        let dropped = counts.dropped.load(Ordering::Relaxed);
        if dropped > told {
            let note = json!({"time": time(SystemTime::now()), "outcome": "lost", "lines": dropped - told});
            if sink.write(&note.to_string()).is_ok() {
                told = dropped;
            }
        }
        tell_left_out(&mut sink, counts, &mut left_out);
        match sink.write(&line.json()) {
            Ok(()) if failing => {
                failing = false;
                info!("the audit log is writable again");
            }
            Ok(()) => {}
            Err(error) => {
                if !failing {
                    error!(%error, "cannot write the audit log; lines are lost");
                }
                failing = true;
                counts.lose(1);
            }
        }
    }
    tell_left_out(&mut sink, counts, &mut left_out);
}

/// Writes how many refusals were left out since it was `told`.
fn tell_left_out(sink: &mut Sink, counts: &Counts, told: &mut u64) {
    let left_out = counts.left_out.load(Ordering::Relaxed);
    if left_out > *told {
        let note = json!({"time": time(SystemTime::now()), "outcome": "left_out", "lines": left_out - *told});
        if sink.write(&note.to_string()).is_ok() {
            *told = left_out;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::mpsc;

    use super::*;
    use crate::proxy::clients::audit::line::tests::line;

    fn repositories(text: &str) -> Vec<String> {
        let parsed = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        parsed.map(|line| line["repository"].as_str().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn lines_are_appended_to_a_file_of_our_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        for name in ["one", "two"] {
            let audit = Audit::open(&AuditConfig::File(path.clone())).unwrap();
            audit.write(line(name));
            drop(audit);
        }
        assert_eq!(repositories(&std::fs::read_to_string(&path).unwrap()), ["one", "two"]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "{\"repository\": \"cut\"}").unwrap();
        let audit = Audit::open(&AuditConfig::File(path.clone())).unwrap();
        audit.write(line("after"));
        drop(audit);
        assert_eq!(repositories(&std::fs::read_to_string(&path).unwrap()), ["cut", "after"]);
        let nowhere = AuditConfig::File(folder.path().join("none/audit"));
        assert!(matches!(Audit::open(&nowhere), Err(AuditError::File(..))));
    }

    #[test]
    fn a_rotated_file_is_left_alone_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("audit.jsonl"), folder.path().join("audit.1"));
        let audit = Audit::open(&AuditConfig::File(path.clone())).unwrap();
        std::fs::rename(&path, &old).unwrap();
        audit.reopen();
        audit.write(line("new"));
        drop(audit);
        assert_eq!(repositories(&std::fs::read_to_string(&path).unwrap()), ["new"]);
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "");
    }

    #[test]
    fn a_full_queue_delays_nobody_and_what_is_lost_is_counted_and_told() {
        let (open, gate) = mpsc::channel::<()>();
        let (sender, written) = mpsc::channel();
        let sink = Sink::Test(Box::new(move |line| {
            let _ = gate.recv(); // an error once the gate is gone: then nothing is held any more
            sender.send(line.to_owned()).map_err(io::Error::other)
        }));
        let audit = Audit::with(sink).unwrap();
        for _ in 0..QUEUE + 11 {
            audit.write(line("a"));
        }
        let dropped = audit.dropped();
        assert!((10..=11).contains(&dropped), "the queue, and the line being written: {dropped}");
        drop(open);
        drop(audit);
        let written: Vec<String> = written.iter().collect();
        let told: u64 = written
            .iter()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["lines"].as_u64())
            .sum();
        assert_eq!((told, written.len() as u64), (dropped, (QUEUE + 11) as u64 - dropped + 1));
    }

    #[test]
    fn a_flood_of_refusals_is_cut_counted_and_told_and_pulls_are_not_cut() {
        let (sender, written) = mpsc::channel();
        let sink = Sink::Test(Box::new(move |line| sender.send(line.to_owned()).map_err(io::Error::other)));
        let audit = Audit::with(sink).unwrap();
        for _ in 0..1500 {
            audit.write(AuditLine { outcome: AuditOutcome::Refused, ..line("a") });
            audit.write(line("b"));
        }
        assert_eq!(audit.dropped(), 0);
        drop(audit);
        let written: Vec<serde_json::Value> = written.iter().map(|line| serde_json::from_str(&line).unwrap()).collect();
        let of = |outcome: &str| written.iter().filter(|line| line["outcome"] == outcome).count() as u64;
        let told: u64 = written.iter().filter_map(|line| line["lines"].as_u64()).sum();
        assert_eq!((of("pulled"), of("refused") + told), (1500, 1500));
        assert!((1000..1100).contains(&of("refused")), "{}", of("refused"));
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let audit = Audit::with(Sink::Test(Box::new(|_| Err(io::ErrorKind::StorageFull.into())))).unwrap();
        let counts = audit.0.counts.clone();
        for _ in 0..5 {
            audit.write(line("a"));
        }
        drop(audit);
        assert_eq!(counts.dropped.load(Ordering::Relaxed), 5);
    }
}

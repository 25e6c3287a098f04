//! The audit log: one JSON line for each manifest pulled or refused, written off the network task.
//!
//! A pull never waits for the log's disk. Where the queue is full or the disk refuses, lines are lost, and that
//! is counted, told in the log, and written into the audit log itself as soon as it can be.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use serde_json::json;
use tracing::{error, info};

use super::config::AuditConfig;
use super::journal::{Journal, SOCKET};
use crate::oci::{Digest, Reference, Repository};

/// Lines that may wait: at 300 bytes each, about a megabyte.
const QUEUE: usize = 4096;

/// What happened to one manifest.
#[derive(Clone, Debug)]
pub struct AuditLine {
    /// When.
    pub time: SystemTime,
    /// The client's address.
    pub client: IpAddr,
    /// Its user of `clients.htpasswd`.
    pub user: Option<Arc<str>>,
    /// The registry's configured name.
    pub registry: Arc<str>,
    /// The repository.
    pub repository: Repository,
    /// What it asked for.
    pub reference: Reference,
    /// What it got.
    pub digest: Option<Digest>,
    /// The rule of `clients.rules` that spoke.
    pub rule: Option<Arc<str>>,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// The answer's status.
    pub status: u16,
}

/// How a pull ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It was served.
    Pulled,
    /// A rule refused it.
    Refused,
    /// The registry refused it: 401 or 403.
    Denied,
    /// It is not there.
    Missing,
    /// It could not be had.
    Failed,
}

/// An audit log that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file.
    #[error("the audit log {} cannot be opened", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// The journal.
    #[error("systemd's journal cannot be reached for clients.audit")]
    Journal(#[source] io::Error),
    /// The writer.
    #[error("the audit log's thread cannot be started")]
    Thread(#[source] io::Error),
}

/// An open audit log. Cheap to clone; the last clone to go writes what waits and closes it.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    queue: Option<SyncSender<Arc<AuditLine>>>,
    counts: Arc<Counts>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Counts {
    dropped: AtomicU64,
    reopen: AtomicBool,
}

impl AuditOutcome {
    /// The word in the line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pulled => "pulled",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Missing => "missing",
            Self::Failed => "failed",
        }
    }
}

impl AuditLine {
    /// The line, without its newline. What is not known is left out.
    fn json(&self) -> String {
        let mut line = json!({
            "time": time(self.time),
            "client": self.client.to_canonical().to_string(),
            "registry": &*self.registry,
            "repository": self.repository.as_str(),
            "reference": self.reference.to_string(),
            "outcome": self.outcome.as_str(),
            "status": self.status,
        });
        let digest = self.digest.map(|digest| digest.to_string());
        let others = [("user", self.user.as_deref()), ("digest", digest.as_deref()), ("rule", self.rule.as_deref())];
        for (key, value) in others {
            if let Some(value) = value {
                line[key] = value.into();
            }
        }
        line.to_string()
    }
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time.max(SystemTime::UNIX_EPOCH)).to_string()
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
        let writer = Mutex::new(Some(writer.map_err(AuditError::Thread)?));
        Ok(Self(Arc::new(Inner { queue: Some(queue), counts, writer })))
    }

    /// Queues a line; never waits. One that finds no room is dropped and counted.
    pub fn write(&self, line: AuditLine) {
        let Some(queue) = &self.0.queue else { return };
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
            error!("the audit log's writer broke off");
        }
    }
}

impl Counts {
    /// The first loss is told at once, each thousandth after it again.
    fn lose(&self, lines: u64) {
        let before = self.dropped.fetch_add(lines, Ordering::Relaxed);
        if before.is_multiple_of(1000) {
            error!(dropped = before + lines, "the audit log cannot keep up: lines are lost");
        }
    }
}

/// Where lines go.
enum Sink {
    Stderr,
    Journal(Journal),
    File(PathBuf, File),
    #[cfg(test)]
    Test(Box<dyn FnMut(&str) -> io::Result<()> + Send>),
}

impl Sink {
    fn open(config: &AuditConfig) -> Result<Self, AuditError> {
        match config {
            AuditConfig::Stderr => Ok(Self::Stderr),
            AuditConfig::Journald => Journal::open(Path::new(SOCKET)).map(Self::Journal).map_err(AuditError::Journal),
            AuditConfig::File(path) => {
                let file = open(path).map_err(|source| AuditError::File(path.clone(), source))?;
                Ok(Self::File(path.clone(), file))
            }
        }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().lock().write_all(format!("{line}\n").as_bytes()),
            Self::Journal(journal) => journal.send(line),
            // One call a line: with O_APPEND lines of several writers do not mix.
            Self::File(_, file) => file.write_all(format!("{line}\n").as_bytes()),
            #[cfg(test)]
            Self::Test(write) => write(line),
        }
    }

    fn reopen(&mut self) {
        match self {
            Self::File(path, file) => match open(path) {
                Ok(new) => *file = new,
                Err(error) => {
                    error!(path = %path.display(), %error, "the audit log cannot be opened anew; the old file is written on")
                }
            },
            Self::Journal(journal) => match Journal::open(Path::new(SOCKET)) {
                Ok(new) => *journal = new,
                Err(error) => error!(%error, "the journal cannot be reached anew"),
            },
            _ => {}
        }
    }
}

/// Appends to `path`, which is made with mode 0600. A line that a crash cut short is ended first.
fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut last = [b'\n'];
    if file.metadata()?.is_file() && file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

/// The writer's life: until the last [`Audit`] is gone and the queue is empty.
fn write(mut sink: Sink, lines: &Receiver<Arc<AuditLine>>, counts: &Counts) {
    let mut told = 0;
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
        match sink.write(&line.json()) {
            Ok(()) if failing => {
                failing = false;
                info!("the audit log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                if !failing {
                    error!(%error, "the audit log cannot be written: lines are lost");
                }
                failing = true;
                counts.lose(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixDatagram;
    use std::sync::mpsc;

    use super::*;

    fn line(repository: &str) -> AuditLine {
        AuditLine {
            time: SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_800_000_000_123),
            client: "::ffff:192.0.2.7".parse().unwrap(),
            user: Some("ci \"x\"\n".into()),
            registry: "docker.io".into(),
            repository: repository.parse().unwrap(),
            reference: "3.20".parse().unwrap(),
            digest: None,
            rule: Some("office".into()),
            outcome: AuditOutcome::Pulled,
            status: 200,
        }
    }

    fn repositories(text: &str) -> Vec<String> {
        let parsed = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        parsed.map(|line| line["repository"].as_str().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn a_line_is_one_json_object_whatever_is_in_it() {
        let text = line("library/alpine").json();
        assert!(!text.contains('\n'));
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = json!({
            "time": "2027-01-15T08:00:00.123Z", "client": "192.0.2.7", "user": "ci \"x\"\n", "registry": "docker.io",
            "repository": "library/alpine", "reference": "3.20", "rule": "office", "outcome": "pulled", "status": 200,
        });
        assert_eq!(parsed, expected);
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
    fn what_cannot_be_written_is_counted() {
        let audit = Audit::with(Sink::Test(Box::new(|_| Err(io::ErrorKind::StorageFull.into())))).unwrap();
        let counts = audit.0.counts.clone();
        for _ in 0..5 {
            audit.write(line("a"));
        }
        drop(audit);
        assert_eq!(counts.dropped.load(Ordering::Relaxed), 5);
    }

    #[test]
    fn the_journal_gets_one_message_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let server = UnixDatagram::bind(&socket).unwrap();
        let mut sink = Sink::Journal(Journal::open(&socket).unwrap());
        sink.write(&line("a").json()).unwrap();
        let mut buffer = [0; 4096];
        let length = server.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        let message = text.strip_prefix("PRIORITY=6\nSYSLOG_IDENTIFIER=pullthrough-audit\nMESSAGE=").unwrap();
        assert_eq!(repositories(message), ["a"]);
    }
}

//! Writes audit lines to a file, systemd's journal, or standard error.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tracing::error;

use super::error::AuditError;
use super::journal::{Journal, SOCKET};
use crate::proxy::clients::rule_config::AuditConfig;

/// Where lines go.
pub(crate) enum Sink {
    Stderr,
    Journal(Journal),
    File(PathBuf, File),
    /// What a test makes of lines.
    #[cfg(test)]
    Test(Box<dyn FnMut(&str) -> io::Result<()> + Send>),
}

impl Sink {
    pub(crate) fn open(config: &AuditConfig) -> Result<Self, AuditError> {
        match config {
            AuditConfig::Stderr => Ok(Self::Stderr),
            AuditConfig::Journald => Journal::open(Path::new(SOCKET)).map(Self::Journal).map_err(AuditError::Journal),
            AuditConfig::File(path) => {
                let file = open(path).map_err(|source| AuditError::File(path.clone(), source))?;
                Ok(Self::File(path.clone(), file))
            }
        }
    }

    pub(crate) fn write(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().lock().write_all(format!("{line}\n").as_bytes()),
            Self::Journal(journal) => journal.send(line),
            // One call a line: with O_APPEND lines of several writers do not mix.
            Self::File(_, file) => file.write_all(format!("{line}\n").as_bytes()),
            #[cfg(test)]
            Self::Test(write) => write(line),
        }
    }

    pub(crate) fn reopen(&mut self) {
        match self {
            Self::File(path, file) => match open(path) {
                Ok(new) => *file = new,
                Err(error) => {
                    error!(path = %path.display(), %error, "cannot reopen the audit log; writing to the old file continues")
                }
            },
            Self::Journal(journal) => match Journal::open(Path::new(SOCKET)) {
                Ok(new) => *journal = new,
                Err(error) => error!(%error, "cannot reconnect to the journal"),
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn the_journal_gets_one_message_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let server = UnixDatagram::bind(&socket).unwrap();
        let mut sink = Sink::Journal(Journal::open(&socket).unwrap());
        sink.write("{\"a\": 1}").unwrap();
        let mut buffer = [0; 4096];
        let length = server.recv(&mut buffer).unwrap();
        let expected = "PRIORITY=6\nSYSLOG_IDENTIFIER=pullthrough-audit\nMESSAGE={\"a\": 1}\n";
        assert_eq!(std::str::from_utf8(&buffer[..length]).unwrap(), expected);
    }
}

//! Why an audit log cannot be opened.

use std::io;
use std::path::PathBuf;

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

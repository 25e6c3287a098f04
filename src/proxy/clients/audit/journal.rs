//! Sends one message to systemd's journal, in its native protocol.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Where the journal listens.
pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";

/// A way to the journal.
pub(crate) struct Journal(UnixDatagram);

impl Journal {
    pub(crate) fn open(socket: &Path) -> io::Result<Self> {
        let datagram = UnixDatagram::unbound()?;
        datagram.connect(socket)?;
        Ok(Self(datagram))
    }

    /// Sends one line. A field whose value has no newline is `NAME=value`; this one has none, being one line.
    pub(crate) fn send(&self, line: &str) -> io::Result<()> {
        let text = format!("PRIORITY=6\nSYSLOG_IDENTIFIER=pullthrough-audit\nMESSAGE={}\n", line.replace('\n', " "));
        self.0.send(text.as_bytes()).map(drop)
    }
}

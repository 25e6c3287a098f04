//! Asks the operating system for free space, file limits and the machine's name.

use std::io;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The space of a file system, in bytes, for an unprivileged writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeSpace {
    /// The total space.
    pub total: u64,
    /// The free space.
    pub free: u64,
}

/// The space of the file system that holds `path`.
///
/// # Errors
/// An error of `statvfs`, such as a missing path.
pub fn free_space(path: &Path) -> io::Result<FreeSpace> {
    let stat = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(FreeSpace { total: bytes(stat.f_blocks), free: bytes(stat.f_bavail) })
}

/// The machine's name, for the certificate of the proxy itself; `None` if it is empty or not text.
#[must_use]
pub fn hostname() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_ascii_lowercase();
    (!name.is_empty()).then_some(name)
}

/// The most files that may be open at a time; `None` for no limit.
#[must_use]
pub fn open_file_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Whether an error says that this process or this machine is out of file descriptors, or of memory for sockets: our own
/// fault, not that of the peer.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Whether one more file can be opened now. For functions that hide why they failed, such as the system's resolver.
#[must_use]
pub fn has_free_file() -> bool {
    !std::fs::File::open("/dev/null").is_err_and(|error| is_exhausted(&error))
}

/// Raises the soft limit on open files to the hard one and returns it: every connection, tunnel and blob is a file, and
/// the usual soft limit is 1,024.
#[must_use]
pub fn raise_file_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

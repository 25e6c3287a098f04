//! The server's end of the control socket: opened once the folder's lock is held, closed before it is released.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::address::{Address, NAME};
use super::answer;
use crate::cache::Inventory;
use crate::host::{self, LogThrottle, Spare};

/// The name of the socket until its mode is set.
const FRESH: &str = "control.sock.new";
/// The most commands that run at a time; others wait.
const AT_ONCE: usize = 4;
const PAUSE: Duration = Duration::from_millis(50);

/// The socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the control socket {}", path.display())]
pub struct CannotOpen {
    path: PathBuf,
    source: io::Error,
}

/// The open control socket. Dropping it removes its name.
pub struct Control {
    path: PathBuf,
    stop: CancellationToken,
}

impl Control {
    /// Opens the socket in `folder`, whose lock this process holds, and answers on it. A socket that a killed process has
    /// left is replaced. Call within a runtime.
    ///
    /// # Errors
    /// [`CannotOpen`], also if the name belongs to something other than a socket.
    pub fn open(folder: &Path, inventory: Inventory) -> Result<Self, CannotOpen> {
        let path = folder.join(NAME);
        let listener = listen(folder, &path).map_err(|source| CannotOpen { path: path.clone(), source })?;
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, inventory, stop.clone()));
        Ok(Self { path, stop })
    }

    /// Stops accepting and ends the commands in progress.
    pub fn close(self) {}
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Err(error) = fs::remove_file(&self.path) {
            debug!(%error, "cannot remove the control socket");
        }
    }
}

fn listen(folder: &Path, path: &Path) -> io::Result<UnixListener> {
    let fresh = folder.join(FRESH);
    for old in [path, &fresh] {
        match old.symlink_metadata() {
            // This process holds the folder: the process that made the socket is gone.
            Ok(metadata) if metadata.file_type().is_socket() => fs::remove_file(old)?,
            Ok(_) => return Err(io::Error::other(format!("{} is not a socket: move it away", old.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let address = Address::of(folder, FRESH)?;
    let listener = UnixListener::bind(address.path())?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
    fs::rename(&fresh, path)?;
    Ok(listener)
}

async fn accept(listener: UnixListener, inventory: Inventory, stop: CancellationToken) {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let (mut spare, logged) = (Spare::new(), LogThrottle::new());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if is_owner(&stream) => {
                tokio::spawn(answer::serve(stream, inventory.clone(), turns.clone(), stop.clone()));
                spare.refill();
            }
            Ok(_) => warn!("refused another user on the control socket"),
            Err(error) if host::is_exhausted(&error) && spare.give_up() => {}
            Err(error) => {
                if logged.is_due() {
                    warn!(%error, "cannot accept control connections at the moment");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_owner(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| may_command(peer.uid(), own))
}

/// Whether the peer is the owner, or root, who may do anything here anyway.
fn may_command(peer: u32, own: u32) -> bool {
    peer == 0 || peer == own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_same_user_may_command() {
        for (peer, own, may) in [(0, 0, true), (0, 7, true), (7, 7, true), (7, 8, false), (7, 0, false)] {
            assert_eq!(may_command(peer, own), may, "{peer} {own}");
        }
    }
}

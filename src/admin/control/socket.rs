//! The server's end: opened after the folder's lock is held, closed before it is let go.

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
use crate::host::{self, Seldom, Spare};

/// The socket has its final name only once its mode is right.
const FRESH: &str = "control.sock.new";
/// So many commands run at a time; others wait.
const AT_ONCE: usize = 4;
const PAUSE: Duration = Duration::from_millis(50);

/// The socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the control socket {} cannot be opened", path.display())]
pub struct CannotOpen {
    path: PathBuf,
    source: io::Error,
}

/// The open control socket. Dropped, its name goes.
pub struct Control {
    path: PathBuf,
    stop: CancellationToken,
}

impl Control {
    /// Opens the socket in `folder`, whose lock this process holds, and answers on it. One that a killed process
    /// left is replaced. Call within a runtime.
    ///
    /// # Errors
    /// [`CannotOpen`], also where something that is no socket has the name.
    pub fn open(folder: &Path, inventory: Inventory) -> Result<Self, CannotOpen> {
        let path = folder.join(NAME);
        let listener = listen(folder, &path).map_err(|source| CannotOpen { path: path.clone(), source })?;
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, inventory, stop.clone()));
        Ok(Self { path, stop })
    }

    /// Accepts nothing more and ends the commands under way.
    pub fn close(self) {}
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Err(error) = fs::remove_file(&self.path) {
            debug!(%error, "the control socket's name stays");
        }
    }
}

fn listen(folder: &Path, path: &Path) -> io::Result<UnixListener> {
    let fresh = folder.join(FRESH);
    for old in [path, &fresh] {
        match old.symlink_metadata() {
            // Nobody else has the folder: whoever made it is gone.
            Ok(metadata) if metadata.file_type().is_socket() => fs::remove_file(old)?,
            Ok(_) => return Err(io::Error::other(format!("{} is no socket: move it away", old.display()))),
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
    let (mut spare, said) = (Spare::new(), Seldom::new());
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
            Ok(_) => warn!("another user tried the control socket and was refused"),
            Err(error) if host::is_exhausted(&error) && spare.give_up() => {}
            Err(error) => {
                if said.is_due() {
                    warn!(%error, "control connections cannot be accepted at the moment");
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

/// Root may do anything here anyway.
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

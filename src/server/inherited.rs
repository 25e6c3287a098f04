//! Listening sockets that the service manager opened for us (socket activation, sd_listen_fds(3)).
//!
//! The manager keeps them over a restart, so a client that connects meanwhile waits in their queue and is not
//! refused.

use std::env;
use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;

/// The doors, in the order in which sockets without a known name are given to them.
const LISTENERS: [&str; 2] = ["proxy", "admin"];

/// The sockets, each to be taken once.
#[derive(Debug, Default)]
pub(super) struct Inherited(Vec<(&'static str, TcpListener)>);

/// What was passed cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// There are more sockets than doors, or two for one.
    #[error(
        "the service manager passed {count} sockets named {names}; expected at most one for each door: \
         FileDescriptorName=proxy in one socket unit, admin in another"
    )]
    Count {
        /// How many.
        count: usize,
        /// Their names, as they were passed.
        names: String,
    },
    /// It is no listening TCP socket.
    #[error(
        "the socket that the service manager passed for the door {door} cannot be used; expected ListenStream= with an address and port"
    )]
    Socket {
        /// Which door.
        door: &'static str,
        #[source]
        source: io::Error,
    },
}

impl Inherited {
    /// What this process was passed; nothing, where it was not started so.
    ///
    /// # Errors
    /// [`Unusable`]: a socket that is not understood must not stay open and unanswered.
    pub(super) fn from_environment() -> Result<Self, Unusable> {
        let mut passed = ListenFd::from_env();
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let doors = assign(passed.len(), &names).ok_or(Unusable::Count { count: passed.len(), names })?;
        let mut sockets = Vec::new();
        for (index, door) in doors.into_iter().enumerate() {
            let unusable = |source| Unusable::Socket { door, source };
            if let Some(listener) = passed.take_tcp_listener(index).map_err(unusable)? {
                listener.set_nonblocking(true).map_err(unusable)?;
                sockets.push((door, listener));
            }
        }
        Ok(Self(sockets))
    }

    /// The socket for `door`, if there is one.
    pub(super) fn take(&mut self, door: &str) -> Option<TcpListener> {
        let at = self.0.iter().position(|(name, _)| *name == door)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// Which door each of `count` sockets is for: by its name among `names` (colons between them), else the first
/// door that is left. `None` where they do not fit.
fn assign(count: usize, names: &str) -> Option<Vec<&'static str>> {
    let known = |name: &str| LISTENERS.into_iter().find(|door| *door == name);
    let named: Vec<Option<&str>> = names.split(':').map(known).chain([None; LISTENERS.len()]).take(count).collect();
    if named.len() != count {
        return None;
    }
    let mut left: Vec<&str> = LISTENERS.into_iter().filter(|door| !named.contains(&Some(*door))).collect();
    let doors: Vec<&str> = named
        .into_iter()
        .map(|door| door.or_else(|| (!left.is_empty()).then(|| left.remove(0))))
        .collect::<Option<_>>()?;
    let twice = LISTENERS.iter().any(|door| doors.iter().filter(|one| *one == door).count() > 1);
    (!twice).then_some(doors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_go_to_the_listener_of_their_name_and_others_by_order() {
        let table: [(usize, &str, Option<&[&str]>); 11] = [
            (0, "", Some(&[])),
            (1, "", Some(&["proxy"])),
            (2, "", Some(&["proxy", "admin"])),
            (1, "admin", Some(&["admin"])),
            (2, "admin:proxy", Some(&["admin", "proxy"])),
            (2, "pullthrough.socket:pullthrough.socket", Some(&["proxy", "admin"])),
            (2, "unknown:proxy", Some(&["admin", "proxy"])),
            (1, "pullthrough-admin.socket", Some(&["proxy"])),
            (2, "proxy:proxy", None),
            (3, "", None),
            (9, "proxy:admin", None),
        ];
        for (count, names, expected) in table {
            assert_eq!(assign(count, names).as_deref(), expected, "{count} {names}");
        }
    }
}

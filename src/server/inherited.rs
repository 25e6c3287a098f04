//! Takes over the listening sockets that the service manager has opened (socket activation, sd_listen_fds(3)).
//!
//! The manager keeps them across a restart, so a client that connects meanwhile waits in their queue and is not
//! refused.

use std::env;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

/// The listeners, in the order in which they get sockets without a known name.
const LISTENERS: [&str; 2] = ["proxy", "admin"];
/// Those that get a socket by its name alone.
const NAMED: [&str; 2] = ["mirror", "transparent"];

/// A listening socket that was passed.
#[derive(Debug)]
pub(super) enum Passed {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// The inherited sockets; each can be taken once.
#[derive(Debug, Default)]
pub(super) struct Inherited(Vec<(&'static str, Passed)>);

/// The inherited sockets cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// There are more sockets than listeners, or two for one listener.
    #[error(
        "the service manager passed {count} sockets named {names}; expected at most one per listener: \
         FileDescriptorName=proxy in one socket unit, admin in another, and so on for mirror and transparent"
    )]
    Count {
        /// How many.
        count: usize,
        /// Their names, as passed.
        names: String,
    },
    /// There is a socket for a listener that the configuration does not open.
    #[error(
        "the service manager passed a socket for the {0} listener, and the configuration does not open it; expected \
         listen.{0}, with any address: the socket's own is used"
    )]
    Unwanted(&'static str),
    /// The socket is neither a listening TCP socket nor a Unix socket.
    #[error(
        "the socket that the service manager passed for the {listener} listener cannot be used; expected ListenStream= with an address and port, or a path"
    )]
    Socket {
        /// Its name.
        listener: &'static str,
        #[source]
        source: io::Error,
    },
}

impl Inherited {
    /// The sockets that this process was passed, if any.
    ///
    /// # Errors
    /// [`Unusable`]: an unknown socket must not stay open and unanswered.
    pub(super) fn from_environment() -> Result<Self, Unusable> {
        let mut passed = ListenFd::from_env();
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let listeners = assign(passed.len(), &names).ok_or(Unusable::Count { count: passed.len(), names })?;
        let mut sockets = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let unusable = |source| Unusable::Socket { listener, source };
            // A socket that is no TCP socket is left in its place.
            let socket = match passed.take_tcp_listener(index) {
                Ok(socket) => socket.map(Passed::Tcp),
                Err(_) => passed.take_unix_listener(index).map_err(unusable)?.map(Passed::Unix),
            };
            match &socket {
                Some(Passed::Tcp(socket)) => socket.set_nonblocking(true).map_err(unusable)?,
                Some(Passed::Unix(socket)) => socket.set_nonblocking(true).map_err(unusable)?,
                None => {}
            }
            sockets.extend(socket.map(|socket| (listener, socket)));
        }
        Ok(Self(sockets))
    }

    /// Takes the socket of `listener`, if there is one.
    pub(super) fn take(&mut self, listener: &str) -> Option<Passed> {
        let at = self.0.iter().position(|(name, _)| *name == listener)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Ends the taking.
    ///
    /// # Errors
    /// A socket is left, which nobody would answer.
    pub(super) fn end(self) -> Result<(), Unusable> {
        self.0.first().map_or(Ok(()), |(listener, _)| Err(Unusable::Unwanted(listener)))
    }
}

/// Assigns a listener to each of `count` sockets: by its name in `names` (separated by colons), else the first listener
/// that is left. `None` if they do not fit.
fn assign(count: usize, names: &str) -> Option<Vec<&'static str>> {
    let known = |name: &str| LISTENERS.into_iter().chain(NAMED).find(|listener| *listener == name);
    let named: Vec<Option<&str>> = names.split(':').map(known).chain([None; LISTENERS.len()]).take(count).collect();
    if named.len() != count {
        return None;
    }
    let mut left: Vec<&str> = LISTENERS.into_iter().filter(|listener| !named.contains(&Some(*listener))).collect();
    let listeners: Vec<&str> = named
        .into_iter()
        .map(|listener| listener.or_else(|| (!left.is_empty()).then(|| left.remove(0))))
        .collect::<Option<_>>()?;
    let twice = listeners.iter().any(|listener| listeners.iter().filter(|one| *one == listener).count() > 1);
    (!twice).then_some(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_go_to_the_listener_of_their_name_and_others_by_order() {
        let table: [(usize, &str, Option<&[&str]>); 16] = [
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
            (1, "mirror", Some(&["mirror"])),
            (9, "proxy:admin", None),
            (1, "transparent", Some(&["transparent"])),
            (4, "mirror:x:transparent:y", Some(&["mirror", "proxy", "transparent", "admin"])),
            (3, "mirror:proxy:admin", Some(&["mirror", "proxy", "admin"])),
            (2, "mirror:mirror", None),
        ];
        for (count, names, expected) in table {
            assert_eq!(assign(count, names).as_deref(), expected, "{count} {names}");
        }
    }
}

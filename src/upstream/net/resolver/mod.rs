//! Resolves names with the DNS servers of `upstream.resolvers`, in place of the system's resolver.
//!
//! Flow: [`Resolver`] answers from what it has kept, for as long as the records' TTL says, else asks for A and AAAA
//! records, as `upstream.ip` wants them: the server that answered last first (`resolver`), by UDP, and again by TCP
//! where the answer was cut (`exchange`); `message` makes the question and reads the answer.
//! Scope: full names; no search domain, no `/etc/hosts`. The servers recurse. Addresses are judged where they are
//! dialled: a server that lies gains what any DNS server gains.
//! Never: an answer to another question, from another address or with another id.
//! Reading: RFC 1035 sections 4.1, 4.2 and 7.3, RFC 5452 (forged answers), RFC 6761 section 6.3 (localhost), RFC 7766
//! (TCP).

pub(crate) mod error;
pub(crate) mod exchange;
#[cfg(any(test, fuzzing))]
#[path = "../../../../fuzz/targets/dns.rs"]
pub(crate) mod fuzzing;
pub(crate) mod message;
pub(crate) mod nameserver;
pub(crate) mod resolver;

pub use error::ResolveError;
pub use nameserver::{BadNameserver, Nameserver};
pub(crate) use resolver::Resolver;

//! The errors of resolving a name with the configured DNS servers.

/// What they said of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// There is no such name.
    #[error("the DNS server {server} says that the name does not exist")]
    NoName {
        /// Who said so.
        server: super::Nameserver,
    },
    /// The name has no address of the family that is wanted.
    #[error("the DNS server {server} has no address for the name")]
    NoAddress {
        /// Who said so.
        server: super::Nameserver,
    },
    /// The text cannot be asked for.
    #[error("the name is too long for DNS")]
    BadName,
    /// A server that failed, or does not want to answer.
    #[error("the DNS server {server} answered {words}")]
    Failed {
        /// Which.
        server: super::Nameserver,
        /// The response code, in words.
        words: String,
    },
    /// A server that did not answer in time.
    #[error("the DNS server {server} did not answer")]
    Silent {
        /// Which.
        server: super::Nameserver,
    },
    /// A server that cannot be reached, or answers what is no DNS.
    #[error("the DNS server {server} cannot be asked: {words}")]
    Broken {
        /// Which.
        server: super::Nameserver,
        /// What the system said.
        words: String,
    },
}

//! Names what is wrong with the CA's folder, its certificates or a request to sign, and says what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::oci::Host;

/// A failure of the CA. Paths are those of the files concerned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The operator's own certificate for the mirror.
    #[error("{} cannot be used: {text}", file.display())]
    Operator {
        /// The certificate's file, or the key's.
        file: PathBuf,
        /// What is wrong with it.
        text: String,
    },
    /// Not exactly one PEM certificate.
    #[error("{} does not hold exactly one PEM certificate: restore it from a copy, or move it away", .0.display())]
    BadCertificate(PathBuf),
    /// Not a plain PEM private key.
    #[error("{} does not hold a PEM private key without a passphrase: restore it from a copy, or move it away", .0.display())]
    BadKey(PathBuf),
    /// A certificate that may not sign others.
    #[error("{} is not the certificate of a CA (basic constraints, key usage): put the certificate of a CA there", .0.display())]
    NotCa(PathBuf),
    /// A root with a path length of 0.
    #[error("{} has a path length of 0, so it cannot sign an issuing certificate: put the certificate of another CA there", .0.display())]
    Shallow(PathBuf),
    /// An issuing certificate that may sign for the whole world.
    #[error("{} has no name constraints: move it and its key away; with ca.key in the directory they are made again", .0.display())]
    Unconstrained(PathBuf),
    /// Key and certificate are of different pairs.
    #[error("{} is not the key of {}: restore the two from one copy, or move both away", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A key that other users can read.
    #[error("{} can be read or changed by others (mode {mode:o}): run chmod 600, and treat the key as compromised", path.display())]
    Exposed {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key without its certificate, or the other way round.
    #[error("{} exists and {} does not: restore the missing file, or move the other away", found.display(), missing.display())]
    Half {
        /// The file that is there.
        found: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// Nothing to sign with, and nothing to make it from.
    #[error("there is no issuing certificate, and the root's key {} is missing to make one: put the key back", .0.display())]
    NoRootKey(PathBuf),
    /// Issuing files of a root that is gone.
    #[error("{} exists and the root ca.crt does not: restore ca.crt, or move the issuing files away for a new CA", .0.display())]
    NoRoot(PathBuf),
    /// A file of an interrupted start that cannot be completed.
    #[error("{} is left over and does not match the key beside it: move it away", .0.display())]
    Leftover(PathBuf),
    /// The certificate has expired.
    #[error("{} expired at {}: {cure}", path.display(), shown(*at))]
    Expired {
        /// The certificate's file.
        path: PathBuf,
        /// When.
        at: SystemTime,
        /// The remedy.
        cure: &'static str,
    },
    /// The certificate is not valid yet.
    #[error("{} is valid from {}: the clock of this machine is behind: set it", path.display(), shown(*from))]
    NotYetValid {
        /// The certificate's file.
        path: PathBuf,
        /// From when.
        from: SystemTime,
    },
    /// No CA is made under a clock that cannot be right.
    #[error("the clock of this machine says {}: set it before a CA is made", shown(*.0))]
    Clock(SystemTime),
    /// The issuing certificate is of another root.
    #[error("{} was not issued by {}: move the issuing files away; with ca.key in the directory they are made again", issuing.display(), root.display())]
    Foreign {
        /// The issuing certificate's file.
        issuing: PathBuf,
        /// The root's file.
        root: PathBuf,
    },
    /// Another process put another key there in the meantime.
    #[error("{} changed in the meantime and was not removed: run the command again", .0.display())]
    Changed(PathBuf),
    /// Leaves of the issuing certificate do not verify under the root.
    #[error("the leaves of {} do not verify under {}: move the issuing files away; with ca.key in the directory they are made again", issuing.display(), root.display())]
    Chain {
        /// The issuing certificate's file.
        issuing: PathBuf,
        /// The root's file.
        root: PathBuf,
        /// The error of the verifier.
        source: rustls::Error,
    },
    /// A pattern whose stars no name constraint can express.
    #[error(
        "{0}: a certificate cannot be limited by a star inside a name; list the regions, as in *.dkr.ecr.eu-west-1.amazonaws.com"
    )]
    InnerStar(String),
    /// A pattern that would permit a top-level domain or everything.
    #[error("{0}: too wide to sign for; name the registries, or a domain of two labels such as *.example.com")]
    TooWide(String),
    /// A host outside the issuing certificate's name constraints.
    #[error("the issuing certificate does not cover {0}")]
    NotCovered(Host),
    /// Leaves too short to be renewed.
    #[error("ca.leaf_lifetime is too short: expected one hour or more")]
    LeafLifetime,
    /// Signing failed.
    #[error("cannot sign a certificate")]
    Sign(#[from] rcgen::Error),
    /// The TLS library refused what was minted.
    #[error("cannot serve TLS with a minted certificate")]
    Tls(#[from] rustls::Error),
}

impl Error {
    /// For `map_err` on an I/O result.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

/// RFC 3339 in seconds. humantime panics outside 1970 to 9999, and a clock may say anything.
pub(super) fn shown(moment: SystemTime) -> humantime::Rfc3339Timestamp {
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(moment.clamp(SystemTime::UNIX_EPOCH, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_clock_can_be_named() {
        let day = Duration::from_secs(86_400);
        let table = [
            (SystemTime::UNIX_EPOCH - day, "1970-01-01T00:00:00Z"),
            (SystemTime::UNIX_EPOCH + day, "1970-01-02T00:00:00Z"),
            (SystemTime::UNIX_EPOCH + day * 365 * 20_000, "9999-12-31T23:59:59Z"),
        ];
        for (moment, text) in table {
            assert!(Error::Clock(moment).to_string().contains(text), "{text}");
        }
    }
}

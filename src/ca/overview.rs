//! Summarises the CA for people and checks, from its certificates alone; it makes and changes nothing.

use std::path::Path;
use std::time::SystemTime;

use ipnet::IpNet;

use super::certificate::Certificate;
use super::constraints::Constraints;
use super::error::shown;
use super::folder::{Pair, certificate_path, key_path, read_certificate};
use super::{Error, Permitted};
use crate::oci::Host;

/// The CA of a folder, without its keys.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The root's distinguished name.
    pub root: String,
    /// SHA-256 of the root's DER, as `AA:BB:...`.
    pub fingerprint: String,
    /// The validity of the root.
    pub validity: Validity,
    /// What strict verifiers, such as Python 3.13 and `openssl verify -x509_strict`, refuse in the root; others accept it.
    pub strict_faults: Vec<&'static str>,
    /// Whether the root's key is absent.
    pub sealed: bool,
    /// The issuing certificate, if there is one.
    pub issuing: Option<Issuing>,
}

/// The issuing certificate.
#[derive(Clone, Debug)]
pub struct Issuing {
    /// Its distinguished name.
    pub subject: String,
    /// Its validity.
    pub validity: Validity,
    constraints: Constraints,
}

/// The validity of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not before.
    pub from: SystemTime,
    /// Not after.
    pub until: SystemTime,
}

impl Overview {
    /// Reads the folder; `None` where there is no root. Blocks on files.
    ///
    /// # Errors
    /// Those of reading a certificate; [`Error::Unconstrained`].
    pub fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let Some(root) = read_certificate(&certificate_path(dir, Pair::Root))? else { return Ok(None) };
        let path = certificate_path(dir, Pair::Issuing);
        let issuing = match read_certificate(&path)? {
            None => None,
            Some(Certificate { constraints: None, .. }) => return Err(Error::Unconstrained(path)),
            Some(Certificate { subject, from, until, constraints: Some(constraints), .. }) => {
                Some(Issuing { subject, validity: Validity { from, until }, constraints })
            }
        };
        Ok(Some(Self {
            fingerprint: root.fingerprint(),
            root: root.subject,
            strict_faults: root.strict_faults,
            validity: Validity { from: root.from, until: root.until },
            sealed: !key_path(dir, Pair::Root).exists(),
            issuing,
        }))
    }
}

impl Overview {
    /// What a person should know of the root's faults; `None` where it has none.
    #[must_use]
    pub fn strict_notice(&self, dir: &Path) -> Option<String> {
        strict_notice(&certificate_path(dir, Pair::Root), &self.strict_faults)
    }
}

impl Overview {
    /// That the root or the issuing certificate has ended at `now`; `None` where neither has.
    #[must_use]
    pub fn expired_notice(&self, dir: &Path, now: SystemTime) -> Option<String> {
        let root = (
            Pair::Root,
            self.validity.until,
            "no client accepts this CA any more: move it away to have a new one made",
        );
        let issuing = self.issuing.as_ref().map(|issuing| {
            (Pair::Issuing, issuing.validity.until, "it is made again at the next start if ca.key is there")
        });
        let (pair, until, cure) = std::iter::once(root).chain(issuing).find(|(_, until, _)| *until <= now)?;
        Some(format!("{} expired at {}: {cure}", certificate_path(dir, pair).display(), shown(until)))
    }
}

/// The faults in one sentence.
pub(super) fn strict_notice(root: &Path, faults: &[&str]) -> Option<String> {
    let path = root.display();
    (!faults.is_empty()).then(|| {
        format!(
            "strict verifiers (Python 3.13 and later, openssl verify -x509_strict) refuse {path}: {}. All others accept it; \
             for clients that are strict, put another root there, or move it away to have one made",
            faults.join("; ")
        )
    })
}

impl Issuing {
    /// The domains that it may sign for, each with its subdomains.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.constraints.domains()
    }

    /// The networks that it may sign for.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> {
        self.constraints.networks()
    }

    /// Whether it may sign for `host`.
    #[must_use]
    pub fn covers(&self, host: &Host) -> bool {
        self.constraints.covers(host)
    }

    /// The domains and networks of `permitted` that it may not sign for.
    #[must_use]
    pub fn lacks(&self, permitted: &Permitted) -> Vec<String> {
        self.constraints.lacks(permitted)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_root_that_has_ended_is_named_with_the_day_and_the_cure() {
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        let overview = Overview {
            root: "CN=x".to_owned(),
            fingerprint: String::new(),
            validity: Validity { from: SystemTime::UNIX_EPOCH, until },
            strict_faults: Vec::new(),
            sealed: true,
            issuing: None,
        };
        assert_eq!(overview.expired_notice(Path::new("ca"), until - Duration::from_secs(1)), None);
        let told = overview.expired_notice(Path::new("ca"), until).unwrap();
        assert_eq!(
            told,
            "ca/ca.crt expired at 1970-01-02T00:00:00Z: no client accepts this CA any more: move it away to have a new one made"
        );
    }
}

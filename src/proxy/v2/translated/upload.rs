//! Seals the path of an upload that a registry named, so that it can be part of a URL at a mirror, and opens it again.
//!
//! Some registries have their uploads outside `/v2/` (`/artifacts-uploads/...`) or under a path that the protocol has not.
//! Threat: a client writes a path of its choice there, which no rule judged. Defence: a MAC over the path, the registry and the
//! repository that rules judge, under a key that dies with the process; after a restart an upload begins anew.

use aws_lc_rs::constant_time;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};

use crate::oci::Repository;

/// No registry begins the name of an upload so, but another mirror of this kind.
const PREFIX: &str = "pullthrough-1.";
const MAC_BYTES: usize = 16;
/// A longer path would not fit into a URL that servers accept.
const PATH_LIMIT: usize = 2048;

/// The uploads of one registry.
#[derive(Clone, Copy)]
pub(crate) struct Uploads<'a> {
    /// A MAC under a key that dies with the process.
    pub(crate) mac: &'a (dyn Fn(&[&[u8]]) -> [u8; 32] + Sync),
    /// The registry's name in the cache.
    pub(crate) registry: &'a str,
}

/// The name of an upload in a client's URL.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UploadName {
    /// The registry's own.
    Own,
    /// It stands for this path.
    Sealed(String),
    /// It looks sealed, and was not by this process.
    Forged,
}

/// Whether the name of an upload looks like one of these.
pub(crate) fn is_sealed(name: &str) -> bool {
    name.starts_with(PREFIX)
}

impl Uploads<'_> {
    /// The name of the upload at `path`; `None` where that is too long.
    pub(crate) fn sealed(&self, repository: &Repository, path: &str) -> Option<String> {
        let mut bytes = self.mac_of(repository, path)[..MAC_BYTES].to_vec();
        bytes.extend_from_slice(path.as_bytes());
        (path.len() <= PATH_LIMIT).then(|| format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// What the upload `name` in this repository is.
    pub(crate) fn opened(&self, repository: &Repository, name: &str) -> UploadName {
        let Some(encoded) = name.strip_prefix(PREFIX) else { return UploadName::Own };
        let open = || {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).ok()?;
            let (mac, path) = bytes.split_at_checked(MAC_BYTES)?;
            let path = std::str::from_utf8(path).ok()?;
            let expected = self.mac_of(repository, path);
            let is_ours = constant_time::verify_slices_are_equal(mac, &expected[..MAC_BYTES]);
            is_ours.is_ok().then(|| path.to_owned())
        };
        open().map_or(UploadName::Forged, UploadName::Sealed)
    }

    fn mac_of(&self, repository: &Repository, path: &str) -> [u8; 32] {
        (self.mac)(&[b"upload", self.registry.as_bytes(), repository.as_str().as_bytes(), path.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;

    use super::*;

    #[test]
    fn an_upload_is_opened_in_its_repository_and_as_it_was_sealed() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        let mac = |parts: &[&[u8]]| hmac::sign(&key, &parts.join(&0)).as_ref().try_into().unwrap();
        let uploads = Uploads { mac: &mac, registry: "quay.io" };
        let (app, other): (Repository, Repository) = ("team/app".parse().unwrap(), "team/other".parse().unwrap());
        let path = "/artifacts-uploads/namespaces/p/repositories/r/uploads/AF:1_2=";
        let name = uploads.sealed(&app, path).unwrap();
        assert_eq!(uploads.opened(&app, &name), UploadName::Sealed(path.to_owned()));
        assert_eq!(uploads.opened(&other, &name), UploadName::Forged);
        assert_eq!(Uploads { registry: "ghcr.io", ..uploads }.opened(&app, &name), UploadName::Forged);
        assert_eq!(uploads.opened(&app, "0-1_2="), UploadName::Own);
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(&name[PREFIX.len()..]).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            let changed = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(&bytes));
            assert_eq!(uploads.opened(&app, &changed), UploadName::Forged, "byte {at}");
            bytes[at] ^= 1;
        }
        for broken in ["", "%", "AAAA", "AAAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(uploads.opened(&app, &format!("{PREFIX}{broken}")), UploadName::Forged, "{broken}");
        }
        assert_eq!(uploads.sealed(&app, &"x".repeat(PATH_LIMIT + 1)), None);
    }
}

//! Says that bytes from upstream do not match their digest.

use crate::oci::Digest;

/// The content does not match its digest.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's bytes have the digest {found}, not {wanted}")]
pub(crate) struct Mismatch {
    pub(crate) wanted: Digest,
    pub(crate) found: Digest,
}

//! Bytes from upstream that are not what their name says.

use crate::oci::Digest;

/// The content is not what its name says.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's bytes have the digest {found}, not {wanted}")]
pub(crate) struct Mismatch {
    pub(crate) wanted: Digest,
    pub(crate) found: Digest,
}

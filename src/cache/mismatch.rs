//! Bytes from upstream that are not what their name says.

use crate::oci::Digest;

/// The content is not what its name says.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's bytes have the digest {found}, not {wanted}")]
pub(super) struct Mismatch {
    pub(super) wanted: Digest,
    pub(super) found: Digest,
}

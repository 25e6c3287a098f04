//! Asks by HEAD first, which costs nothing where pulls are counted, and by GET where HEAD is refused or tells too little.
//!
//! HEAD is a hint: many servers refuse it by any status, or by silence, and serve GET. So what HEAD fails with is no answer
//! to anybody, and takes nothing away; what GET says then is.

use std::time::Duration;

use super::source::{Fault, Origins, Proof, Said, Source, Subject, Want, Whole};
use crate::host::watched;
use crate::oci::{Algorithm, Digest, Look, kept_type};

/// What `read` makes of the answer to HEAD; where there is none, or it makes nothing of it, what `get` comes to.
///
/// # Errors
/// Those of GET; those of HEAD where GET would meet the same.
pub(crate) async fn head_or_get<T>(
    source: &dyn Source,
    subject: &Subject,
    read: impl FnOnce(Proof) -> Option<T>,
    get: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let by_head = match source.prove(subject).await {
        Ok(proof) => match read(proof) {
            Some(told) => return Ok(told),
            None => None,
        },
        Err(fault) if !fault.is_about_head() => return Err(fault),
        Err(fault) => Some(fault),
    };
    let got = get.await;
    source.compared(subject, by_head.as_ref(), got.as_ref().err());
    got
}

/// What the registry says of something. What GET delivers is not kept. A `deadline` that is missed is noted.
///
/// # Errors
/// As of [`head_or_get`].
pub(crate) async fn described(source: &dyn Source, subject: &Subject, deadline: Duration) -> Result<Proof, Fault> {
    // Many registries say no digest of a blob, by GET neither.
    let is_blobs = |proof: &Proof| matches!(subject, Subject::Blob(_)) && proof.look() == Look::Content;
    let told = |proof: Proof| (proof.reach(subject, None).is_some() || is_blobs(&proof)).then_some(proof);
    head_or_get(source, subject, told, delivered(source, subject, deadline)).await
}

/// What a GET of a blob's first byte tells of it: its length, and its digest where the registry says one. Of the whole, whose
/// body is left, where no range is taken: an empty content has no first byte.
///
/// # Errors
/// The source's.
pub(crate) async fn first_byte(
    source: &dyn Source,
    digest: &Digest,
    origins: Origins,
    deadline: Duration,
) -> Result<Proof, Fault> {
    let whole = || Want { origins, ..Want::default() };
    let opening = source.open(digest, Want { to: Some(1), ..whole() });
    let opened = match watched(deadline, source, opening).await {
        Err(fault) if fault.said == Said::Refused || fault.unfit => source.open(digest, whole()).await,
        opened => opened,
    };
    opened.map(|flow| flow.proof)
}

async fn delivered(source: &dyn Source, subject: &Subject, deadline: Duration) -> Result<Proof, Fault> {
    match subject {
        Subject::Blob(digest) => first_byte(source, digest, Origins::Registry, deadline).await,
        Subject::Tag(..) | Subject::Manifest(_) => Ok(of_whole(source.whole(subject, Origins::Registry).await?)),
    }
}

/// What a manifest that came says of itself; nothing where it is none, or may be another host's invention.
fn of_whole(whole: Whole) -> Proof {
    let found = Digest::of(whole.digest.map_or(Algorithm::Sha256, |said| said.algorithm()), &whole.bytes);
    let is_said = whole.digest.map_or(!whole.is_foreign, |said| said == found);
    if !is_said || kept_type(&whole.bytes).is_none() {
        return Proof::default();
    }
    let size = Some(whole.bytes.len() as u64);
    Proof { digest: Some(found), media_type: whole.typed().media_type, size }
}

//! Asks the registry what a tag is: it answers with a manifest's name, or with the manifest itself, or with something that
//! is none.

use crate::cache::caller::Caller;
use crate::cache::hint::head_or_get;
use crate::cache::manifests::store::ManifestStore;
use crate::cache::manifests::whole::{NoManifest, media_type_of};
use crate::cache::source::{Fault, Origins, Proof, Reach, Retry, Subject};
use crate::oci::{Algorithm, Digest, Look, kept_type};

/// What is asked of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asking {
    /// HEAD: the digest, the type and the size are enough.
    Description,
    /// GET: the manifest will be wanted next.
    Content,
}

/// The registry's 200.
#[derive(Clone, Debug)]
pub(crate) struct TagAnswer {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) size: u64,
    pub(crate) came: Came,
}

/// What came with a 200 for a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// The manifest's name: digest, type and length.
    Named,
    /// The manifest itself, verified.
    Delivered,
    /// Something that is passed on and not kept: schema 1, a manifest of a shape that is not known here, or one from a
    /// foreign host that does not say its digest.
    Unkept,
}

/// What the registry sent under a tag is not what it said it is.
#[derive(Debug, thiserror::Error)]
#[error("the upstream announced {said} and sent {found}")]
struct WrongTag {
    said: Digest,
    found: Digest,
}

/// HEAD, where that is enough; GET where HEAD is refused, names no manifest or is answered by what is none: a page, perhaps.
/// What GET delivers is `kept`.
pub(crate) async fn ask(
    caller: &Caller,
    tag: &Subject,
    by_content: bool,
    kept: &ManifestStore,
) -> Result<TagAnswer, Fault> {
    let got = get(caller, tag, kept);
    if by_content {
        return got.await;
    }
    head_or_get(&*caller.source, tag, |proof| named(tag, proof), got).await
}

async fn get(caller: &Caller, tag: &Subject, kept: &ManifestStore) -> Result<TagAnswer, Fault> {
    let Caller { place, source, .. } = caller;
    let whole = source.whole(tag, Origins::Registry).await?;
    let is_manifest = kept_type(&whole.bytes).is_some();
    let (size, is_schema1, look) =
        (whole.bytes.len() as u64, whole.is_schema1(), Look::of(whole.media_type.as_deref()));
    let algorithm = whole.digest.map_or(Algorithm::Sha256, |said| said.algorithm());
    let found = Digest::of(algorithm, &whole.bytes);
    // Threat: a gateway's page under the tag. What is no manifest is kept by nobody, whatever its type says; and what
    // a login host may have sent passes only if it does not look like a page.
    if !is_manifest && !is_schema1 && look != Look::Content {
        return Err(NoManifest::fault(whole.media_type.as_deref()));
    }
    let whole = whole.typed();
    let media_type = whole.media_type.unwrap_or_else(|| media_type_of(&whole.bytes));
    match whole.digest {
        Some(said) if said != found && is_schema1 => {
            Ok(TagAnswer { digest: said, media_type, size, came: Came::Unkept })
        }
        Some(said) if said != found => {
            tracing::error!(registry = %place.registry, repository = %place.repository, %said, %found, "the registry's manifest is not what its digest says; refused");
            Err(Fault::new(Retry::Never, WrongTag { said, found }))
        }
        said if is_manifest && (said.is_some() || !whole.is_foreign) => {
            kept.keep(found, &whole.bytes).await;
            Ok(TagAnswer { digest: found, media_type, size, came: Came::Delivered })
        }
        _ => Ok(TagAnswer { digest: found, media_type, size, came: Came::Unkept }),
    }
}

/// What a HEAD says of a tag, where it names a manifest.
fn named(tag: &Subject, proof: Proof) -> Option<TagAnswer> {
    let is_yes = proof.reach(tag, None) == Some(Reach::Place);
    let Proof { digest: Some(digest), media_type: Some(media_type), size: Some(size) } = proof else { return None };
    is_yes.then_some(TagAnswer { digest, media_type, size, came: Came::Named })
}

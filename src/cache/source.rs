//! Declares all that the cache knows of the world above: a source that can be asked for bytes, and for proof.
//!
//! A source stands for one repository, asked in one name; what is asked of it is an argument. The cache never sees a
//! URL, a header or a redirect.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::host::Overdue;
use crate::oci::{Accept, Digest, Look, MediaType, Tag};
use crate::store;
use crate::wire::Body;

/// One repository that can be asked upstream, in one name.
pub trait Source: Send + Sync + 'static {
    /// Opens the bytes of `want` of a blob; every call may take another route (redirect, endpoint).
    fn open<'a>(&'a self, digest: &'a Digest, want: Want) -> BoxFuture<'a, Result<Flow, Fault>>;

    /// Asks by HEAD, of the registry itself and with the caller's own credentials, whether it is there for
    /// this caller. Its failure decides nothing where `Fault::is_about_head`: then GET is asked, and the two are
    /// [compared](Source::compared).
    fn prove<'a>(&'a self, subject: &'a Subject) -> BoxFuture<'a, Result<Proof, Fault>>;

    /// Notes what HEAD failed with (`None`: it told too little), and what GET failed with then, if it did.
    fn compared(&self, subject: &Subject, by_head: Option<&Fault>, by_get: Option<&Fault>) {
        let _ = (subject, by_head, by_get);
    }

    /// Gets a manifest as a whole.
    fn whole<'a>(&'a self, subject: &'a Subject, origins: Origins) -> BoxFuture<'a, Result<Whole, Fault>>;

    /// Whether the registry itself answers all that is asked by digest of [`Origins::Any`], so that their success proves
    /// the caller's right. A mirror's does not: then it has to be proven first.
    fn decides(&self) -> bool;

    /// Whether the registry is known to be away: then the last known answer is served, and nobody waits.
    fn is_away(&self) -> bool {
        false
    }

    /// The same once the probe that is finding out has done so, which is soon.
    fn is_gone(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(self.is_away()))
    }

    /// The fault that every caller is told while the registry is known to be away.
    fn absence(&self) -> Option<Fault> {
        None
    }

    /// A caller that comes now does not wait for what was asked earlier than this, but asks anew: it has missed its
    /// deadline, or the registry went away or came back since. `None`: it waits for anything.
    fn fresh_since(&self) -> Option<Instant> {
        None
    }

    /// Notes that a caller that asked at `begun` waited until a deadline, and waits no longer.
    fn missed(&self, begun: Instant) {
        let _ = begun;
    }
}

impl Overdue for dyn Source {
    fn note_missed(&self, begun: Instant) {
        self.missed(begun);
    }
}

/// The endpoints that may serve content by digest. Only the registry itself says what a tag is, and who may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Origins {
    /// The registry and its mirrors.
    #[default]
    Any,
    /// The registry itself.
    Registry,
}

/// The bytes that are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// The first byte's position.
    pub from: u64,
    /// The position after the last one; `None` for all that follow.
    pub to: Option<u64>,
    /// What earlier bytes came with: bytes of another version are not wanted (RFC 9110, 13.1.5).
    pub if_range: Vec<Validator>,
    /// Which of several equal endpoints to ask first.
    pub way: usize,
    /// Endpoints that failed with this content, the earliest first: they are asked after all others, in this order.
    pub last: Vec<Arc<str>>,
    /// What to do while the host has as many downloads as it may have.
    pub when_full: WhenFull,
    /// The endpoints that may serve it.
    pub origins: Origins,
    /// It is the rest of what this source has begun to deliver. So it is soon asked again where no answer comes, and with
    /// nobody's credentials where the source's own have expired meanwhile.
    pub resumes: bool,
}

/// What a download does while the host has as many as it may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It is not counted: its client waits for it, and sets its pace.
    #[default]
    Uncounted,
    /// It waits.
    Wait,
    /// It fails: it was only to gain time.
    Spare,
}

/// A strong validator: an entity tag, and which endpoint said it. Another one's tags mean nothing to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validator {
    /// The tag with its quotes.
    pub tag: String,
    /// The endpoint's name.
    pub endpoint: Arc<str>,
}

/// An open body.
#[derive(Debug)]
pub struct Flow {
    /// The position of its first byte; may lie before what was wanted, never after.
    pub at: u64,
    /// The position after its last byte, where the upstream says it.
    pub to: Option<u64>,
    /// The whole content's length in bytes, where the upstream says it.
    pub total: Option<u64>,
    /// Whether the upstream answers ranges; `None` where it did not show.
    pub ranges: Option<bool>,
    /// Whether a coding was taken off on the way, so that the upstream's bytes are others, and it is asked for no part.
    pub is_coded: bool,
    /// Whether its end is that of its connection, so that it may have been cut there.
    pub is_open_ended: bool,
    /// For a later resumption.
    pub validator: Option<Validator>,
    /// The name of the endpoint that answers, where there are several.
    pub endpoint: Option<Arc<str>>,
    /// What the head of the answer says of the content; its size is `total`.
    pub proof: Proof,
    /// The bytes.
    pub body: Body,
}

/// What a registry says of something by HEAD, or of a blob by a GET of its first byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Its digest, where it said one that can be verified.
    pub digest: Option<Digest>,
    /// Its `Content-Type`.
    pub media_type: Option<String>,
    /// Its length in bytes.
    pub size: Option<u64>,
}

/// What a question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A tag: any manifest, of a type that is accepted.
    Tag(Tag, Accept),
    /// A manifest by digest.
    Manifest(Digest),
    /// A blob.
    Blob(Digest),
}

/// How far a yes of the registry reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// To the content that it was about: the answer may come from another server that happens to have that content.
    Content,
    /// To all that is in the repository: only the registry can have said it.
    Place,
}

impl Proof {
    /// Without a length of 0, which is no length but a habit of gateways in answer to HEAD: no manifest is empty, and of
    /// blobs only one.
    #[must_use]
    pub fn plausible(self, subject: &Subject) -> Self {
        let is_empty = matches!(subject, Subject::Blob(wanted) if *wanted == Digest::of(wanted.algorithm(), b""));
        if self.size == Some(0) && !is_empty { Self { size: None, ..self } } else { self }
    }

    /// How far it reaches as a yes; `None` where it is none: a page that answers everything with 200. `length` is the
    /// content's, in bytes, where it is known: then a registry that says no digest of a blob is believed by it.
    ///
    /// A manifest is named by its digest, a manifest's type and its length together.
    #[must_use]
    pub fn reach(&self, subject: &Subject, length: Option<u64>) -> Option<Reach> {
        let is_of_length = length.is_some() && self.size == length;
        match (subject, self.digest) {
            (Subject::Tag(..), Some(_)) => self.is_of_manifest().then_some(Reach::Place),
            (Subject::Manifest(wanted), Some(said)) => {
                let is_named = said == *wanted && self.is_of_manifest() && (length.is_none() || is_of_length);
                is_named.then_some(Reach::Place)
            }
            (Subject::Blob(wanted), Some(said)) => (said == *wanted).then_some(Reach::Place),
            (Subject::Blob(_), None) => (is_of_length && self.look() == Look::Content).then_some(Reach::Content),
            (Subject::Tag(..) | Subject::Manifest(_), None) => None,
        }
    }

    /// What its type says of it.
    #[must_use]
    pub fn look(&self) -> Look {
        Look::of(self.media_type.as_deref())
    }

    fn is_of_manifest(&self) -> bool {
        self.size.is_some() && self.media_type.as_deref().is_some_and(|said| MediaType::parse(said).is_some())
    }
}

/// A manifest as it came.
#[derive(Clone, Debug)]
pub struct Whole {
    /// The bytes, untouched.
    pub bytes: Bytes,
    /// Its `Content-Type`.
    pub media_type: Option<String>,
    /// `Docker-Content-Digest`, where it said one that can be verified.
    pub digest: Option<Digest>,
    /// A host to which the registry redirected sent it: only its digest tells whether it is the right manifest.
    pub is_foreign: bool,
}

/// A source's failure.
#[derive(Clone)]
pub struct Fault {
    /// Whether asking again can help.
    pub retry: Retry,
    /// What it says about the content asked for.
    pub said: Said,
    /// Whether the same asked in another way may be answered: the answer does not fit how it was asked (another part, no
    /// part at all), or it is one to HEAD, which many servers refuse for its own sake, by any status or by none.
    pub unfit: bool,
    /// What failed, where what follows depends on it.
    pub kind: FaultKind,
    /// How long the upstream asks to be left alone (`Retry-After`).
    pub retry_after: Option<Duration>,
    /// Why, for the log and for the answer.
    pub cause: Arc<dyn Error + Send + Sync>,
}

/// What failed, where what follows depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The store, and not for want of open files: the content can still be passed on without it.
    Store,
    /// A throttle (429) by any host, which says nothing of rights, nor of the registry's health.
    Throttle,
    /// Nothing was sent: the registry is known to be unreachable.
    Away,
    /// The content has no such part (416). With the content's length in bytes, if it was said.
    NoSuchPart(Option<u64>),
    /// The source was not asked: nothing is said of its caller.
    NotAsked,
    /// A 200 that does not say that it is about this content.
    Unproven,
    /// Anything else.
    Other,
}

/// Whether asking again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same source may do better the next time.
    Again,
    /// It will not; another source may.
    Never,
}

/// What a failure says about the content asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing: no answer, a throttle, a fault of the server.
    Nothing,
    /// It is not there (404).
    Missing,
    /// It wants a token first, which anybody may be given: nothing is said of rights yet (401 to no credentials).
    Challenged,
    /// It is denied to a caller without other credentials (401).
    Denied,
    /// This caller may not have it (403).
    Forbidden,
    /// Something else that is an answer to this caller alone.
    Refused,
}

impl Fault {
    /// A failure of our own or of the connection, which says nothing about the content.
    pub fn new(retry: Retry, cause: impl Error + Send + Sync + 'static) -> Self {
        let (kind, said) = (FaultKind::Other, Said::Nothing);
        Self { retry, said, unfit: false, kind, retry_after: None, cause: Arc::new(cause) }
    }

    /// A failure of the store.
    pub(crate) fn of_store(retry: Retry, error: store::Error) -> Self {
        let kind = if error.is_exhausted() { FaultKind::Other } else { FaultKind::Store };
        Self::new(retry, error).of(kind)
    }

    /// The same of that kind.
    #[must_use]
    pub fn of(self, kind: FaultKind) -> Self {
        Self { kind, ..self }
    }

    /// The same of what asking in another way may mend.
    #[must_use]
    pub fn unfit(self) -> Self {
        Self { unfit: true, ..self }
    }

    /// Whether a HEAD may have failed for being a HEAD, so that a GET can still succeed.
    pub(crate) fn is_about_head(&self) -> bool {
        self.unfit
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}: {}", self.retry, self.said, self.cause)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn a_length_of_0_is_one_of_the_empty_blob_alone() {
        let [empty, other] = [&b""[..], b"a"].map(|bytes| Digest::of(Algorithm::Sha256, bytes));
        let tag = Subject::Tag("1".parse().unwrap(), Accept::EVERYTHING);
        for (subject, size, expected) in [
            (&tag, Some(0), None),
            (&tag, Some(5), Some(5)),
            (&Subject::Manifest(empty), Some(0), None),
            (&Subject::Blob(other), Some(0), None),
            (&Subject::Blob(other), None, None),
            (&Subject::Blob(empty), Some(0), Some(0)),
        ] {
            let proof = Proof { digest: Some(other), media_type: None, size };
            assert_eq!(proof.plausible(subject).size, expected, "{subject:?}");
        }
    }

    #[test]
    fn only_what_the_registry_alone_can_say_is_a_yes() {
        let (wanted, other) = (Digest::of(Algorithm::Sha256, b"a"), Digest::of(Algorithm::Sha256, b"b"));
        let tag = Subject::Tag("1".parse().unwrap(), Accept::EVERYTHING);
        let (manifest, blob) = (Subject::Manifest(wanted), Subject::Blob(wanted));
        let known = MediaType::OciManifest.as_str();
        let (place, content) = (Some(Reach::Place), Some(Reach::Content));
        let table = [
            (&tag, Some(other), known, Some(5), None, place),
            (&tag, None, known, Some(5), None, None),
            (&tag, Some(other), known, None, None, None),
            (&tag, Some(other), "text/html", Some(5), None, None),
            (&manifest, Some(wanted), known, Some(5), None, place),
            (&manifest, Some(wanted), known, Some(5), Some(5), place),
            (&manifest, Some(wanted), known, Some(5), Some(6), None),
            (&manifest, Some(other), known, Some(5), None, None),
            (&manifest, Some(wanted), "application/json", Some(5), Some(5), None),
            (&manifest, None, known, Some(5), Some(5), None),
            (&blob, Some(wanted), "text/plain", None, None, place),
            (&blob, Some(other), "application/octet-stream", Some(5), Some(5), None),
            (&blob, None, "application/octet-stream", Some(5), Some(5), content),
            (&blob, None, "application/octet-stream", Some(6), Some(5), None),
            (&blob, None, "application/octet-stream", Some(5), None, None),
            (&blob, None, "application/octet-stream", None, None, None),
            (&blob, None, "text/html", Some(5), Some(5), None),
            (&blob, None, "application/json", Some(5), Some(5), None),
        ];
        for (subject, digest, media_type, size, length, expected) in table {
            let proof = Proof { digest, media_type: Some(media_type.to_owned()), size };
            assert_eq!(proof.reach(subject, length), expected, "{subject:?} {proof:?} {length:?}");
        }
    }
}

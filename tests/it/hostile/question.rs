//! Every kind of question that a client asks a registry through the proxy.

use super::honest::{self, Asked};
use super::things::{REPOSITORY, Things};
use crate::support::MANIFEST;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Question {
    Ping,
    Token,
    /// A tag that nobody has asked for before.
    Tag,
    /// The same by HEAD.
    TagHead,
    /// A tag that its owner has pulled, asked by the owner again.
    TagKnown,
    Manifest,
    /// A blob that nobody has asked for before.
    BlobCold,
    /// One that its owner has pulled, asked by a stranger.
    BlobWarm,
    BlobHead,
    BlobRange,
    Tags,
    Referrers,
    PushManifest,
    Upload,
}

pub(super) const QUESTIONS: [Question; 14] = [
    Question::Ping,
    Question::Token,
    Question::Tag,
    Question::TagHead,
    Question::TagKnown,
    Question::Manifest,
    Question::BlobCold,
    Question::BlobWarm,
    Question::BlobHead,
    Question::BlobRange,
    Question::Tags,
    Question::Referrers,
    Question::PushManifest,
    Question::Upload,
];

/// The range that is asked for, behind the middle.
pub(super) const RANGE: (usize, usize) = (30_000, 30_999);

impl Question {
    /// As tables and hosts have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Token => "token",
            Self::Tag => "tag",
            Self::TagHead => "tag-head",
            Self::TagKnown => "tag-known",
            Self::Manifest => "manifest",
            Self::BlobCold => "blob-cold",
            Self::BlobWarm => "blob-warm",
            Self::BlobHead => "blob-head",
            Self::BlobRange => "blob-range",
            Self::Tags => "tags",
            Self::Referrers => "referrers",
            Self::PushManifest => "push",
            Self::Upload => "upload",
        }
    }

    /// Whether its answer is passed on as it comes, before all of it is known.
    pub(super) fn streams(self) -> bool {
        matches!(self, Self::BlobCold | Self::BlobRange)
    }

    pub(super) fn method(self) -> &'static str {
        match self {
            Self::TagHead | Self::BlobHead => "HEAD",
            Self::PushManifest => "PUT",
            Self::Upload => "POST",
            _ => "GET",
        }
    }

    pub(super) fn path(self, things: &Things) -> String {
        let of = |rest: &str| format!("/v2/{REPOSITORY}/{rest}");
        match self {
            Self::Ping => "/v2/".to_owned(),
            Self::Token => format!("/token?service=lab&scope=repository:{REPOSITORY}:pull"),
            Self::Tag | Self::TagHead | Self::PushManifest => of("manifests/new"),
            Self::TagKnown => of("manifests/kept"),
            Self::Manifest => of(&format!("manifests/{}", things.manifest.digest)),
            Self::BlobCold | Self::BlobHead | Self::BlobRange => of(&format!("blobs/{}", things.layer.digest)),
            Self::BlobWarm => of(&format!("blobs/{}", things.kept_layer.digest)),
            Self::Tags => of("tags/list"),
            Self::Referrers => of(&format!("referrers/{}", things.manifest.digest)),
            Self::Upload => of("blobs/uploads/"),
        }
    }

    /// Whether the owner asks, with credentials.
    pub(super) fn is_owners(self) -> bool {
        matches!(self, Self::TagKnown | Self::PushManifest | Self::Upload)
    }

    /// Whether it is about a manifest or a blob.
    pub(super) fn is_content(self) -> bool {
        !matches!(self, Self::Ping | Self::Token | Self::Tags | Self::Referrers | Self::PushManifest | Self::Upload)
    }

    pub(super) fn headers(self) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        if self.is_owners() {
            headers.push(("authorization", honest::owner()));
        }
        match self {
            Self::BlobRange => headers.push(("range", format!("bytes={}-{}", RANGE.0, RANGE.1))),
            Self::PushManifest => headers.push(("content-type", MANIFEST.to_owned())),
            _ => {}
        }
        headers
    }

    pub(super) fn body(self, things: &Things) -> Vec<u8> {
        if self == Self::PushManifest { things.manifest.bytes.clone() } else { Vec::new() }
    }

    /// The question as an honest registry would read it.
    pub(super) fn asked(self, things: &Things) -> Asked {
        let path = self.path(things).split('?').next().unwrap_or_default().to_owned();
        let range = (self == Self::BlobRange).then(|| format!("bytes={}-{}", RANGE.0, RANGE.1));
        Asked { method: self.method().to_owned(), path, range, ..Asked::default() }
    }
}

//! Declares the commands and what they report: the words of the control socket and of `--json`.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::moment;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// List images.
    Ls,
    /// Show one.
    Show,
    /// Count.
    Stats,
    /// Remove.
    Rm,
    /// Keep from eviction.
    Pin,
    /// Do so no more.
    Unpin,
    /// Hash again.
    Verify,
    /// Tell which hosts of a registry are unreachable.
    Outages,
}

/// A command with what it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What is to be done.
    pub command: Command,
    /// The name of an image, a repository, a registry, or a digest; all content where it is left out.
    #[serde(default)]
    pub name: Option<String>,
    /// Only tell what would be removed.
    #[serde(default)]
    pub dry_run: bool,
    /// Remove what is pinned, too.
    #[serde(default)]
    pub force: bool,
}

/// Something that a command tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// An image of a list.
    Image(ImageRow),
    /// An image or a blob, shown.
    Shown(Box<Shown>),
    /// The counts.
    Stats(Stats),
    /// What was removed.
    Removed(Removal),
    /// An image is pinned, or no more.
    Pin(PinChange),
    /// So much is to be verified, in bytes.
    Todo(u64),
    /// So much was verified since the last time, in bytes.
    Checked(u64),
    /// A blob is not what it should be.
    Damaged(Damage),
    /// Verifying has ended.
    Verified(Verified),
    /// A host that a registry needs is unreachable, in words.
    Outage(String),
}

/// What kind of thing a digest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContentKind {
    /// Manifests for several platforms.
    Index,
    /// An image of one platform, or an artifact.
    Manifest,
    /// A configuration or a layer.
    Blob,
}

/// An image as it is listed. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRow {
    /// The registry.
    pub registry: String,
    /// The repository there.
    pub repository: String,
    /// The tag; none for what was had by its digest only.
    pub tag: Option<String>,
    /// The manifest or index.
    pub digest: String,
    /// Which of the two.
    pub kind: ContentKind,
    /// All of it that is here.
    pub size: u64,
    /// What of that other images, or other names of this one, need too.
    pub shared: u64,
    /// How many things it lists that are not here: other platforms, mostly.
    pub missing: u64,
    /// Whether a pull of a platform that is here would need the registry, or none is here.
    #[serde(default)]
    pub incomplete: bool,
    /// When its manifest was last served.
    #[serde(with = "moment::option")]
    pub last_used: Option<SystemTime>,
    /// Whether eviction passes it by.
    pub pinned: bool,
}

/// An image or a blob with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The name that was asked for.
    pub name: String,
    /// It.
    #[serde(flatten)]
    pub part: Part,
    /// All of it that is here, in bytes.
    pub present_size: u64,
    /// How many things it lists that are not here.
    pub missing: u64,
    /// The names of images that need it; for a blob or a platform's manifest.
    pub needed_by: Vec<String>,
    /// What the tag has been, the latest first.
    pub history: Vec<History>,
    /// When the registry was last asked what the tag is.
    #[serde(default, with = "moment::option")]
    pub checked: Option<SystemTime>,
    /// Who may read it without proving it now.
    #[serde(default)]
    pub rights: Vec<Right>,
}

/// With whose right something was had in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Right {
    /// The registry and the repository.
    pub place: String,
    /// Whether it was without credentials; else only who proves a right of its own may read it there.
    pub public: bool,
    /// When the registry last said so.
    #[serde(with = "moment")]
    pub proven: SystemTime,
}

/// A manifest or a blob, with what it lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it is.
    pub digest: String,
    /// Which kind.
    pub kind: ContentKind,
    /// Its media type, where one is known.
    pub media_type: Option<String>,
    /// `os/architecture/variant`, for an index's manifest.
    pub platform: Option<String>,
    /// Bytes: of the file if it is here, else as announced.
    pub size: u64,
    /// Whether it is here.
    pub present: bool,
    /// Whether eviction passes it by.
    pub pinned: bool,
    /// When it was last served.
    #[serde(with = "moment::option")]
    pub last_used: Option<SystemTime>,
    /// The repositories that have a link to it.
    pub linked: Vec<String>,
    /// What it lists.
    pub parts: Vec<Part>,
}

/// What a tag was for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The digest.
    pub digest: String,
    /// When it was first seen.
    #[serde(with = "moment")]
    pub first: SystemTime,
    /// When it was last seen.
    #[serde(with = "moment")]
    pub last: SystemTime,
}

/// What the cache takes. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The folder.
    pub dir: String,
    /// Blobs and fills.
    pub bytes: u64,
    /// Blobs, manifests included.
    pub entries: u64,
    /// The most that `bytes` should be.
    pub limit: u64,
    /// What the file system has free.
    pub disk_free: u64,
    /// What it should keep free.
    pub min_free: u64,
    /// Blobs evicted since the server's start; none without a server.
    pub evictions: Option<u64>,
    /// Files that are being filled.
    pub fills: u64,
    /// Pinned images.
    pub pins: u64,
    /// Blobs that eviction passes by.
    pub pinned_bytes: u64,
    /// By registry, the largest first.
    pub registries: Vec<RegistryShare>,
    /// What several registries have, counted once.
    pub between_registries: u64,
    /// What is linked from nowhere: of expired links, or found after the catalog was lost.
    pub unnamed: u64,
}

/// What a registry's content takes. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryShare {
    /// The registry.
    pub registry: String,
    /// Its images, by name.
    pub images: u64,
    /// Its blobs that are here.
    pub entries: u64,
    /// Their size.
    pub bytes: u64,
    /// What of that no other registry has.
    pub only_here: u64,
}

/// What went with a name, or would go. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// The name.
    pub name: String,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Tags forgotten.
    pub tags: u64,
    /// Links forgotten.
    pub links: u64,
    /// Blobs removed.
    pub blobs: u64,
    /// What they took.
    pub freed: u64,
    /// What was named and stays, because something else needs it.
    pub kept: u64,
    /// Names that stay because they are pinned.
    pub spared: u64,
}

/// A pin that was set or taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinChange {
    /// The name.
    pub name: String,
    /// What it means.
    pub digest: String,
    /// Whether it is pinned now.
    pub pinned: bool,
    /// What of it is here, in bytes.
    pub size: u64,
    /// How many things it lists that are not here yet.
    pub missing: u64,
}

/// A blob that is not what its name says, or that the disk cannot read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The blob.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Images that need it: they fetch it again.
    pub needed_by: Vec<String>,
}

/// The end of verifying.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Blobs hashed.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many were damaged, and are dropped.
    pub damaged: u64,
}

impl Order {
    /// A command without any of its options.
    #[must_use]
    pub fn new(command: Command, name: Option<String>) -> Self {
        Self { command, name, dry_run: false, force: false }
    }
}

impl Command {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ls => "ls",
            Self::Show => "show",
            Self::Stats => "stats",
            Self::Rm => "rm",
            Self::Pin => "pin",
            Self::Unpin => "unpin",
            Self::Verify => "verify",
            Self::Outages => "outages",
        }
    }
}

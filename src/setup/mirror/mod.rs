//! Describes how a client machine is set up to pull from a mirror.
//!
//! Flow: a [`ClientKind`](super::ClientKind), a [`MirrorUrl`] and the names of registries make a [`SetupPlan`](super::SetupPlan)
//! (`plan`, with the files of `containerd` and of `files`, and what is `known` on the mirror's own machine), or a reason why that
//! client cannot have it. `script` writes it as a
//! POSIX shell script that also undoes it; `merge` is what that script does to a JSON file of others.
//! Scope: text. Nothing here touches a file or runs a command.
//! Never: a key of others lost; a CA that is trusted without its fingerprint, or for more than the mirror's own host.
//! Reading: containerd's docs/hosts.md, containers-registries.conf(5), dockerd(8) "daemon.json", k3s' "Private Registry
//! Configuration", buildkitd.toml(5).

mod containerd;
mod containers;
mod files;
mod known;
mod merge;
mod plan;
mod refused;
mod script;
mod url;

pub use known::OnMirror;
pub use merge::{Merge, Unmergeable, merge};
pub use plan::mirror_plan;
pub use refused::Unmirrorable;
pub use script::mirror_script;
pub use url::{BadMirror, MirrorUrl};

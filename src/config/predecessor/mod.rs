//! docker-registry-proxy's environment and volumes, so that its image can be swapped for ours.
//!
//! Looked at only where there is no configuration file: its variables have plain names (`REGISTRIES`, `DEBUG`) that
//! may stand in any environment, and whoever has a file has left them behind. Variables of our own lie over them.
//! Flow: `layer` lays what the variables (`names`) mean over the tree, in our own words (`words`).
//! Scope: values of its environment; where its volumes are.
//! Never: a credential in a mistake or a notice.
//! Reading: docker-registry-proxy's README, Dockerfile and entrypoint.sh; nginx, "Configuration file measurement
//! units".

mod convert;
mod layer;
mod names;

pub(super) use layer::overlay;
pub(super) use names::NAMES;

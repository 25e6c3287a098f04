//! Reads docker-registry-proxy's environment and volumes, so that its image can be replaced by pullthrough's.
//!
//! Used only if there is no configuration file: its variables have plain names (`REGISTRIES`, `DEBUG`) that may exist in
//! any environment, and a file means that the switch is done. Our own variables override them.
//! Flow: `layer` lays the values of the variables (`names`), converted to our own form (`convert`), over the tree.
//! Scope: the values of its environment; the paths of its volumes.
//! Never: show a credential in a mistake or a notice.
//! Reading: docker-registry-proxy's README, Dockerfile and entrypoint.sh; nginx, "Configuration file measurement
//! units".

mod convert;
mod layer;
mod names;

pub(super) use layer::overlay;
pub(super) use names::NAMES;

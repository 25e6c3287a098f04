//! Describes how a client machine is set up for the proxy: its files, its commands, and how to undo it.
//!
//! Flow: a [`ClientKind`] and a [`ProxyUrl`] make a [`SetupPlan`] (`plan`): files, lines in files, commands, notes. The
//! same plan is printed for a person (`page`) and written as a POSIX shell script (`script`), which the proxy serves
//! under `/setup/CLIENT` and `pullthrough setup CLIENT --apply` runs. `trust` lists the trust stores for the
//! script and for `pullthrough trust`.
//! `mirror` has the other way, a mirror that the client is told of, with the same [`SetupPlan`].
//! Scope: text. Nothing here touches a file or runs a command.
//! Never: a script that trusts a CA without a fingerprint from its caller; outside text that was not checked first
//! ([`ProxyUrl`]).
//! Reading: systemd.exec(5) "Environment=", containers.conf(5), POSIX.1-2024 "Shell Command Language".

mod client;
mod mirror;
mod page;
mod plan;
mod script;
mod trust;
mod url;

pub use client::{ClientKind, UnknownClient};
pub use mirror::{BadMirror, Merge, MirrorUrl, OnMirror, Unmergeable, Unmirrorable, merge, mirror_plan, mirror_script};
pub use page::page;
pub use plan::{SetupPlan, Written, plan};
pub use script::{VARIABLES, script};
pub use trust::{TRUST_STORES, TrustStore};
pub use url::{BadUrl, ProxyUrl};

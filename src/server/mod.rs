//! Builds every room from the configuration, runs the doors, reloads and drains.
//!
//! Flow: [`run`] opens the CA and the store, puts the policy together (`build`), opens the listeners
//! (`listen`), prints what a person needs next (`banner`), and serves until a signal: SIGHUP swaps the policy
//! (`reload`), SIGTERM and SIGINT drain.
//! Scope: composition. No request passes through here.
//! Never: start half: what cannot be opened is an error before the first client is let in.

mod banner;
mod build;
mod listen;
mod reload;
mod run;

pub use run::{Running, run};

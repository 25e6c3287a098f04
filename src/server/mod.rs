//! Builds every room from the configuration, runs the doors, reloads and drains.
//!
//! Flow: [`run`] opens the CA and the store, puts the policy together (`build`), opens the listeners
//! (`listen`), or takes those that the service manager kept for it (`inherited`), prints what a person needs next
//! (`banner`), and serves until a signal: SIGHUP, or a changed file, swaps the policy (`reload`), SIGTERM and SIGINT
//! drain. The service manager is told of each, and by `watchdog` that the doors still answer.
//! Scope: composition. No request passes through here.
//! Never: start half: what cannot be opened is an error before the first client is let in.
//! Reading: sd_notify(3), sd_listen_fds(3), systemd.service(5).

mod banner;
mod build;
mod inherited;
mod listen;
mod reload;
mod run;
mod watchdog;

pub use run::{Running, run};

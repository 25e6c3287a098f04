//! Builds every room from the configuration, runs the listeners, reloads and drains.
//!
//! Flow: [`run`] opens the CA and the store, builds the policy (`build`), opens the listeners (`listen`) or takes those
//! that the service manager kept for it (`inherited`), prints the next steps (`banner`), and serves until a signal.
//! SIGHUP or a changed file swaps the policy (`reload`); SIGTERM and SIGINT drain. The service manager is notified of
//! each, and `watchdog` notifies it that the listeners still answer. `expiry` says in the log that the CA ends.
//! Scope: composition. No request passes through here.
//! Never: start in part. A part that cannot be opened is an error before the first client is accepted.
//! Reading: sd_notify(3), sd_listen_fds(3), systemd.service(5).

mod banner;
mod build;
mod expiry;
mod inherited;
mod listen;
mod port;
mod reload;
mod run;
mod watchdog;

pub use run::{Running, run};

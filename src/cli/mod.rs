//! Defines the commands, one file each.
//!
//! Flow: [`Cli`] is parsed; [`Cli::run`] runs the command and turns its outcome into an exit status: 0 for success,
//! 1 for a failure, 2 for wrong usage (from the parser) or a wrong configuration.
//! Scope: reading arguments and printing for people. The rooms below do the work.
//! Never: offer a command or flag that is not built.
//! Reading: README.md for each command; docs/operations.md for when an operator needs which one.

pub mod ca;
pub mod cache;
mod check;
mod doctor;
mod flags;
mod generate;
mod named;
mod permissions;
mod program;
mod serve;
mod setup;
pub mod trust;
mod why;

pub use flags::{ConfigFlag, Print, ServeFlags};
pub use program::Cli;

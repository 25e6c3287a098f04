//! The commands, one file each.
//!
//! Flow: [`Cli`] is parsed; [`Cli::run`] runs the command and turns its outcome into an exit status: 0 done,
//! 1 it failed, 2 wrong usage (said by the parser) or a wrong configuration.
//! Scope: reads arguments, prints for people. What a command does is done by the rooms below.
//! Never: offer what is not built.
//! Reading: README.md for each command; docs/operations.md for when an operator needs which.

pub mod ca;
pub mod cache;
mod check;
mod doctor;
mod flags;
mod generate;
mod permissions;
mod program;
mod serve;
mod setup;
pub mod trust;
mod why;

pub use flags::{ConfigFlag, Print, ServeFlags};
pub use program::Cli;

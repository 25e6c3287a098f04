//! `pullthrough serve`: run the proxy.

use super::flags::ServeFlags;
use crate::{config, server};

/// Runs until a signal ends it.
///
/// # Errors
/// The configuration's mistakes; what could not be opened.
pub(super) fn run(flags: &ServeFlags) -> anyhow::Result<()> {
    let sources = flags.sources();
    let settings = config::load(&sources)?;
    server::run(settings, sources)
}

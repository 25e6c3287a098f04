//! `pullthrough serve`: run the proxy.

use super::flags::ServeFlags;
use super::permissions::with_fix;
use crate::{config, server};

/// Runs until a signal ends it.
///
/// # Errors
/// The configuration's mistakes; what could not be opened.
pub(super) fn run(flags: &ServeFlags) -> anyhow::Result<()> {
    let sources = flags.sources();
    let settings = config::load(&sources)?;
    let folders = [settings.ca.dir.clone(), settings.cache.dir.clone()];
    server::run(settings, sources).map_err(|error| with_fix(error, &folders))
}

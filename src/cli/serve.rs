//! Implements `pullthrough serve`: runs the proxy.

use super::flags::ServeFlags;
use super::permissions::with_fix;
use crate::{config, server};

/// Runs the proxy until a signal stops it.
///
/// # Errors
/// The mistakes of the configuration, or the part that could not be opened.
pub(super) fn run(flags: &ServeFlags) -> anyhow::Result<()> {
    let sources = flags.sources();
    let settings = config::load(&sources)?;
    let folders = [settings.ca.dir.clone(), settings.cache.dir.clone()];
    server::run(settings, sources).map_err(|error| with_fix(error, &folders))
}

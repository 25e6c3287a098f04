//! `pullthrough completions` and `pullthrough man`: what packages ship, made from the commands themselves.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap::Command;
use clap_complete::Shell;

/// Writes the completions of `command` for `shell`.
///
/// # Errors
/// What writing to `out` says.
pub(super) fn completions(mut command: Command, shell: Shell, out: &mut dyn Write) -> anyhow::Result<()> {
    // Gathered first: the library panics where its writer fails, as a closed pipe does.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "pullthrough", &mut text);
    Ok(out.write_all(&text)?)
}

/// Writes the manual page of `command`, or with `folder` a page for each command into it.
///
/// # Errors
/// What writing says.
pub(super) fn man(command: Command, folder: Option<&Path>, out: &mut dyn Write) -> anyhow::Result<()> {
    match folder {
        Some(folder) => {
            clap_mangen::generate_to(command, folder).with_context(|| format!("cannot write to {}", folder.display()))
        }
        None => Ok(clap_mangen::Man::new(command).render(&mut &mut *out)?),
    }
}

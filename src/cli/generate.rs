//! Implements `pullthrough completions` and `pullthrough man`: generates the files that packages ship.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap::Command;
use clap_complete::Shell;

/// Writes the completions of `command` for `shell`.
///
/// # Errors
/// An error of writing to `out`.
pub(super) fn completions(mut command: Command, shell: Shell, out: &mut dyn Write) -> anyhow::Result<()> {
    // Collected first: the library panics when its writer fails, for example on a closed pipe.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "pullthrough", &mut text);
    Ok(out.write_all(&text)?)
}

/// Writes the manual page of `command`, or with `folder` a page for each command into it.
///
/// # Errors
/// An error of writing.
pub(super) fn man(command: Command, folder: Option<&Path>, out: &mut dyn Write) -> anyhow::Result<()> {
    match folder {
        Some(folder) => {
            clap_mangen::generate_to(command, folder).with_context(|| format!("cannot write to {}", folder.display()))
        }
        None => Ok(clap_mangen::Man::new(command).render(&mut &mut *out)?),
    }
}

//! The commands as they are typed, and where each thing that they tell is printed.

use std::io::{self, Write};
use std::ops::ControlFlow;

use anyhow::bail;
use clap::Subcommand;
use serde::Serialize;

use super::progress::VerifyProgress;
use super::run::carry_out;
use super::text::{self, Columns};
use crate::cache::{Command, Event, Order};
use crate::cli::flags::{Print, print_json};
use crate::oci::ImageName;
use crate::store::Config;

/// What to do with the cache's content. A NAME is an image (quay.io/org/app:1, alpine), a repository
/// (quay.io/org/app), a registry (quay.io) or a digest (sha256: and its first digits).
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum CacheCommand {
    /// List images with their sizes
    Ls {
        /// Only what has this name
        name: Option<ImageName>,
        /// How it is printed
        #[command(flatten)]
        print: Print,
    },
    /// Show an image: its platforms, its blobs, what of them is here, what the tag has been
    Show {
        /// An image or a digest
        name: ImageName,
        /// How it is printed
        #[command(flatten)]
        print: Print,
    },
    /// Show what the cache takes, in total and by registry
    Stats {
        /// How it is printed
        #[command(flatten)]
        print: Print,
    },
    /// Remove an image, a repository, a registry or a digest, with what nothing else needs
    Rm {
        /// What to remove
        name: ImageName,
        /// Only tell what would be removed
        #[arg(long)]
        dry_run: bool,
        /// Remove what is pinned, too
        #[arg(long)]
        force: bool,
    },
    /// Keep an image from eviction, with all its blobs, those that come later too
    Pin {
        /// An image, or a whole digest
        name: ImageName,
    },
    /// Let an image be evicted again
    Unpin {
        /// The name that it was pinned by, or its digest
        name: ImageName,
    },
    /// Hash blobs again; damaged ones are dropped and named
    #[command(group(clap::ArgGroup::new("what").required(true).args(["name", "all"])))]
    Verify {
        /// What to verify
        name: Option<ImageName>,
        /// Everything
        #[arg(long)]
        all: bool,
    },
}

impl CacheCommand {
    fn order(&self) -> Order {
        let order = |command, name: Option<&ImageName>| Order::new(command, name.map(ToString::to_string));
        match self {
            Self::Ls { name, .. } => order(Command::Ls, name.as_ref()),
            Self::Show { name, .. } => order(Command::Show, Some(name)),
            Self::Stats { .. } => order(Command::Stats, None),
            Self::Rm { name, dry_run, force } => {
                Order { dry_run: *dry_run, force: *force, ..order(Command::Rm, Some(name)) }
            }
            Self::Pin { name } => order(Command::Pin, Some(name)),
            Self::Unpin { name } => order(Command::Unpin, Some(name)),
            Self::Verify { name, .. } => order(Command::Verify, name.as_ref()),
        }
    }

    fn is_json(&self) -> bool {
        match self {
            Self::Ls { print, .. } | Self::Show { print, .. } | Self::Stats { print } => print.json,
            Self::Rm { .. } | Self::Pin { .. } | Self::Unpin { .. } | Self::Verify { .. } => false,
        }
    }
}

/// Runs `command` on the cache of `config`.
///
/// # Errors
/// What the server, the store or writing to `out` says; and that something was damaged.
pub fn run(command: &CacheCommand, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let is_list = matches!(command, CacheCommand::Ls { .. } | CacheCommand::Show { .. });
    let mut printer =
        Printer { out, is_json: command.is_json(), is_list, count: 0, damaged: 0, progress: VerifyProgress::new() };
    let mut failed = None;
    carry_out(config, &command.order(), &mut |event| match printer.print(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    // A broken pipe: whoever read it has enough, as `head` does.
    match failed.map_or_else(|| printer.end(), Err) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    if printer.damaged > 0 {
        bail!(
            "damaged blobs were found and dropped: {}; they are fetched again when they are asked for",
            printer.damaged
        );
    }
    Ok(())
}

struct Printer<'a> {
    out: &'a mut dyn Write,
    is_json: bool,
    is_list: bool,
    count: u64,
    damaged: u64,
    progress: VerifyProgress,
}

impl Printer<'_> {
    fn print(&mut self, event: Event) -> io::Result<()> {
        self.count += 1;
        match event {
            Event::Image(row) if self.is_json => self.json(&row),
            Event::Shown(shown) if self.is_json => self.json(&shown),
            Event::Stats(stats) if self.is_json => self.json(&stats),
            Event::Image(row) => text::image(self.out, &row, Columns { with_header: self.count == 1 }),
            Event::Shown(shown) => text::shown(self.out, &shown),
            Event::Stats(stats) => text::stats(self.out, &stats),
            Event::Removed(removal) => text::removed(self.out, &removal),
            Event::Pin(pin) => text::pin(self.out, &pin),
            Event::Todo(bytes) => {
                self.progress.start(bytes);
                Ok(())
            }
            Event::Checked(bytes) => {
                self.progress.add(bytes);
                Ok(())
            }
            Event::Damaged(damage) => {
                self.damaged += 1;
                let out = &mut *self.out;
                self.progress.aside(|| text::damaged(out, &damage))
            }
            Event::Verified(verified) => {
                self.progress.end();
                text::verified(self.out, &verified)
            }
        }
    }

    /// Lists are arrays, an element a line, so that they can be written as they come.
    fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        if self.is_list {
            self.out.write_all(if self.count == 1 { b"[\n" } else { b",\n" })?;
            return serde_json::to_writer(&mut *self.out, value).map_err(Into::into);
        }
        print_json(self.out, value)
    }

    fn end(&mut self) -> io::Result<()> {
        if self.is_json && self.is_list {
            self.out.write_all(if self.count == 0 { b"[]\n" } else { b"\n]\n" })?;
        }
        if !self.is_json && self.is_list && self.count == 0 {
            writeln!(self.out, "the cache holds no image yet")?;
        }
        self.out.flush()
    }
}

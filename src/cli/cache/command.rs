//! Defines the `cache` commands, and prints each event that they report.

use std::io::{self, Write};
use std::ops::ControlFlow;

use anyhow::bail;
use clap::Subcommand;
use serde::Serialize;

use super::format::count;
use super::progress::VerifyProgress;
use super::run::carry_out;
use super::text::{self, Columns};
use crate::cache::{Command, Event, Order};
use crate::cli::flags::{Print, print_json};
use crate::cli::named;
use crate::config::Settings;
use crate::oci::ImageName;

/// A command on the contents of the cache. A NAME is an image (quay.io/org/app:1, alpine), a repository
/// (quay.io/org/app), a registry (quay.io) or a digest (sha256: and its first digits).
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum CacheCommand {
    /// List images with their sizes
    Ls {
        /// Limit the list to this name
        name: Option<ImageName>,
        /// Text or JSON.
        #[command(flatten)]
        print: Print,
    },
    /// Show an image: its platforms, its blobs, which of them are cached, and the history of the tag
    Show {
        /// An image or a digest
        name: ImageName,
        /// Text or JSON.
        #[command(flatten)]
        print: Print,
    },
    /// Show how much space the cache uses, in total and per registry
    Stats {
        /// Text or JSON.
        #[command(flatten)]
        print: Print,
    },
    /// Remove an image, a repository, a registry or a digest, with all content that nothing else needs
    Rm {
        /// What to remove
        name: ImageName,
        /// Only show what would be removed
        #[arg(long)]
        dry_run: bool,
        /// Also remove pinned content
        #[arg(long)]
        force: bool,
    },
    /// Protect an image and all its blobs from eviction, including blobs that are cached later
    Pin {
        /// An image, or a complete digest
        name: ImageName,
    },
    /// Allow an image to be evicted again
    Unpin {
        /// The name it was pinned by, or its digest
        name: ImageName,
    },
    /// Hash cached blobs again; drop and report damaged ones
    #[command(group(clap::ArgGroup::new("what").required(true).args(["name", "all"])))]
    Verify {
        /// What to verify
        name: Option<ImageName>,
        /// Verify everything
        #[arg(long)]
        all: bool,
    },
}

impl CacheCommand {
    /// The same for the name by which the cache has it.
    fn own(mut self, settings: &Settings) -> anyhow::Result<Self> {
        let name = match &mut self {
            Self::Show { name, .. } | Self::Rm { name, .. } | Self::Pin { name } | Self::Unpin { name } => Some(name),
            Self::Ls { name, .. } | Self::Verify { name, .. } => name.as_mut(),
            Self::Stats { .. } => None,
        };
        if let Some(name) = name {
            *name = named::own(settings, name)?;
        }
        Ok(self)
    }

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

/// Runs `command` on the cache of `settings`.
///
/// # Errors
/// An error of the server, of the store or of writing to `out`; also when a blob was damaged.
pub fn run(command: &CacheCommand, settings: &Settings, out: &mut dyn Write) -> anyhow::Result<()> {
    let (command, config) = (&command.clone().own(settings)?, &settings.cache);
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
    // A broken pipe means that the reader has enough, as `head` does.
    match failed.map_or_else(|| printer.end(), Err) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    if printer.damaged > 0 {
        bail!(
            "found and dropped {}; the next pull that needs them downloads them again",
            count(printer.damaged, "damaged blob")
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
            Event::Outage(_) => Ok(()), // asked for by `why` only
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

    /// Lists are arrays with one element a line, so that they can be written as events arrive.
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
            writeln!(self.out, "the cache holds no images")?;
        }
        self.out.flush()
    }
}

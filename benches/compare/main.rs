//! Compares pullthrough with its peers: one machine, one run, the same content, in turn, several rounds.
//!
//! `cargo bench --bench compare` starts an origin registry in this process, then the release binary of
//! pullthrough and every peer that is installed, and prints one table of medians and ratios. Nothing here
//! asserts a time: only ratios within one run mean something, and a person reads them.
//! Flow: `options`, then `lab` (certificates, origin, scratch folder), then `peers`, then each of `scenarios`
//! round by round into `table`.
//! Never: an address that is not loopback, a child that outlives this process, a folder that stays.

mod certificates;
mod client;
mod content;
mod lab;
mod load;
mod options;
mod origin;
mod pace;
mod peers;
mod process;
mod scenarios;
mod table;

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use lab::Lab;
use options::Options;
use table::Table;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(usage) => {
            eprintln!("{usage}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let _ = pullthrough::host::raise_file_limit(); // with a lower one the large scenarios say so themselves
    // A client looks often for what has come: a first byte is not to wait for what other clients read.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().event_interval(8).build();
    let runtime = runtime.context("no runtime")?;
    let mut table = Table::default();
    let finished = runtime.block_on(async {
        let lab = Lab::open(options).await?;
        let mut terminate = signal(SignalKind::terminate())?;
        // Dropped, not ended: so the children and the folder go also when somebody has seen enough.
        tokio::select! {
            finished = scenarios::run(&lab, options, &mut table) => finished,
            _ = tokio::signal::ctrl_c() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    });
    println!("{table}");
    finished
}

//! What the program says of itself: the log, the access log, the metrics.
//!
//! Flow: [`init`] sets the log up once; a request ends as one [`AccessLine`] and a few calls on [`Metrics`]; a
//! scrape reads [`Metrics::encode`], which asks the rooms for their [`Readings`] and the kernel for the process.
//! Scope: words and numbers only. [`Kind`] and [`Outcome`] are the one vocabulary of the `Cache-Status` header,
//! the access log and the metric labels.
//! Never: a secret, a header's value, a query string. Never a metric label that a client could choose: labels
//! are configured names and fixed words, so that nobody can fill the memory with series.
//! Reading: OpenMetrics 1.0; RFC 9211 for the outcomes.

mod access;
mod chain;
mod config;
mod follow;
mod labels;
mod log;
mod metrics;
mod outcome;
mod process;
mod readings;
mod text;
mod writer;

pub use access::AccessLine;
pub use chain::chain;
pub use config::{Config, Format};
pub use log::{BadLevel, LEVEL_VARIABLE, flush, init, level};
pub use metrics::{Metrics, OpenConnection, RunningFill};
pub use outcome::{Kind, Outcome};
pub use readings::{Readings, Use};

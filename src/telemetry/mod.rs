//! Reports what the program does: the log, the access log and the metrics.
//!
//! Flow: [`init`] starts the log once. A request ends with one [`AccessLine`] and a few calls of [`Metrics`]. A scrape
//! calls [`Metrics::encode`], which collects the [`Readings`] of the other rooms and those of the process.
//! Scope: names and numbers only. [`Kind`] and [`Outcome`] are the one vocabulary of the `Cache-Status` header,
//! the access log and the metric labels.
//! Never: writes a secret, the value of a header or a query string; uses a metric label that a client can choose.
//! Labels are configured names and fixed words, so that no client can fill the memory with series.
//! Reading: OpenMetrics 1.0; Prometheus' text format 0.0.4; RFC 9211 for the outcomes.

mod access;
mod config;
mod exposition;
mod follow;
mod labels;
mod log;
mod metrics;
mod outcome;
mod process;
mod readings;
mod registry;
mod text;
mod writer;

pub use crate::host::chain;
pub use access::{AccessLine, UpstreamAnswer};
pub use config::{AccessLog, Config, Format, LEVEL_VARIABLE, LogLevel};
pub use exposition::Exposition;
pub use log::{adopt, fatal, flush, init};
pub use metrics::{KnownLabels, Metrics, OpenConnection, RunningFill};
pub use outcome::{Kind, Outcome};
pub use readings::{EndpointUp, Readings, RegistryReading, Use};
pub use registry::RegistryMetrics;

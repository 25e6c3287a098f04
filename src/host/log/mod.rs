//! Helps rooms write log lines: the id of the request that a line is about, an error with its causes, one line a minute.
//!
//! Scope: what a line says. How lines are written is the business of `telemetry`.

pub(super) mod chain;
pub(super) mod request_id;
pub(super) mod seldom;

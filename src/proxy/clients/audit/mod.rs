//! Writes the audit log: one line of JSON for each manifest pulled and each request refused.
//!
//! Flow: a [`line`] is queued without waiting ([`log`]) and written by a thread to a [`sink`]: a file, standard
//! error, or systemd's journal ([`journal`]). [`flood`] bounds how many refusals of one client are written.
//! Scope: what operators and auditors read; the access log is telemetry's.
//! Never: let a pull wait for the log's disk; lose a line without counting it; write a query, a header or a password.
//! Reading: systemd's "Native Journal Protocol".

pub(crate) mod error;
pub(crate) mod flood;
pub(crate) mod journal;
pub(crate) mod line;
pub(crate) mod log;
pub(crate) mod sink;

//! This folder sends one request and waits for the head of its answer.
//!
//! Flow: `exchange` has a request sent by an `attempt`, and again where the connection was dead, too old or crowded, or the
//! peer had not begun. Where an old connection is silent, a second attempt over a new one runs beside the first. An
//! attempt counts the request's body (`upload`) and the interim answers (`interim`), one of which it may wait for (`expect`); `forwarded` sends a plain request to a
//! parent in absolute-form; `failure` tells what became of an attempt without an answer.
//! Never: a request sent twice that is not repeatable; two bodies of one request read; a connection used again after an
//! exchange that did not end as framed.

pub(crate) mod attempt;
pub(crate) mod exchange;
pub(crate) mod expect;
mod failure;
mod forwarded;
mod interim;
mod upload;

//! ESSAY

pub(crate) mod error;
pub(crate) mod flood;
pub(crate) mod journal;
pub(crate) mod line;
pub(crate) mod log;
pub(crate) mod sink;

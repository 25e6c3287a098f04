//! ESSAY

pub(crate) mod bearers;
pub(crate) mod local;
pub(crate) mod request;

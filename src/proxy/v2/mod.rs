//! ESSAY

pub(crate) mod dispatch;
pub(crate) mod endpoint;
pub(crate) mod listing;
pub(crate) mod push;

//! ESSAY

pub(crate) mod alone;
pub(crate) mod driver;
pub(crate) mod lane;
pub(crate) mod writer;

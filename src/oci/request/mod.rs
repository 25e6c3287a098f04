//! ESSAY

pub(crate) mod path;
pub(crate) mod percent;
pub(crate) mod query;
pub(crate) mod route;

//! ESSAY

pub(crate) mod evict;
pub(crate) mod policy;
pub(crate) mod rebuild;
pub(crate) mod scrub;

//! ESSAY

pub(crate) mod claims;
pub(crate) mod demand;
pub(crate) mod extents;
pub(crate) mod parallelism;
pub(crate) mod phase;
pub(crate) mod plan;

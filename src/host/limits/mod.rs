//! ESSAY

pub(crate) mod budget;
pub(crate) mod buffers;
pub(crate) mod limit;
pub(crate) mod memory;
pub(crate) mod spare;

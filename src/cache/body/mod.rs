//! ESSAY

pub(crate) mod buffers;
pub(crate) mod pump;
pub(crate) mod stored;
pub(crate) mod verifying;

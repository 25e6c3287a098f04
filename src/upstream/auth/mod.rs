//! ESSAY

pub(crate) mod ask_as;
pub(crate) mod authenticated;
pub(crate) mod quota;
pub(crate) mod token;

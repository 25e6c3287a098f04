//! ESSAY

pub(crate) mod cuts;
pub(crate) mod locate;
pub(crate) mod mistake;
pub(crate) mod phrase;
pub(crate) mod report;

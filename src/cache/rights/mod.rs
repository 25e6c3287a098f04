//! ESSAY

pub(crate) mod caller;
pub(crate) mod grants;
pub(crate) mod links;
pub(crate) mod publics;

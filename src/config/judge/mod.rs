//! ESSAY

pub(crate) mod check;
pub(crate) mod clients;
pub(crate) mod credentials;
pub(crate) mod endpoints;
pub(crate) mod parents;
pub(crate) mod pem;
pub(crate) mod registries;

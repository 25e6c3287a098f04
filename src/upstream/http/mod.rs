//! ESSAY

pub(crate) mod answers;
pub(crate) mod bound;
pub(crate) mod evidence;
pub(crate) mod exchange;
pub(crate) mod fit;
pub(crate) mod forwarded;
pub(crate) mod health;
pub(crate) mod idle;
pub(crate) mod interim;
pub(crate) mod location;
pub(crate) mod plain;
pub(crate) mod pool;
pub(crate) mod redirect;
pub(crate) mod upload;

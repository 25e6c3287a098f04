//! ESSAY

pub(crate) mod detached;
pub(crate) mod follower;
pub(crate) mod hashing;
pub(crate) mod waiter;

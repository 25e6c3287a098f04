//! ESSAY

pub(crate) mod blob;
pub(crate) mod blobs;
pub(crate) mod damage;
pub(crate) mod lease;
pub(crate) mod open_blobs;
pub(crate) mod parked;
pub(crate) mod partial;
pub(crate) mod staged;
pub(crate) mod verify;

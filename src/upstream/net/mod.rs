//! ESSAY

pub(crate) mod address;
pub(crate) mod bandwidth;
pub(crate) mod connector;
pub(crate) mod dial;
pub(crate) mod downloads;
pub(crate) mod egress;
pub(crate) mod family;
pub(crate) mod names;
pub(crate) mod parent;
pub(crate) mod resolver;
pub(crate) mod rules;
pub(crate) mod sockets;
pub(crate) mod stream;
pub(crate) mod target;
pub(crate) mod tls;

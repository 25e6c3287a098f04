//! ESSAY

pub(crate) mod client_hello;
pub(crate) mod config;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod first_bytes;
pub(crate) mod handshake;
pub(crate) mod http;
pub(crate) mod intercept;
pub(crate) mod overload;
pub(crate) mod pages;
pub(crate) mod tunnel;

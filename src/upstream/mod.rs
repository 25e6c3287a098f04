//! The way to real registries: endpoints, addresses that may be dialled, verified TLS, redirects.

mod config;
mod target;

pub use config::{Config, EndpointConfig, Family, HostConfig};
pub use target::{BadTarget, Target};

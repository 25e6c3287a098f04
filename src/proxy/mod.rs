//! Doors and requests: connections, CONNECT, verdicts, tunnels, interception, and the pull.

mod config;

pub use config::{
    Auth, ClientsConfig, ListenConfig, Push, RegistryConfig, RegistrySettings, TunnelConfig, TunnelDefault,
};

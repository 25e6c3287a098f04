//! pullthrough itself, as a user would run it: digests on, one private registry; with its access log or without.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::lab::{Lab, free_address};

/// What is listened on at the address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Proxy,
    Mirror,
}

pub(super) fn command(
    lab: &Lab,
    program: &Path,
    address: SocketAddr,
    folder: &Path,
    logs: bool,
    door: Door,
) -> anyhow::Result<Command> {
    let (admin, other) = (free_address()?, free_address()?);
    let listen = match door {
        Door::Proxy => serde_json::json!({"proxy": address, "admin": admin}),
        Door::Mirror => serde_json::json!({"proxy": other, "admin": admin, "mirror": address}),
    };
    let config = serde_json::json!({
        "listen": listen,
        "mirror": {"default": lab.authority()},
        "ca": {"dir": folder.join("ca")},
        "log": {"access": logs},
        "cache": {"dir": folder.join("cache"), "max_size": "50GiB", "min_free": "1%"},
        "registries": {
            lab.authority(): {
                "endpoints": [{
                    "url": format!("https://{}", lab.authority()),
                    "address": lab.origin.address,
                    "ca_file": lab.certificates.ca,
                }],
                "tags": {"fresh_for": "1h"},
            },
        },
    });
    let path = folder.join("config.yaml"); // JSON is YAML too
    std::fs::write(&path, config.to_string())?;
    let mut command = Command::new(program);
    command.arg("serve").arg("--config").arg(path);
    Ok(command)
}

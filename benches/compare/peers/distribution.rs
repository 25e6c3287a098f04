//! distribution as a pull-through cache of the one origin, with TLS of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::lab::Lab;

pub(super) fn command(lab: &Lab, program: &Path, address: SocketAddr, folder: &Path) -> anyhow::Result<Command> {
    let leaf = &lab.certificates.ecdsa;
    let config = serde_json::json!({
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": folder.join("data")}, "delete": {"enabled": true}},
        "http": {"addr": address, "tls": {"certificate": leaf.certificate, "key": leaf.key}},
        "proxy": {"remoteurl": format!("https://localhost:{}", lab.origin.address.port())},
    });
    let path = folder.join("config.yml");
    std::fs::write(&path, config.to_string())?;
    let mut command = Command::new(program);
    command.arg("serve").arg(path).env("SSL_CERT_FILE", &lab.certificates.ca).env("OTEL_TRACES_EXPORTER", "none");
    Ok(command)
}

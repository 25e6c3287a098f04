//! distribution as a pull-through cache of the one origin, with TLS of its own or without.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::lab::Lab;

/// `plain` is without TLS.
pub(super) fn command(
    lab: &Lab,
    program: &Path,
    address: SocketAddr,
    folder: &Path,
    plain: bool,
) -> anyhow::Result<Command> {
    let leaf = &lab.certificates.ecdsa;
    let mut http = serde_json::json!({"addr": address});
    if !plain {
        http["tls"] = serde_json::json!({"certificate": leaf.certificate, "key": leaf.key});
    }
    let config = serde_json::json!({
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": folder.join("data")}, "delete": {"enabled": true}},
        "http": http,
        "proxy": {"remoteurl": format!("https://localhost:{}", lab.origin.address.port())},
    });
    let path = folder.join("config.yml");
    std::fs::write(&path, config.to_string())?;
    let mut command = Command::new(program);
    command.arg("serve").arg(path).env("SSL_CERT_FILE", &lab.certificates.ca).env("OTEL_TRACES_EXPORTER", "none");
    Ok(command)
}

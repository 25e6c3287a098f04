//! Squid with ssl_bump: certificates for each host by its helper, content in memory and on disk.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::ensure;

use crate::certificates::HOST;
use crate::lab::{Lab, open_to_all};

const HELPER: &str = "/usr/lib/squid/security_file_certgen";

/// Whether this Squid was built with OpenSSL.
pub(super) fn has_bump() -> bool {
    Path::new(HELPER).is_file()
}

pub(super) fn command(lab: &Lab, program: &Path, address: SocketAddr, folder: &Path) -> anyhow::Result<Command> {
    let at = |name: &str| folder.join(name).display().to_string();
    let hosts = folder.join("hosts");
    std::fs::write(&hosts, format!("127.0.0.1 {HOST}\n"))?;
    let cache = folder.join("cache");
    std::fs::create_dir(&cache)?;
    open_to_all(&cache)?;
    let text = format!(
        "http_port {address} ssl-bump tls-cert={ca} generate-host-certificates=on dynamic_cert_mem_cache_size=4MB
sslcrtd_program {HELPER} -s {database} -M 4MB
sslcrtd_children 4
acl first at_step SslBump1
ssl_bump bump all
tls_outgoing_options cafile={trusted}
hosts_file {hosts}
acl here src 127.0.0.0/8
http_access allow here
http_access deny all
collapsed_forwarding on
cache_mem 512 MB
maximum_object_size 2 GB
maximum_object_size_in_memory 64 MB
cache_dir aufs {cache} 16000 16 64
refresh_pattern . 1440 100% 10080 override-expire ignore-reload ignore-no-store ignore-private
range_offset_limit none
quick_abort_min -1 KB
read_ahead_gap 1 MB
max_filedescriptors 16384
workers 1
visible_hostname bench
pid_filename {pid}
cache_log {log}
access_log stdio:{access}
cache_store_log none
coredump_dir {folder}
shutdown_lifetime 0 seconds
netdb_filename none
pinger_enable off
",
        ca = lab.certificates.ca_with_key.display(),
        trusted = lab.certificates.ca.display(),
        database = at("certificates"),
        hosts = hosts.display(),
        cache = cache.display(),
        pid = at("squid.pid"),
        log = at("cache.log"),
        access = at("access.log"),
        folder = folder.display(),
    );
    let path = folder.join("squid.conf");
    std::fs::write(&path, text)?;
    run(Command::new(HELPER).args(["-c", "-s"]).arg(folder.join("certificates")).args(["-M", "4MB"]))?;
    run(Command::new("chmod").args(["-R", "a+rwX"]).arg(folder))?;
    run(Command::new(program).args(["-N", "-z", "-f"]).arg(&path))?;
    let mut command = Command::new(program);
    command.args(["-N", "-f"]).arg(path);
    Ok(command)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

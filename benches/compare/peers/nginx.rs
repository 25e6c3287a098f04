//! nginx as a cache of registries: with docker-registry-proxy's directives, and tuned.
//!
//! Both without that project's CONNECT hop, which needs a patched nginx: clients reach the cache straight.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::lab::{Lab, open_to_all};

/// How it is set up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// What docker-registry-proxy sets: one RSA leaf, a long log line, a lock with a long wait, slices off.
    Directives,
    /// The fairer opponent: large output buffers, shared sessions, no log, open files kept, an ECDSA leaf.
    Tuned,
    /// The same with its own access log, written in large pieces.
    Logging,
    /// Plain HTTP with its access log, and with sendfile or without.
    Plain { sendfile: bool },
}

pub(super) fn command(
    lab: &Lab,
    program: &Path,
    address: SocketAddr,
    folder: &Path,
    flavour: Flavour,
) -> anyhow::Result<Command> {
    for name in ["cache", "temporary"] {
        let path = folder.join(name);
        std::fs::create_dir(&path)?;
        open_to_all(&path)?;
    }
    let (leaf, own) = match flavour {
        Flavour::Directives => (&lab.certificates.rsa, directives(folder)),
        Flavour::Tuned => (&lab.certificates.ecdsa, format!("access_log off;\n    {TUNED}")),
        Flavour::Logging => {
            let log = folder.join("access.log");
            let log = format!("access_log {} combined buffer=64k flush=1s;\n    {TUNED}", log.display());
            (&lab.certificates.ecdsa, log)
        }
        Flavour::Plain { sendfile } => {
            let log = folder.join("access.log");
            let tuned = if sendfile { TUNED.to_owned() } else { TUNED.replace("sendfile on", "sendfile off") };
            (
                &lab.certificates.ecdsa,
                format!("access_log {} combined buffer=64k flush=1s;\n    {tuned}", log.display()),
            )
        }
    };
    let listen = if matches!(flavour, Flavour::Plain { .. }) { "" } else { " ssl http2" };
    let at = |name: &str| folder.join(name).display().to_string();
    let text = format!(
        r#"
daemon off;
pid {pid};
error_log {errors} error;
worker_processes auto;
worker_rlimit_nofile 20000;
events {{ worker_connections 8192; }}
http {{
    client_body_temp_path {temporary};
    proxy_temp_path {temporary};
    fastcgi_temp_path {temporary};
    uwsgi_temp_path {temporary};
    scgi_temp_path {temporary};
    default_type application/octet-stream;
    gzip off;
    keepalive_timeout 300;
    proxy_cache_path {cache} levels=1:2 max_size=32g inactive=60d keys_zone=cache:10m use_temp_path=off;
    {own}
    server {{
        listen {address}{listen};
        server_name _;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        chunked_transfer_encoding on;
        client_max_body_size 0;
        proxy_cache cache;
        proxy_cache_key $uri;
        proxy_cache_valid 200 206 60d;
        proxy_cache_lock on;
        proxy_cache_lock_timeout 880s;
        proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504 http_429;
        proxy_force_ranges on;
        proxy_ignore_client_abort on;
        proxy_cache_revalidate on;
        proxy_hide_header Set-Cookie;
        proxy_ignore_headers X-Accel-Expires Expires Cache-Control Set-Cookie Vary;
        proxy_http_version 1.1;
        proxy_read_timeout 900s;
        proxy_set_header Host {authority};
        proxy_set_header Connection "";
        proxy_ssl_server_name on;
        proxy_ssl_name {host};
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate {ca};
        if ($request_method !~ ^(GET|HEAD)$) {{ return 405; }}
        location / {{ proxy_pass https://{origin}; }}
    }}
}}
"#,
        pid = at("nginx.pid"),
        errors = at("error.log"),
        temporary = at("temporary"),
        cache = at("cache"),
        certificate = leaf.certificate.display(),
        key = leaf.key.display(),
        authority = lab.authority(),
        host = crate::certificates::HOST,
        ca = lab.certificates.ca.display(),
        origin = lab.origin.address,
    );
    let path = folder.join("nginx.conf");
    std::fs::write(&path, text)?;
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-c").arg(path).arg("-e").arg(folder.join("error.log"));
    Ok(command)
}

fn directives(folder: &Path) -> String {
    let log = folder.join("access.log");
    format!(
        r#"log_format wide '$remote_addr [$time_local] "$request" $status $body_bytes_sent "$http_user_agent" '
            'host=$host cache=$upstream_cache_status upstream=$upstream_status time=$request_time '
            'range=$http_range type=$sent_http_content_type connection=$connection';
    access_log {} wide;"#,
        log.display()
    )
}

const TUNED: &str = "output_buffers 2 512k;
    http2_chunk_size 256k;
    ssl_session_cache shared:tls:20m;
    ssl_session_timeout 1h;
    ssl_buffer_size 16k;
    open_file_cache max=10000 inactive=10m;
    keepalive_requests 1000000;
    tcp_nodelay on;
    sendfile on;";

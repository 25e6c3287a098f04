//! Upstreams that tell what they act on: nginx, a server on Go's net/http, distribution. Each does TLS itself.
//!
//! Nothing stands between the proxy and them, so that what they log is what the proxy has sent.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::{Lab, Process, command, run};
use crate::proxy::free;

/// How long a program may take to listen.
const START: Duration = Duration::from_secs(30);
/// Go compiles its HTTP server on the first run.
const BUILD: Duration = Duration::from_secs(600);

/// What an upstream made of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acted {
    pub(crate) method: String,
    /// The target as it came.
    pub(crate) raw: String,
    /// The repository, the kind of thing (where the program tells) and the reference that it acts on.
    pub(crate) name: String,
    pub(crate) noun: String,
    pub(crate) reference: String,
    /// From where a mount takes its blob.
    pub(crate) from: Vec<String>,
}

/// A running upstream; dropping it ends it.
pub(crate) struct Upstream {
    /// The name in its certificate.
    pub(crate) host: &'static str,
    pub(crate) address: SocketAddr,
    log: PathBuf,
    read: fn(&Value) -> Option<Acted>,
    _program: Process,
}

impl Upstream {
    /// nginx, which logs `$request_uri`, and what a location by regular expression takes out of the normalised `$uri`.
    pub(crate) fn nginx(lab: &Lab) -> Self {
        Self::nginx_with(lab, "")
    }

    /// The same by HTTP/2.
    pub(crate) fn nginx_h2(lab: &Lab) -> Self {
        Self::nginx_with(lab, " http2")
    }

    fn nginx_with(lab: &Lab, protocol: &str) -> Self {
        let (host, address, dir) = ("nginx.example.com", free(), lab.folder("nginx"));
        let (certificate, key) = lab.certificate(host, &dir);
        let config = nginx(&dir, address, &certificate, &key).replace(" ssl;", &format!(" ssl{protocol};"));
        fs::write(dir.join("nginx.conf"), config).unwrap();
        let mut program = command("nginx", &dir);
        program.arg("-p").arg(&dir).arg("-c").arg(dir.join("nginx.conf")).arg("-e").arg(dir.join("error.log"));
        Self::start(host, address, dir.join("acted.log"), of_program, program, &dir)
    }

    /// Go's `ServeMux`, compiled from `mux.go`.
    pub(crate) fn go(lab: &Lab) -> Self {
        Self::go_with(lab, "")
    }

    /// The same by HTTP/1.1 alone.
    pub(crate) fn go_h1(lab: &Lab) -> Self {
        Self::go_with(lab, "http2server=0")
    }

    fn go_with(lab: &Lab, settings: &str) -> Self {
        let (host, address, dir) = ("go.example.com", free(), lab.folder("go"));
        let (certificate, key) = lab.certificate(host, &dir);
        fs::write(dir.join("mux.go"), include_str!("mux.go")).unwrap();
        let mut go = command("go", &dir);
        // The one that Debian has, or the one that golang.org tells to put there.
        let path = format!("{}:/usr/local/go/bin", std::env::var("PATH").unwrap_or_default());
        go.env("PATH", path).env("GO111MODULE", "off").env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0");
        go.env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go")); // kept from run to run
        run(go.args(["build", "-o", "mux", "mux.go"]), BUILD).expect("Debian's package golang-go has it");
        let mut program = command(dir.join("mux").to_str().unwrap(), &dir);
        program.arg(address.to_string()).arg(certificate).arg(key).arg(dir.join("acted.log")).env("GODEBUG", settings);
        Self::start(host, address, dir.join("acted.log"), of_program, program, &dir)
    }

    /// distribution, which says of each request that it judges what its router took out of the path.
    pub(crate) fn distribution(lab: &Lab) -> Self {
        Self::distribution_with(lab, true)
    }

    /// The same by HTTP/1.1 alone.
    pub(crate) fn distribution_h1(lab: &Lab) -> Self {
        Self::distribution_with(lab, false)
    }

    fn distribution_with(lab: &Lab, h2: bool) -> Self {
        let (host, address, dir) = ("distribution.example.com", free(), lab.folder("distribution"));
        let (certificate, key) = lab.certificate(host, &dir);
        let config = json!({
            "version": "0.1", "log": { "level": "debug", "formatter": "json", "accesslog": { "disabled": true } },
            "storage": { "filesystem": { "rootdirectory": dir.join("files") } },
            "http": { "addr": address, "tls": { "certificate": certificate, "key": key }, "http2": { "disabled": !h2 } },
        });
        fs::write(dir.join("distribution.yml"), config.to_string()).unwrap(); // JSON is YAML
        let mut program = command("docker-registry", &dir);
        program.arg("serve").arg(dir.join("distribution.yml"));
        Self::start(host, address, dir.join("log"), of_distribution, program, &dir)
    }

    fn start(
        host: &'static str,
        address: SocketAddr,
        log: PathBuf,
        read: fn(&Value) -> Option<Acted>,
        mut program: Command,
        dir: &Path,
    ) -> Self {
        let mut program = Process::spawn(host, &mut program, &dir.join("log"));
        program.ready(START, || TcpStream::connect(address).is_ok());
        Self { host, address, log, read, _program: program }
    }

    /// Everything that it has acted on.
    pub(crate) fn acted(&self) -> Vec<Acted> {
        let log = fs::read(&self.log).unwrap_or_default();
        let lines = String::from_utf8_lossy(&log);
        lines.lines().filter_map(|line| (self.read)(&serde_json::from_str(line).ok()?)).collect()
    }
}

fn text(line: &Value, key: &str) -> String {
    line[key].as_str().unwrap_or_default().to_owned()
}

/// Of nginx and of `mux.go`. Where they answered 400 themselves, or sent the client to a cleaner path, they did not act.
fn of_program(line: &Value) -> Option<Acted> {
    let status = line["status"].as_u64().or_else(|| line["status"].as_str()?.parse().ok())?;
    if matches!(status, 301 | 307 | 308 | 400) {
        return None;
    }
    let from = line["from"].as_array().into_iter().flatten().filter_map(|from| Some(from.as_str()?.to_owned()));
    Some(Acted {
        method: text(line, "method"),
        raw: text(line, "raw"),
        name: text(line, "name"),
        noun: text(line, "noun"),
        reference: text(line, "reference"),
        from: from.collect(),
    })
}

fn of_distribution(line: &Value) -> Option<Acted> {
    if line["msg"] != "authorizing request" {
        return None;
    }
    let [tag, digest] = ["vars.reference", "vars.digest"].map(|key| text(line, key));
    Some(Acted {
        method: text(line, "http.request.method"),
        raw: text(line, "http.request.uri"),
        name: text(line, "vars.name"),
        noun: String::new(),
        reference: if tag.is_empty() { digest } else { tag },
        from: Vec::new(),
    })
}

fn nginx(dir: &Path, address: SocketAddr, certificate: &Path, key: &Path) -> String {
    let [dir, certificate, key] = [dir, certificate, key].map(Path::display);
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {dir}/{kind};\n"))
        .concat();
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let acted = r#"{"method":"$request_method","raw":"$request_uri","path":"$uri","name":"$name","noun":"$noun","reference":"$reference","status":$status}"#;
    format!(
        "{user}daemon off;\nworker_processes 1;\npid {dir}/nginx.pid;\nevents {{}}\nhttp {{\n{temporary}\
         \x20   log_format acted escape=json '{acted}';\n\
         \x20   access_log {dir}/acted.log acted;\n\
         \x20   server {{\n\
         \x20       listen {address} ssl;\n\
         \x20       ssl_certificate {certificate};\n\
         \x20       ssl_certificate_key {key};\n\
         \x20       location = /v2/ {{ return 200 '{{}}'; }}\n\
         \x20       location ~ \"(?s)^/v2/(?<name>.+)/blobs/(?<noun>uploads)(/(?<reference>.*))?$\" {{ return 404; }}\n\
         \x20       location ~ \"(?s)^/v2/(?<name>.+)/(?<noun>tags)/(?<reference>list)$\" {{ return 404; }}\n\
         \x20       location ~ \"(?s)^/v2/(?<name>.+)/(?<noun>manifests|blobs|referrers)/(?<reference>[^/]+)$\" {{ return 404; }}\n\
         \x20       location / {{ return 404; }}\n\
         \x20   }}\n}}\n"
    )
}

//! A registry of the lab: distribution on a Unix socket behind a site, its blobs perhaps behind a CDN.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use hyper::Method;
use tokio::runtime::Handle;

use super::authority::Authority;
use super::process::{Process, command};
use super::site::{Origin, Seen, Site};
use super::token::{ISSUER, SERVICE};

/// How long a program may take to open its socket.
const START: Duration = Duration::from_secs(30);

/// What a registry is like.
pub(crate) struct Plan<'a> {
    /// The name in its certificate.
    pub(crate) name: &'a str,
    /// Its own loopback address; its CDN is on the same.
    pub(crate) ip: IpAddr,
    /// The host that blobs are redirected to.
    pub(crate) cdn: Option<&'a str>,
    /// Who may ask it for anything.
    pub(crate) doorkeeper: Doorkeeper<'a>,
}

/// What a registry wants of those who ask.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Doorkeeper<'a> {
    /// Nothing.
    None,
    /// A token of auth.docker.io, signed with this certificate.
    Tokens(&'a Path),
    /// A user and a password out of this file.
    Passwords(&'a Path),
}

/// The running registry.
pub(crate) struct Registry {
    /// Its own host.
    pub(crate) site: Site,
    /// The host that its blobs are redirected to.
    pub(crate) cdn: Option<Site>,
    dir: PathBuf,
    programs: Mutex<Vec<Process>>,
}

impl Registry {
    /// Starts distribution, and nginx for the CDN, over files in `dir`.
    pub(crate) fn new(dir: PathBuf, runtime: &Handle, authority: &Authority, plan: &Plan<'_>) -> Self {
        fs::create_dir_all(dir.join("files")).unwrap();
        fs::write(dir.join("distribution.yml"), distribution(&dir, plan)).unwrap();
        let socket = |name: &str| Origin::Socket(dir.join(name));
        let site = Site::new(runtime, authority, plan.name, plan.ip, socket("distribution.sock"));
        let cdn = plan.cdn.map(|name| {
            fs::write(dir.join("nginx.conf"), nginx(&dir)).unwrap();
            Site::new(runtime, authority, name, plan.ip, socket("nginx.sock"))
        });
        let registry = Self { site, cdn, dir, programs: Mutex::default() };
        registry.start_programs();
        registry
    }

    /// Ends the programs and takes the hosts off the net.
    pub(crate) fn stop(&self) {
        self.site.stop();
        if let Some(cdn) = &self.cdn {
            cdn.stop();
        }
        self.programs.lock().unwrap().clear();
    }

    /// Ends the programs; its hosts take connections and say nothing on them.
    pub(crate) fn fall_silent(&self) {
        self.stop();
        self.site.fall_silent();
        if let Some(cdn) = &self.cdn {
            cdn.fall_silent();
        }
    }

    /// Comes back after [`Registry::stop`] or [`Registry::fall_silent`], at the same addresses, with the same content.
    pub(crate) fn start(&self) {
        self.stop();
        self.start_programs();
        self.site.start();
        if let Some(cdn) = &self.cdn {
            cdn.start();
        }
    }

    /// Every request for a blob that it or its CDN has seen.
    pub(crate) fn blob_requests(&self) -> Vec<Seen> {
        let of_cdn = self.cdn.iter().flat_map(Site::seen);
        self.site.seen().into_iter().filter(|seen| seen.path.contains("/blobs/")).chain(of_cdn).collect()
    }

    /// Those of them that fetched content.
    pub(crate) fn blob_fetches(&self) -> Vec<Seen> {
        self.blob_requests().into_iter().filter(|seen| seen.method == Method::GET).collect()
    }

    fn start_programs(&self) {
        let mut registry = command("docker-registry", &self.dir);
        registry.arg("serve").arg(self.dir.join("distribution.yml"));
        let mut programs = vec![self.program("distribution", &mut registry)];
        if self.cdn.is_some() {
            let mut nginx = command("nginx", &self.dir);
            nginx.arg("-p").arg(&self.dir).arg("-c").arg(self.dir.join("nginx.conf"));
            nginx.arg("-e").arg(self.dir.join("nginx.log"));
            programs.push(self.program("nginx", &mut nginx));
        }
        *self.programs.lock().unwrap() = programs;
    }

    fn program(&self, name: &str, command: &mut std::process::Command) -> Process {
        let socket = self.dir.join(format!("{name}.sock"));
        let _ = fs::remove_file(&socket); // of an earlier run
        let mut process = Process::spawn(name, command, &self.dir.join(format!("{name}.log")));
        process.ready(START, || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        process
    }
}

fn distribution(dir: &Path, plan: &Plan<'_>) -> String {
    let dir = dir.display();
    let redirect = plan.cdn.map_or_else(String::new, |cdn| {
        format!("middleware: {{storage: [{{name: redirect, options: {{baseurl: 'https://{cdn}/'}}}}]}}\n")
    });
    let auth = match plan.doorkeeper {
        Doorkeeper::None => String::new(),
        Doorkeeper::Tokens(file) => format!(
            "auth: {{token: {{realm: 'https://auth.docker.io/token', service: {SERVICE}, issuer: {ISSUER}, \
             rootcertbundle: '{}'}}}}
",
            file.display()
        ),
        Doorkeeper::Passwords(file) => format!(
            "auth: {{htpasswd: {{realm: lab, path: '{}'}}}}
",
            file.display()
        ),
    };
    format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: '{dir}/files'}}, delete: {{enabled: true}}}}\n\
         http: {{net: unix, addr: '{dir}/distribution.sock'}}\n{redirect}{auth}"
    )
}

fn nginx(dir: &Path) -> String {
    let dir = dir.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {dir}/{kind};\n"))
        .concat();
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    format!(
        "{user}daemon off;\nworker_processes 1;\npid {dir}/nginx.pid;\nevents {{}}\nhttp {{\n    access_log off;\n{temporary}\
         \x20   server {{ listen unix:{dir}/nginx.sock; root {dir}/files; default_type application/octet-stream; }}\n}}\n"
    )
}

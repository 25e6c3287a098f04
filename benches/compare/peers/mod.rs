//! The programs that are compared: each is started with its own folder and port, on the same origin.
//!
//! An absent program is named as absent. Configurations are written here in our own words from what each
//! project documents; docs/performance.md says what they show.

mod distribution;
mod nginx;
mod pullthrough;
mod squid;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::net::TcpStream;

use super::client::{Target, Via};
use super::lab::Lab;
use super::process::Program;
use pullthrough::Door;

/// What can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A pullthrough, by name and binary.
    Pullthrough(String, PathBuf),
    /// pullthrough without its access log, as the tuned nginx is.
    Quiet(PathBuf),
    /// nginx with docker-registry-proxy's directives.
    NginxDirectives,
    /// nginx as a person would tune it.
    NginxTuned,
    /// The same with its access log.
    NginxLogging,
    /// Squid with ssl_bump.
    Squid,
    /// distribution as a pull-through cache, by its binary's name.
    Distribution(&'static str),
    /// A mirror over plain HTTP.
    Plain(Mirror),
}

/// What can be a mirror over plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mirror {
    /// The mirror door of a pullthrough, by name and binary.
    Pullthrough(String, PathBuf),
    Nginx {
        sendfile: bool,
    },
    Distribution(&'static str),
}

/// A running program and how to reach it.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    pub(crate) target: Target,
    pub(crate) program: Program,
}

impl Kind {
    /// All kinds, ours first.
    pub(crate) fn all(lab: &Lab) -> Vec<Self> {
        let mut all = vec![Self::Pullthrough("pullthrough".into(), lab.options.binary.clone())];
        all.extend(lab.options.also.iter().map(|(name, path)| Self::Pullthrough(name.clone(), path.clone())));
        all.extend([
            Self::Quiet(lab.options.binary.clone()),
            Self::NginxDirectives,
            Self::NginxTuned,
            Self::NginxLogging,
            Self::Squid,
            Self::Distribution("docker-registry"),
            Self::Distribution("registry"),
        ]);
        all.retain(|kind| lab.options.wants_peer(&kind.name()));
        all
    }

    /// All mirrors over plain HTTP, ours first.
    pub(crate) fn mirrors(lab: &Lab) -> Vec<Self> {
        let mut all = vec![Mirror::Pullthrough("pullthrough".into(), lab.options.binary.clone())];
        all.extend(lab.options.also.iter().map(|(name, path)| Mirror::Pullthrough(name.clone(), path.clone())));
        all.extend([Mirror::Nginx { sendfile: false }, Mirror::Nginx { sendfile: true }]);
        all.extend(["docker-registry", "registry"].map(Mirror::Distribution));
        all.into_iter().map(Self::Plain).filter(|kind| lab.options.wants_peer(&kind.name())).collect()
    }

    /// The column's head.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Plain(Mirror::Nginx { sendfile: true }) => "nginx, sendfile".into(),
            Self::Plain(Mirror::Nginx { sendfile: false }) => "nginx, no sendfile".into(),
            Self::Plain(Mirror::Distribution("docker-registry")) => "distribution 2.8".into(),
            Self::Plain(Mirror::Distribution(_)) => "distribution 3".into(),
            Self::Pullthrough(name, _) | Self::Plain(Mirror::Pullthrough(name, _)) => name.clone(),
            Self::Quiet(_) => "pullthrough, no log".into(),
            Self::NginxDirectives => "nginx, d-r-p".into(),
            Self::NginxTuned => "nginx, tuned".into(),
            Self::NginxLogging => "nginx, tuned, log".into(),
            Self::Squid => "squid".into(),
            Self::Distribution("docker-registry") => "distribution 2.8".into(),
            Self::Distribution(_) => "distribution 3".into(),
        }
    }

    /// The program, if this machine has it.
    fn program(&self) -> Option<PathBuf> {
        match self {
            Self::Pullthrough(_, path) | Self::Quiet(path) | Self::Plain(Mirror::Pullthrough(_, path)) => {
                path.is_file().then(|| path.clone())
            }
            Self::NginxDirectives | Self::NginxTuned | Self::NginxLogging | Self::Plain(Mirror::Nginx { .. }) => {
                find("nginx")
            }
            Self::Squid => find("squid").filter(|_| squid::has_bump()),
            Self::Distribution(name) | Self::Plain(Mirror::Distribution(name)) => find(name),
        }
    }

    /// Whether it is installed.
    pub(crate) fn is_there(&self) -> bool {
        self.program().is_some()
    }

    /// Whether it speaks HTTP/2 to clients.
    pub(crate) fn has_http2(&self) -> bool {
        *self != Self::Squid
    }

    /// Starts it and waits until it accepts connections.
    pub(crate) async fn start(&self, lab: &Lab) -> anyhow::Result<Peer> {
        let Some(program) = self.program() else { bail!("{} is not installed", self.name()) };
        let address = super::lab::free_address()?;
        let folder = lab.folder(&self.name().replace([' ', ','], ""))?;
        let log = folder.join("output.log");
        let command = match self {
            Self::Pullthrough(..) => pullthrough::command(lab, &program, address, &folder, true, Door::Proxy)?,
            Self::Quiet(_) => pullthrough::command(lab, &program, address, &folder, false, Door::Proxy)?,
            Self::NginxDirectives => nginx::command(lab, &program, address, &folder, nginx::Flavour::Directives)?,
            Self::NginxTuned => nginx::command(lab, &program, address, &folder, nginx::Flavour::Tuned)?,
            Self::NginxLogging => nginx::command(lab, &program, address, &folder, nginx::Flavour::Logging)?,
            Self::Squid => squid::command(lab, &program, address, &folder)?,
            Self::Distribution(_) => distribution::command(lab, &program, address, &folder, false)?,
            Self::Plain(Mirror::Pullthrough(..)) => {
                pullthrough::command(lab, &program, address, &folder, true, Door::Mirror)?
            }
            Self::Plain(Mirror::Nginx { sendfile }) => {
                nginx::command(lab, &program, address, &folder, nginx::Flavour::Plain { sendfile: *sendfile })?
            }
            Self::Plain(Mirror::Distribution(_)) => distribution::command(lab, &program, address, &folder, true)?,
        };
        let mut started = Program::start(command, &log)?;
        ready(&mut started, address, &log).await?;
        let via = match self {
            Self::Pullthrough(..) | Self::Quiet(_) | Self::Squid => Via::Connect,
            Self::Plain(_) => Via::Plain,
            _ => Via::Straight,
        };
        let ca = match self {
            Self::Pullthrough(..) | Self::Quiet(_) => folder.join("ca/ca.crt"),
            _ => lab.certificates.ca.clone(),
        };
        // A mirror is called by its own name.
        let authority = if via == Via::Plain { address.to_string() } else { lab.authority() };
        let target = Target::new(address, via, authority, &ca)?;
        Ok(Peer { kind: self.clone(), target, program: started })
    }
}

async fn ready(program: &mut Program, address: SocketAddr, log: &Path) -> anyhow::Result<()> {
    let since = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        if program.has_ended() || since.elapsed() > Duration::from_secs(20) {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            bail!("it did not start: {}", said.lines().rev().take(8).collect::<Vec<_>>().join(" | "));
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    Ok(())
}

/// A program on the path, or where Debian and Go put those that are not for everybody.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join("go/bin"));
    let more = ["/usr/sbin".into(), "/usr/local/sbin".into()].into_iter().chain(home);
    std::env::split_paths(&path).chain(more).map(|folder| folder.join(name)).find(|path| path.is_file())
}

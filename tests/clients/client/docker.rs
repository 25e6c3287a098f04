//! Docker Engine: a daemon without network and with plain folders, and the command line that talks to it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{Client, Mirror, PULL, Way, id};
use crate::lab::{Person, Process, command, run};

/// A daemon of its own.
pub(crate) struct Docker {
    home: PathBuf,
    daemon: Process,
}

impl Docker {
    /// Starts `dockerd`; it, not the command line, goes through the proxy.
    pub(crate) fn start(home: PathBuf, way: &Way) -> Self {
        fs::write(home.join("daemon.json"), way.mirror.as_ref().map_or("{}".to_owned(), Mirror::daemon)).unwrap();
        let mut dockerd = command("dockerd", &home);
        way.apply(&mut dockerd);
        dockerd.arg("--config-file").arg(home.join("daemon.json")).arg("--data-root").arg(home.join("data"));
        dockerd.arg("--exec-root").arg(home.join("exec")).arg("--pidfile").arg(home.join("pid"));
        dockerd.arg("--host").arg(format!("unix://{}", home.join("sock").display()));
        dockerd.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"]);
        let mut daemon = Process::spawn("dockerd", &mut dockerd, &home.join("dockerd.log"));
        daemon.ready(Duration::from_secs(60), || {
            let socket = home.join("sock");
            socket.exists() && run(docker(&home).arg("version"), Duration::from_secs(10)).is_ok()
        });
        Self { home, daemon }
    }
}

impl Client for Docker {
    fn pull(&self, image: &str) -> Result<String, String> {
        run(docker(&self.home).args(["pull", image]), PULL).map_err(|said| format!("{said}\n{}", self.daemon.log()))?;
        run(docker(&self.home).args(["image", "inspect", "--format", "{{.Id}}", image]), PULL).map(|text| id(&text))
    }

    fn push(&self, image: &str, to: &str) -> Result<(), String> {
        run(docker(&self.home).args(["tag", image, to]), PULL)?;
        let pushed = run(docker(&self.home).args(["push", "--quiet", to]), PULL);
        pushed.map(drop).map_err(|said| format!("{said}\n{}", self.daemon.log()))
    }

    fn remove(&self, image: &str) -> Result<(), String> {
        run(docker(&self.home).args(["rmi", "--force", image]), PULL).map(drop)
    }

    /// Docker keeps the refresh token that Docker Hub gives it, and uses that from then on.
    fn login(&mut self, registry: &str, person: Person) -> Result<(), String> {
        let mut login = docker(&self.home);
        login.args(["login", "--username", person.name, "--password", person.password]);
        if registry != "docker.io" {
            login.arg(registry);
        }
        run(&mut login, PULL).map(drop).map_err(|said| format!("{said}\n{}", self.daemon.log()))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        super::unmount(&self.home, "data");
    }
}

fn docker(home: &std::path::Path) -> Command {
    let mut docker = command("docker", home);
    docker.env("DOCKER_CONFIG", home.join("config"));
    docker.arg("--host").arg(format!("unix://{}", home.join("sock").display()));
    docker
}

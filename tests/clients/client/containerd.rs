//! containerd with `ctr`, which fetches by itself: the proxy and the trust are in the command's environment.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{Client, Mirror, PULL, Way};
use crate::lab::{Person, Process, command, run};

/// A daemon of its own, for content and snapshots.
pub(crate) struct Containerd {
    home: PathBuf,
    way: Way,
    pub(super) logins: Vec<(String, Person)>,
    daemon: Process,
}

impl Containerd {
    /// Starts `containerd` without CRI.
    pub(crate) fn start(home: PathBuf, way: &Way) -> Self {
        let dir = home.display();
        let config = format!(
            "version = 2\nroot = '{dir}/root'\nstate = '{dir}/state'\ndisabled_plugins = ['io.containerd.grpc.v1.cri']\n\
             [grpc]\naddress = '{dir}/sock'\n[plugins.'io.containerd.internal.v1.opt']\npath = '{dir}/opt'\n"
        );
        fs::write(home.join("config.toml"), config).unwrap();
        let mut containerd = command("containerd", &home);
        containerd.arg("--config").arg(home.join("config.toml"));
        let mut daemon = Process::spawn("containerd", &mut containerd, &home.join("containerd.log"));
        daemon.ready(Duration::from_secs(60), || {
            home.join("sock").exists() && run(ctr(&home).arg("version"), Duration::from_secs(10)).is_ok()
        });
        Self { home, way: way.clone(), logins: Vec::new(), daemon }
    }

    /// A manifest or index out of the content store.
    fn content(&self, digest: &str) -> Result<Value, String> {
        let text = run(ctr(&self.home).args(["content", "get", digest]), PULL)?;
        serde_json::from_str(&text).map_err(|error| format!("{digest}: {error}: {text}"))
    }
}

impl Client for Containerd {
    fn pull(&self, image: &str) -> Result<String, String> {
        let mut pull = ctr(&self.home);
        self.way.apply(&mut pull);
        pull.args(["image", "pull", "--snapshotter", "native", "--platform", "linux/amd64"]);
        if let Some((_, person)) = self.logins.iter().find(|(registry, _)| image.starts_with(registry.as_str())) {
            pull.args(["--user", &person.pair()]);
        }
        if self.way.mirror.is_some() {
            pull.arg("--hosts-dir").arg(self.home.join(Mirror::HOSTS));
        }
        pull.arg(image);
        run(&mut pull, PULL).map_err(|said| format!("{said}\n{}", self.daemon.log()))?;
        let list = run(ctr(&self.home).args(["image", "ls", &format!("name=={image}")]), PULL)?;
        let digest = list.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap_or_default();
        let mut manifest = self.content(digest)?;
        if let Some(list) = manifest["manifests"].as_array() {
            let amd64 = list.iter().find(|entry| entry["platform"]["architecture"] == "amd64");
            manifest = self.content(amd64.and_then(|entry| entry["digest"].as_str()).unwrap_or_default())?;
        }
        let id = manifest["config"]["digest"].as_str().unwrap_or_default().to_owned();
        self.content(&id)?;
        Ok(id)
    }

    fn remove(&self, image: &str) -> Result<(), String> {
        run(ctr(&self.home).args(["image", "rm", "--sync", image]), PULL).map(drop)
    }

    /// There is no login: the credentials go with each pull.
    fn login(&mut self, registry: &str, person: Person) -> Result<(), String> {
        self.logins.push((registry.to_owned(), person));
        Ok(())
    }
}

fn ctr(home: &std::path::Path) -> Command {
    let mut ctr = command("ctr", home);
    ctr.arg("--address").arg(home.join("sock"));
    ctr
}

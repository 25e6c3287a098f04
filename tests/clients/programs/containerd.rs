//! containerd 2, whose daemon fetches: by the CRI, as the kubelet has it pull, and by its transfer service.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::{NAMES, PULL, Scene, program};
use crate::client::{Hosts, Mirror, Way};
use crate::lab::{Lab, Process, run};

/// A daemon of its own.
struct Daemon {
    home: PathBuf,
    way: Way,
    _process: Process,
}

impl Daemon {
    /// Starts it with `way` in its environment, and its mirror, if it has one, in its files.
    fn start(lab: &Lab, way: &Way) -> Self {
        let home = lab.folder("containerd2");
        way.mirror.iter().for_each(|mirror| mirror.write_hosts(&home.join(Mirror::HOSTS)));
        let dir = home.display();
        let config = format!(
            "version = 3\nroot = '{dir}/root'\nstate = '{dir}/state'\n[grpc]\naddress = '{dir}/sock'\n\
             [plugins.'io.containerd.internal.v1.opt']\npath = '{dir}/opt'\n\
             [plugins.'io.containerd.cri.v1.images']\nsnapshotter = 'native'\n\
             [plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '{dir}/{hosts}'\n\
             [plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['{dir}']\nconf_dir = '{dir}'\n\
             [plugins.'io.containerd.transfer.v1.local']\nconfig_path = '{dir}/{hosts}'\n\
             [[plugins.'io.containerd.transfer.v1.local'.unpack_config]]\n\
             platform = 'linux/amd64'\nsnapshotter = 'native'\ndiffer = 'walking'\n",
            hosts = Mirror::HOSTS,
        );
        fs::write(home.join("config.toml"), config).unwrap();
        let mut containerd = program("containerd", &home, way);
        containerd.arg("--config").arg(home.join("config.toml"));
        let mut process = Process::spawn("containerd 2", &mut containerd, &home.join("log"));
        let daemon = |process| Self { home: home.clone(), way: way.clone(), _process: process };
        process.ready(Duration::from_secs(60), || {
            home.join("sock").exists() && run(crictl(&home, way).arg("version"), Duration::from_secs(10)).is_ok()
        });
        daemon(process)
    }

    /// Pulls as the kubelet does.
    fn pull_by_cri(&self, image: &str) -> Result<String, String> {
        run(crictl(&self.home, &self.way).args(["pull", image]), PULL)
    }

    /// Pulls by the transfer service.
    fn transfer(&self, image: &str) -> Result<String, String> {
        let mut ctr = program("ctr", &self.home, &self.way);
        ctr.arg("--address").arg(self.home.join("sock")).args(["image", "pull", "--snapshotter", "native"]);
        if self.way.mirror.is_some() {
            ctr.arg("--hosts-dir").arg(self.home.join(Mirror::HOSTS));
        }
        run(ctr.args(["--platform", "linux/amd64", image]), PULL)
    }
}

fn crictl(home: &std::path::Path, way: &Way) -> std::process::Command {
    let socket = format!("unix://{}", home.join("sock").display());
    let mut crictl = program("crictl", home, way);
    crictl.args(["--runtime-endpoint", &socket, "--image-endpoint", &socket, "--timeout", "60s"]);
    crictl
}

#[test]
fn containerd_2_and_crictl_pull_through_the_proxy_and_with_the_registries_gone_by_every_form_of_hosts_toml() {
    let scene = Scene::new();
    let daemon = Daemon::start(&scene.lab, &scene.way());
    for name in NAMES {
        daemon.pull_by_cri(name).unwrap();
    }
    drop(daemon);
    let daemon = Daemon::start(&scene.lab, &scene.way());
    for name in NAMES {
        daemon.transfer(name).unwrap();
    }
    drop(daemon);
    scene.lab.stop_all();
    for hosts in Hosts::ALL {
        let mirror = Some(Mirror { at: scene.door, hosts });
        let way = Way { mirror, ..scene.nowhere() };
        let daemon = Daemon::start(&scene.lab, &way);
        for name in NAMES {
            daemon.pull_by_cri(name).unwrap_or_else(|said| panic!("{hosts:?}: {said}"));
        }
        drop(daemon);
        let daemon = Daemon::start(&scene.lab, &way);
        for name in NAMES {
            daemon.transfer(name).unwrap_or_else(|said| panic!("{hosts:?}: {said}"));
        }
    }
}

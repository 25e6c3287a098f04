//! BuildKit: a build from an image, by the daemon's proxy, and by a mirror in buildkitd.toml.

use std::fs;
use std::time::Duration;

use super::{NAMES, PULL, Scene, program};
use crate::client::Way;
use crate::lab::{Process, run};

/// A fresh daemon with this configuration builds from `image`.
fn build(scene: &Scene, way: &Way, config: &str, image: &str) -> Result<String, String> {
    let home = scene.lab.folder("buildkit");
    fs::write(home.join("buildkitd.toml"), config).unwrap();
    fs::create_dir(home.join("context")).unwrap();
    fs::write(home.join("context/Dockerfile"), format!("FROM {image}\nLABEL built=yes\n")).unwrap();
    let address = format!("unix://{}", home.join("sock").display());
    let mut daemon = program("buildkitd", &home, way);
    daemon.arg("--config").arg(home.join("buildkitd.toml")).arg("--root").arg(home.join("root"));
    daemon.args(["--addr", &address, "--oci-worker-snapshotter=native", "--containerd-worker=false"]);
    let mut process = Process::spawn("buildkitd", &mut daemon, &home.join("log"));
    let buildctl = || {
        let mut buildctl = program("buildctl", &home, way);
        buildctl.args(["--addr", &address]);
        buildctl
    };
    process
        .ready(Duration::from_secs(60), || run(buildctl().args(["debug", "workers"]), Duration::from_secs(10)).is_ok());
    let mut build = buildctl();
    build.args(["build", "--progress=plain", "--frontend=dockerfile.v0", "--output=type=oci,dest=out.tar"]);
    build.args(["--local=context=context", "--local=dockerfile=context"]);
    run(&mut build, PULL).map_err(|said| format!("{said}\n{}", process.log()))
}

#[test]
fn buildkit_builds_through_the_proxy_and_with_the_registries_gone_by_a_mirror() {
    let scene = Scene::new();
    for name in NAMES {
        build(&scene, &scene.way(), "", name).unwrap();
    }
    scene.lab.stop_all();
    let door = scene.door;
    let plain = format!("[registry.'{door}']\nhttp = true\n");
    let by_ns =
        format!("{plain}[registry.'docker.io']\nmirrors = ['{door}']\n[registry.'quay.io']\nmirrors = ['{door}']\n");
    let by_path = format!(
        "{plain}[registry.'docker.io']\nmirrors = ['{door}/docker.io']\n[registry.'quay.io']\nmirrors = ['{door}/quay.io']\n"
    );
    for config in [by_ns, by_path] {
        for name in NAMES {
            build(&scene, &scene.nowhere(), &config, name).unwrap_or_else(|said| panic!("{config}{said}"));
        }
    }
}

//! The image, built by Buildah from the Containerfile and run by Podman as docker-registry-proxy's is run.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::client::{Kind, Way};
use crate::lab::{Lab, Process, Shape, command, eventually, once_each, run};
use crate::proxy::{configuration, fetch, free};

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");
const WAIT: Duration = Duration::from_secs(60);

/// An engine with a storage of its own that has the image.
pub(crate) struct Engine {
    home: PathBuf,
}

impl Engine {
    pub(crate) fn with_image(lab: &Lab) -> Self {
        let engine = Self { home: lab.folder("engine") };
        let context = lab.folder("context");
        for file in ["Containerfile", ".containerignore"] {
            fs::copy(Path::new(SOURCE).join(file), context.join(file)).unwrap();
        }
        let mut lay = command("sh", &context);
        lay.arg(Path::new(SOURCE).join("packaging/image")).arg(env!("CARGO_BIN_EXE_pullthrough"));
        run(lay.arg(context.join("target/image")), WAIT).unwrap();
        let mut build = engine.of("buildah");
        build.args(["build", "--quiet", "--isolation", "chroot", "--tag", "pullthrough"]).arg(&context);
        run(&mut build, WAIT).unwrap();
        engine
    }

    /// Writes the image to a file that `docker load` reads.
    pub(crate) fn save(&self, file: &Path) {
        let to = format!("docker-archive:{}:pullthrough:latest", file.display());
        run(self.of("buildah").args(["push", "--quiet", "localhost/pullthrough", &to]), WAIT).unwrap();
    }

    fn of(&self, program: &str) -> Command {
        let mut command = command(program, &self.home);
        self.storage(&mut command);
        command
    }

    fn storage(&self, command: &mut Command) {
        command.arg("--root").arg(self.home.join("root")).arg("--runroot").arg(self.home.join("run"));
        command.args(["--storage-driver", "vfs"]);
    }

    /// `podman run` of the image, with a read-only root and no capability, and what `options` say besides.
    fn run(&self, options: &[&str]) -> Command {
        // crun refuses a version 2 of control groups beside version 1; where there is none this changes nothing.
        let mut podman = command("unshare", &self.home);
        podman.args(["--mount", "sh", "-c", "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"", "sh", "podman"]);
        self.storage(&mut podman);
        podman.args(["--cgroup-manager", "cgroupfs", "--events-backend", "none", "run", "--rm", "--read-only"]);
        podman.args(["--cap-drop", "all", "--security-opt", "no-new-privileges", "--network", "host"]);
        podman
            .args(["--cgroups", "disabled", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"])
            .args(options)
            .arg("localhost/pullthrough");
        podman
    }

    /// It serves at `listen`, with the volumes of docker-registry-proxy.
    fn serve(&self, listen: SocketAddr, options: &[&str]) -> Process {
        let volumes = ["--volume", "cache:/docker_mirror_cache", "--volume", "ca:/ca"];
        let mut podman = self.run(&[&volumes, options].concat());
        let mut process = Process::spawn("podman", &mut podman, &self.home.join("log"));
        process.ready(WAIT, || fetch(listen, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
        process
    }
}

#[test]
fn the_image_serves_without_root_on_a_read_only_root_and_keeps_its_volumes() {
    let lab = Lab::new();
    let image = lab.publish(&["quay.io/lab/app:1"], Shape::Single, 1, 50_000);
    let engine = Engine::with_image(&lab);
    let listen = free();
    let config = lab.folder("config");
    let text = format!("{:#}", configuration(&lab, listen, free()));
    fs::write(
        config.join("config.yaml"),
        text.replace(&lab.ca_file().display().to_string(), "/etc/pullthrough/lab.crt"),
    )
    .unwrap();
    fs::copy(lab.ca_file(), config.join("lab.crt")).unwrap();
    run(command("chmod", &config).args(["-R", "a+rX"]).arg(&config), WAIT).unwrap();
    let mounted = format!("{}:/etc/pullthrough:ro", config.display());
    let options = ["--volume", &mounted];
    let mut fetched = Vec::new();
    for _ in 0..2 {
        let process = engine.serve(listen, &options);
        let ca = fetch(listen, "/ca.crt").unwrap();
        let (_, ca) = ca.split_once("\r\n\r\n").unwrap();
        fetched.push(ca.to_owned());
        let trust = config.join("trust.pem");
        fs::write(&trust, ca).unwrap();
        let way = Way::by_proxy(format!("http://{listen}"), trust);
        assert_eq!(Kind::Skopeo.fresh(&lab, &way).pull("quay.io/lab/app:1"), Ok(image.id.clone()));
        drop(process);
        eventually("it has ended", WAIT, || fetch(listen, "/healthz").is_none());
    }
    assert_eq!(fetched[0], fetched[1], "the CA did not stay in its volume");
    once_each(&lab.quay.blob_fetches());
}

#[test]
fn the_image_takes_the_environment_of_docker_registry_proxy() {
    let lab = Lab::new();
    let engine = Engine::with_image(&lab);
    let listen = free();
    let (proxy, admin) = (format!("PULLTHROUGH_LISTEN_PROXY={listen}"), format!("PULLTHROUGH_LISTEN_ADMIN={}", free()));
    let environment = [
        "--env",
        &proxy,
        "--env",
        &admin,
        "--env",
        "REGISTRIES=k8s.gcr.io gcr.io quay.io my.registry.example:5000",
        "--env",
        "CACHE_MAX_SIZE=1g",
        "--env",
        "ENABLE_MANIFEST_CACHE=true",
        "--env",
        "MANIFEST_CACHE_DEFAULT_TIME=1h",
        "--env",
        "ALLOW_PUSH=false",
        "--env",
        "DISABLE_IPV6=true",
        "--env",
        "VERIFY_SSL=true",
        "--env",
        "DEBUG=false",
    ];
    let process = engine.serve(listen, &environment);
    let page = fetch(listen, "/").unwrap();
    for registry in ["docker.io", "k8s.gcr.io", "gcr.io", "quay.io", "my.registry.example:5000"] {
        assert!(page.contains(registry), "{registry} is not in {page}\n{}", process.log());
    }
    assert!(!page.contains("ghcr.io"), "REGISTRIES replaces the presets: {page}");
    let volumes = engine.home.join("root/volumes");
    assert!(volumes.join("cache/_data/oci-layout").is_file());
    assert!(volumes.join("ca/_data/ca.crt").is_file());
    drop(process);

    let said = run(&mut engine.run(&["--env", "VERIFY_SSL=false"]), WAIT).expect_err("nothing is fetched unverified");
    assert!(said.contains("VERIFY_SSL") && said.contains("ca_file"), "{said}");
}

#[test]
fn a_volume_that_belongs_to_root_is_named_with_the_cure() {
    let lab = Lab::new();
    let engine = Engine::with_image(&lab);
    for mount in ["/ca", "/docker_mirror_cache"] {
        let folder = lab.folder("roots");
        run(command("chmod", &folder).arg("700").arg(&folder), WAIT).unwrap();
        let option = format!("{}:{mount}", folder.display());
        let said = run(&mut engine.run(&["--volume", &option]), WAIT).expect_err("it cannot be written");
        assert!(said.contains(mount) && said.contains("chown -R 65532:65532"), "{said}");
    }
}

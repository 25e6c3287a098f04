//! Clients that Debian does not have, or not of this age: containerd 2 and crictl, BuildKit, and those that are one command.
//!
//! Each pulls through the proxy, and with every registry gone by a mirror out of the same cache. `tests/run` installs
//! them (`go install`), and says which of these could not be run.

mod attached;
mod buildkit;
mod conformance;
mod containerd;
mod single;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::client::{Way, installed};
use crate::lab::{self, Image, Lab, Shape};
use crate::proxy::{Proxy, free};

/// The image that is pulled: behind a token service and a CDN, and in the open.
const NAMES: [&str; 2] = ["docker.io/lab/app:1", "quay.io/lab/app:1"];
const PULL: Duration = Duration::from_secs(120);

/// The lab with one image, and a proxy with a mirror door.
struct Scene {
    proxy: Proxy, // it ends before the lab's folder is gone
    lab: Lab,
    door: SocketAddr,
    image: Image,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new();
        let image = lab.publish(&NAMES, Shape::Index, 1, 300_000);
        let door = free();
        let proxy = Proxy::with(&lab, |config| config["listen"]["mirror"] = json!(door));
        Self { proxy, lab, door, image }
    }

    /// The way by the proxy.
    fn way(&self) -> Way {
        self.proxy.way()
    }

    /// A way to nothing: what is pulled by a mirror's name needs none.
    fn nowhere(&self) -> Way {
        Way::by_proxy("http://127.0.0.1:9", self.lab.ca_file())
    }

    /// The name that the mirror has for an image.
    fn mirrored(&self, name: &str) -> String {
        format!("{}/{name}", self.door)
    }
}

/// A command of one of the programs. Panics where it is not installed: `tests/run` leaves its test out then, and says so.
fn program(name: &str, home: &Path, way: &Way) -> Command {
    let file = installed(name).unwrap_or_else(|| panic!("{name} is not installed: tests/run does that"));
    let mut command = lab::command(&file.to_string_lossy(), home);
    way.apply(&mut command);
    command.env("DOCKER_CONFIG", home).env("XDG_CACHE_HOME", home).env("XDG_CONFIG_HOME", home);
    command
}

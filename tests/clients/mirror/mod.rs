//! The mirror door with the real clients: each by its own files, in order, with us or the registries down.

mod access;
mod pulls;

use std::net::SocketAddr;

use serde_json::json;

use crate::client::{Hosts, Kind, Mirror, Way};
use crate::lab::{EXAMPLE, Image, Lab, Shape};
use crate::proxy::{Proxy, free};

/// The lab with one image on each registry, and a proxy with a mirror door.
struct Scene {
    proxy: Proxy, // it ends before the lab's folder is gone
    lab: Lab,
    door: SocketAddr,
    images: Vec<(String, Image)>,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new();
        let publish = |name: &str, seed| (name.to_owned(), lab.publish(&[name], Shape::Index, seed, 500_000));
        let images = vec![
            publish("docker.io/library/app:1", 1),
            publish("quay.io/lab/app:1", 2),
            publish(&format!("{EXAMPLE}/lab/app:1"), 3),
        ];
        let door = free();
        let proxy = Proxy::with(&lab, |config| {
            config["listen"]["mirror"] = json!(door);
            config["mirror"] =
                json!({ "names": { "localhost": "docker.io", format!("/{}", Mirror::EXAMPLE): EXAMPLE } });
        });
        lab.forget();
        Self { proxy, lab, door, images }
    }

    /// The way of a client that has the mirror in its files, and nothing else that answers.
    fn way(&self, hosts: Hosts) -> Way {
        self.way_beside("http://127.0.0.1:9", hosts)
    }

    /// The way of one that has it, and beside it a way to the registries themselves.
    fn way_beside(&self, proxy: &str, hosts: Hosts) -> Way {
        let mirror = Some(Mirror { at: self.door, hosts });
        Way { mirror, ..Way::by_proxy(proxy, self.lab.ca_file()) }
    }

    /// The way of a client of the mirror itself, as `localhost`, which trusts its CA.
    fn way_at_localhost(&self) -> Way {
        Way { trust: self.proxy.ca_file(), ..self.way(Hosts::Each) }
    }

    /// Which of the images a client can have by its mirror: Docker has mirrors of Docker Hub alone.
    fn mirrored(&self, kind: Kind) -> &[(String, Image)] {
        if kind == Kind::Docker { &self.images[..1] } else { &self.images }
    }

    /// A client that never pulled before pulls `images`, and has the right ones.
    fn pull(&self, kind: Kind, way: &Way, images: &[(String, Image)]) {
        let client = kind.fresh(&self.lab, way);
        for (name, image) in images {
            let id = client.pull(name).unwrap_or_else(|said| panic!("{kind:?}, {name}: {said}"));
            assert_eq!(id, image.id, "{kind:?}, {name}");
        }
    }
}

/// Each client, containerd once for each form of its files.
fn clients() -> impl Iterator<Item = (Kind, Hosts)> {
    let forms = |kind| if kind == Kind::Containerd { &Hosts::ALL[..] } else { &Hosts::ALL[..1] };
    Kind::ALL.into_iter().flat_map(move |kind| forms(kind).iter().map(move |hosts| (kind, *hosts)))
}

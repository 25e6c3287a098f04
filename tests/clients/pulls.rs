//! Every client pulls from every registry: without the proxy, through it, and again with the registries gone.

use crate::client::{Kind, Way};
use crate::lab::{EXAMPLE, Lab, Shape};

#[test]
fn the_lab_stands_without_the_proxy() {
    let lab = Lab::new();
    let names = [format!("docker.io/lab/app:1"), format!("quay.io/lab/app:1"), format!("{EXAMPLE}/lab/app:1")];
    let images = [
        lab.publish(&[&names[0]], Shape::Index, 1, 3_000_000),
        lab.publish(&[&names[1]], Shape::Single, 2, 3_000_000),
        lab.publish(&[&names[2]], Shape::Index, 3, 3_000_000),
    ];
    let way = Way { proxy: lab.road().to_owned(), trust: lab.ca_file().to_owned() };
    for kind in Kind::ALL {
        let begin = std::time::Instant::now();
        let client = kind.fresh(&lab, &way);
        for (name, image) in names.iter().zip(&images) {
            let id = client.pull(name).unwrap_or_else(|said| panic!("{kind:?}, {name}: {said}"));
            assert_eq!(id, image.id, "{kind:?}, {name}");
        }
        eprintln!("{kind:?} {:?}", begin.elapsed());
    }
}

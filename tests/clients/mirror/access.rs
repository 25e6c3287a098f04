//! Private images at a mirror: by the registry's own account where a name stands for it alone, else by nobody's.

use std::fmt::Debug;

use super::Scene;
use crate::client::{Form, Kind, Way, ask};
use crate::lab::{ALICE, BOB, Image, Shape};

/// A private image of Docker Hub, which Alice may read.
fn treasure(scene: &Scene) -> Image {
    scene.lab.publish(&["docker.io/private/app:1"], Shape::Index, 9, 100_000)
}

#[test]
fn who_logs_in_at_a_name_of_one_registry_pulls_what_the_registry_lets_them_read() {
    let scene = Scene::new();
    let image = treasure(&scene);
    let host = format!("localhost:{}", scene.door.port());
    let name = format!("{host}/private/app:1");
    for kind in Kind::ALL {
        let way = scene.way_at_localhost();
        let client = kind.fresh(&scene.lab, &way);
        client.pull(&name).expect_err("a private image was served to nobody");
        let mut client = kind.fresh(&scene.lab, &way);
        if kind != Kind::Containerd {
            client.login(&host, ALICE.mistyped()).expect_err("a wrong password was taken");
        }
        client.login(&host, ALICE).unwrap_or_else(|said| panic!("{kind:?}: {said}"));
        assert_eq!(client.pull(&name).as_ref(), Ok(&image.id), "{kind:?}");
        let mut client = kind.fresh(&scene.lab, &way);
        client.login(&host, BOB).unwrap_or_else(|said| panic!("{kind:?}: {said}"));
        client.pull(&name).expect_err("a private image was served to Bob");
    }
}

#[test]
fn a_private_image_is_for_nobody_at_the_names_that_take_no_credentials_whatever_is_asked() {
    let scene = Scene::new();
    let image = treasure(&scene);
    let host = format!("localhost:{}", scene.door.port());
    let mut alice = Kind::Skopeo.fresh(&scene.lab, &scene.way_at_localhost());
    alice.login(&host, ALICE).unwrap();
    assert_eq!(alice.pull(&format!("{host}/private/app:1")).as_ref(), Ok(&image.id), "it is cached now");
    let door = scene.door;
    let direct = Way::by_proxy("", scene.proxy.ca_file());
    let basic = |person: crate::lab::Person| format!("Basic {}", person.encoded());
    let refused = |when: &str, who: &dyn Debug, header: Option<&str>, base: &str, tail: &str| {
        let rests = ["manifests/1", &format!("manifests/{}", image.digest), &format!("blobs/{}", image.large)];
        let urls = rests.map(|rest| format!("{base}/{rest}{tail}"));
        for answer in ask(&direct, &Form::ALL, false, header, &urls).answers {
            assert!([401, 403, 404, 503].contains(&answer.status), "{when}, {who:?}: {answer:?}");
        }
    };
    let (alices, bobs) = (basic(ALICE), basic(BOB));
    let without = [
        (format!("http://{door}/v2/private/app"), ""),
        (format!("http://{door}/v2/private/app"), "?ns=docker.io"),
        (format!("http://{door}/v2/docker.io/private/app"), ""),
        (format!("http://{}/v2/docker.io/private/app", scene.proxy.listen), ""),
    ];
    for when in ["up", "away"] {
        for (base, tail) in &without {
            for header in [None, Some(&*alices), Some(&*bobs), Some("Bearer invented")] {
                refused(when, &header, header, base, tail);
            }
        }
        let own = format!("http://{host}/v2/private/app");
        for header in [None, Some(&*bobs), Some("Bearer invented")] {
            refused(when, &header, header, &own, "");
        }
        scene.lab.stop_all();
    }
}

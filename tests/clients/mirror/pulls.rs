//! Public images by every client's own mirror configuration.

use super::{Scene, clients};
use crate::client::{Form, Kind, Way, ask};
use crate::lab::{EXAMPLE, once_each};

#[test]
fn every_client_pulls_by_its_own_files_each_blob_is_downloaded_once_and_served_with_the_registries_gone() {
    let scene = Scene::new();
    for (kind, hosts) in clients() {
        scene.pull(kind, &scene.way(hosts), scene.mirrored(kind));
    }
    // By CONNECT it is the same cache.
    scene.pull(Kind::Skopeo, &scene.proxy.way(), &scene.images);
    for (name, registry) in scene.lab.registries() {
        let fetched: Vec<_> = registry.blob_fetches().into_iter().filter(|seen| is_content(&seen.path)).collect();
        once_each(&fetched);
        assert!(fetched.len() >= 2, "{name}: {fetched:#?}");
    }
    scene.lab.stop_all();
    for (kind, hosts) in clients() {
        scene.pull(kind, &scene.way(hosts), scene.mirrored(kind));
    }
}

#[test]
fn where_we_are_down_every_client_goes_on_to_the_registry() {
    let mut scene = Scene::new();
    scene.proxy.kill();
    for (kind, hosts) in clients() {
        scene.pull(kind, &scene.way_beside(scene.lab.road(), hosts), scene.mirrored(kind));
    }
}

#[test]
fn one_blob_through_every_door_is_one_download_and_one_file() {
    let scene = Scene::new();
    let (_, image) = &scene.images[0];
    let (door, digest) = (scene.door, &image.large);
    let direct = Way { proxy: String::new(), ..Way::by_proxy("", scene.proxy.ca_file()) };
    let urls = [
        format!("http://{door}/v2/library/app/blobs/{digest}"),
        format!("http://{door}/v2/app/blobs/{digest}"),
        format!("http://{door}/v2/library/app/blobs/{digest}?ns=docker.io"),
        format!("http://{door}/v2/docker.io/library/app/blobs/{digest}"),
        format!("http://{door}/v2/docker.io/library/app/blobs/{digest}?ns=docker.io"),
        format!("http://localhost:{}/v2/library/app/blobs/{digest}", door.port()),
        format!("http://{}/v2/docker.io/library/app/blobs/{digest}", scene.proxy.listen),
    ];
    for answer in ask(&direct, &[Form::Get, Form::Head], false, None, &urls).answers {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let connect = [format!("https://registry-1.docker.io/v2/library/app/blobs/{digest}")];
    for h2 in [false, true] {
        let said = ask(&Way { trust: scene.proxy.ca_file(), ..scene.proxy.way() }, &[Form::Get], h2, None, &connect);
        assert_eq!(said.answers[0].status, 200, "by HTTP/2: {h2}");
    }
    scene.pull(Kind::Skopeo, &scene.proxy.way(), &scene.images[..1]);
    let of_it = |path: &str| path.contains(digest.trim_start_matches("sha256:"));
    let fetched: Vec<_> =
        scene.lab.docker.cdn.iter().flat_map(|cdn| cdn.seen()).filter(|seen| of_it(&seen.path)).collect();
    once_each(&fetched);
    assert_eq!(fetched.len(), 1, "{fetched:#?}");
    assert!(scene.proxy.verify_blobs() > 0);
}

#[test]
fn what_no_configuration_names_is_refused_and_nothing_is_asked() {
    let scene = Scene::new();
    let direct = Way::by_proxy("", scene.proxy.ca_file());
    let door = scene.door;
    let urls = [
        format!("http://{door}/v2/lab/app/manifests/1?ns=example.org"),
        format!("http://{door}/v2/lab/app/manifests/1?ns=127.0.0.1:{}", scene.proxy.admin.port()),
        format!("http://{door}/v2/lab/app/manifests/1?ns=quay.io&ns={EXAMPLE}"),
    ];
    for answer in ask(&direct, &[Form::Get, Form::Head], false, None, &urls).answers {
        assert!([400, 404].contains(&answer.status), "{answer:?}");
    }
    assert_eq!(scene.lab.quay.site.seen(), []);
}

/// Whether a request fetched content: a redirect to a CDN is asked for each time.
fn is_content(path: &str) -> bool {
    path.contains("/data") || path.contains("/blobs/")
}

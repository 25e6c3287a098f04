//! Who may read and write what: the client's own credentials decide, as if the proxy were not there.

use std::time::Duration;

use crate::client::{Client, Curl, Kind, Skopeo};
use crate::lab::{Lab, OWNER, Shape};
use crate::proxy::Proxy;

#[test]
fn a_private_image_in_the_cache_is_for_those_whom_the_registry_lets_read_it() {
    let lab = Lab::new();
    let name = "docker.io/private/app:1";
    let image = lab.publish(&[name], Shape::Index, 1, 100_000);
    let proxy = Proxy::start(&lab);
    assert_eq!(Skopeo::with_credentials(&lab, &proxy.way(), OWNER).pull(name), Ok(image.id.clone()));
    for kind in Kind::ALL {
        let client = kind.fresh(&lab, &proxy.way());
        for name in [name.to_owned(), format!("docker.io/private/app@{}", image.digest)] {
            let said = client.pull(&name).expect_err("a private image was served to anybody");
            let refused = ["denied", "unauthorized", "authorization failed", "authentication required"];
            assert!(refused.iter().any(|word| said.contains(word)), "{kind:?}, {name}: {said}");
        }
    }
    let url = format!("https://registry-1.docker.io/v2/private/app/blobs/{}", image.large);
    let said = Curl::new(&lab.folder("curl"), &proxy.way(), &url).body(Duration::from_secs(20));
    assert!(said.as_ref().is_err_and(|said| said.contains("401")), "{said:?}");
    let fetched = lab.docker.blob_fetches();
    assert_eq!(Skopeo::with_credentials(&lab, &proxy.way(), OWNER).pull(name), Ok(image.id));
    assert_eq!(lab.docker.blob_fetches(), fetched);
}

#[test]
fn what_the_proxy_holds_credentials_for_is_pulled_by_clients_without_any_as_far_as_it_is_listed() {
    let lab = Lab::new();
    let names = ["docker.io/private/app:1", "docker.io/private/other:1", "docker.io/library/app:1"];
    let image = lab.publish(&names, Shape::Index, 1, 100_000);
    let proxy = Proxy::with(&lab, |config| {
        config["registries"]["docker.io"]["auth"] =
            serde_json::json!({ "username": "lab", "password": "lab", "repositories": ["private/app"] });
    });
    for kind in Kind::ALL {
        let client = kind.fresh(&lab, &proxy.way());
        assert_eq!(client.pull(names[0]), Ok(image.id.clone()), "{kind:?}: listed");
        assert_eq!(client.pull(names[2]), Ok(image.id.clone()), "{kind:?}: public");
        client.pull(names[1]).expect_err("a private image was served that is not listed");
    }
    let owner = Skopeo::with_credentials(&lab, &proxy.way(), OWNER);
    assert_eq!(owner.pull(names[1]), Ok(image.id), "one who logs in has the registry's word");
    assert!(!proxy.log().contains("bGFiOmxhYg"), "{}", proxy.log());
}

#[test]
fn a_push_passes_where_it_is_allowed_and_is_refused_elsewhere() {
    let lab = Lab::new();
    let proxy = Proxy::with(&lab, |config| config["registries"]["docker.io"]["push"] = "allow".into());
    let way = proxy.way();
    let image = lab.publish(&[], Shape::Index, 1, 3_000_000);
    let said = image.push("quay.io/lab/app:1", &way.proxy, &way.trust).expect_err("a push passed");
    assert!(said.contains("push"), "the refusal does not say what was refused: {said}");
    assert_eq!(
        lab.quay.site.seen().into_iter().filter(|seen| seen.method != "GET" && seen.method != "HEAD").count(),
        0
    );
    image.push("docker.io/lab/app:1", &way.proxy, &way.trust).unwrap();
    assert_eq!(Kind::Podman.fresh(&lab, &way).pull("docker.io/lab/app:1"), Ok(image.id));
}

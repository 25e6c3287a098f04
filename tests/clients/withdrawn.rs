//! Rights that are taken away at the registry: they end here within the grant's life.

use std::time::Duration;

use serde_json::json;

use crate::client::{Client as _, Kind, Skopeo};
use crate::lab::{ALICE, ALICE_THERE, EXAMPLE, Lab, OWNER, Shape, eventually};
use crate::proxy::Proxy;

/// Far less than the ten minutes that a grant lives by default.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_right_that_is_withdrawn_at_the_registry_ends_with_the_grants_life() {
    let lab = Lab::guarded();
    let places = [("docker.io", ALICE), (EXAMPLE, ALICE_THERE)].map(|(registry, alice)| {
        let name = format!("{registry}/private/app:1");
        let image = lab.publish(&[&name], Shape::Index, 1, 100_000);
        (registry, alice, name, image)
    });
    let proxy = Proxy::with(&lab, |config| {
        for (registry, ..) in &places {
            config["registries"][registry]["grants"] = json!({ "life": "2s" });
        }
    });
    let mut clients = [Kind::Docker, Kind::Skopeo].map(|kind| (kind, kind.fresh(&lab, &proxy.way())));
    for (registry, alice, name, image) in &places {
        for (kind, client) in &mut clients {
            client.login(registry, *alice).unwrap_or_else(|said| panic!("{kind:?}: {said}"));
            assert_eq!(client.pull(name).as_ref(), Ok(&image.id), "{kind:?}");
        }
    }
    lab.withdraw_alice();
    for (_, _, name, image) in &places {
        for (kind, client) in &clients {
            eventually(&format!("{kind:?} is refused {name}"), SOON, || client.pull(name).is_err());
            let said = client.pull(name).expect_err("a withdrawn right came back");
            let refused = ["denied", "unauthorized", "authentication required"];
            assert!(refused.iter().any(|word| said.contains(word)), "{kind:?}, {name}: {said}");
        }
        let owner = Skopeo::with_credentials(&lab, &proxy.way(), OWNER);
        assert_eq!(owner.pull(name).as_ref(), Ok(&image.id), "and nobody else's with it");
    }
}

#[test]
fn who_is_removed_from_the_token_service_pulls_no_more_with_any_client() {
    let lab = Lab::guarded();
    let name = "docker.io/private/app:1";
    let image = lab.publish(&[name], Shape::Index, 1, 100_000);
    let proxy = Proxy::with(&lab, |config| config["registries"]["docker.io"]["grants"] = json!({ "life": "2s" }));
    let clients = Kind::ALL.map(|kind| {
        let mut client = kind.fresh(&lab, &proxy.way());
        client.login("docker.io", ALICE).unwrap_or_else(|said| panic!("{kind:?}: {said}"));
        assert_eq!(client.pull(name).as_ref(), Ok(&image.id), "{kind:?}");
        (kind, client)
    });
    lab.remove_alice();
    for (kind, client) in &clients {
        eventually(&format!("{kind:?} is refused"), SOON, || client.pull(name).is_err());
    }
}

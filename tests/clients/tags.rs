//! Tags that move upstream: seen when they are no longer fresh, and not asked for while they are.

use std::time::Duration;

use serde_json::json;

use crate::client::Kind;
use crate::lab::{Lab, Registry, Seen, Shape, eventually};
use crate::proxy::Proxy;

/// What a pull asks for beyond the ping.
fn content_requests(registry: &Registry) -> Vec<Seen> {
    let seen = registry.site.seen().into_iter().chain(registry.cdn.iter().flat_map(|cdn| cdn.seen()));
    seen.filter(|seen| seen.path != "/v2/").collect()
}

#[test]
fn a_moved_tag_is_seen_once_it_is_no_longer_fresh_and_not_asked_for_before() {
    let lab = Lab::new();
    let proxy = Proxy::with(&lab, |config| {
        let rules = json!([{ "match": r"^v\d+$", "fresh_for": "1h" }, { "match": "^soon$", "fresh_for": "3s" }]);
        config["registries"]["quay.io"]["tags"] = json!({ "fresh_for": "0s", "rules": rules });
    });
    let [moving, kept, soon] = ["quay.io/lab/app:latest", "quay.io/lab/app:v1", "quay.io/lab/app:soon"];
    let all = [moving, kept, soon];
    let old = lab.publish(&all, Shape::Index, 1, 200_000);
    for kind in Kind::ALL {
        let client = kind.fresh(&lab, &proxy.way());
        for name in all {
            assert_eq!(client.pull(name).as_ref(), Ok(&old.id), "{kind:?}, {name}");
        }
    }
    let new = lab.publish(&all, Shape::Single, 2, 200_000);
    for kind in Kind::ALL {
        let client = kind.fresh(&lab, &proxy.way());
        let asked = content_requests(&lab.quay);
        assert_eq!(client.pull(kept).as_ref(), Ok(&old.id), "{kind:?}: it moved within fresh_for");
        assert_eq!(content_requests(&lab.quay), asked, "{kind:?}: the registry was asked within fresh_for");
        assert_eq!(client.pull(moving).as_ref(), Ok(&new.id), "{kind:?}: it did not move");
    }
    let client = Kind::Skopeo.fresh(&lab, &proxy.way());
    eventually("fresh_for is over and the tag moves", Duration::from_secs(30), || {
        client.pull(soon).as_ref() == Ok(&new.id)
    });
}

#[test]
fn a_reload_changes_how_long_a_tag_is_believed() {
    let lab = Lab::new();
    let proxy = Proxy::with(&lab, |config| config["registries"]["quay.io"]["tags"]["fresh_for"] = json!("1h"));
    let name = "quay.io/lab/app:1";
    let client = Kind::Skopeo.fresh(&lab, &proxy.way());
    let old = lab.publish(&[name], Shape::Single, 1, 1_000);
    assert_eq!(client.pull(name), Ok(old.id.clone()));
    let new = lab.publish(&[name], Shape::Single, 2, 1_000);
    assert_eq!(client.pull(name), Ok(old.id));
    proxy.reload(|config| config["registries"]["quay.io"]["tags"]["fresh_for"] = json!("0s"));
    eventually("the new configuration is in force", Duration::from_secs(30), || {
        client.pull(name).as_ref() == Ok(&new.id)
    });
}

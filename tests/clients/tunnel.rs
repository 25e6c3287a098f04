//! Hosts that are no registry of the configuration: tunnelled, so that their own certificate reaches the client.

use serde_json::json;

use crate::client::{Kind, Way};
use crate::lab::{EXAMPLE, Lab, Shape};
use crate::proxy::Proxy;

#[test]
fn a_host_that_is_no_registry_is_tunnelled_with_its_own_certificate() {
    let lab = Lab::new();
    let name = format!("{EXAMPLE}/lab/app:1");
    let image = lab.publish(&[&name], Shape::Index, 1, 1_000_000);
    let proxy = Proxy::with(&lab, |config| {
        config["registries"].as_object_mut().unwrap().remove(EXAMPLE);
        config["upstream"]["hosts"][EXAMPLE] = json!({ "address": lab.example.site.address });
        config["tunnel"]["ports"] = json!([443, 5000]);
    });
    // The lab's CA and not the proxy's: only the site's own certificate passes.
    let way = Way { trust: lab.ca_file().to_owned(), ..proxy.way() };
    for kind in Kind::ALL {
        assert_eq!(kind.fresh(&lab, &way).pull(&name).as_ref(), Ok(&image.id), "{kind:?}");
    }
    assert_eq!(proxy.verify_blobs(), 0, "what was tunnelled is not kept");
}

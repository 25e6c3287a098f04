//! A mirror's names: whatever host, path and query say, only configured registries come out.

use std::sync::Arc;

use super::stage::{REGISTRY, on_stage};
use crate::oci::{Authority, Query, Route};
use crate::proxy::naming::config::MirrorConfig;
use crate::proxy::naming::names::MirrorNames;
use crate::proxy::naming::resolve::AskedName;

const NAMES: &str = "
names:
  m.example.org: quay.io
  part.example.org: quay.io/team
  m2.example.org/deep: quay.io/team
  bound.example.org: {registry: quay.io, repositories: [org/*]}
  /hub: quay.io/hub
  /q: quay.io
";

/// The input is a host, a line feed, and a target. What is asked is asked of a configured registry, prints as what was
/// judged, and lies within the part and the bound that the name stands for.
pub fn naming(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (host, target) = text.split_once('\n').unwrap_or(("m.example.org", text));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (Ok(host), Ok(query)) = (Authority::parse(host, 443), Query::parse(query)) else { return };
    let config: MirrorConfig = serde_yaml::from_str(NAMES).unwrap();
    let registries = on_stage(|stage| vec![Arc::clone(&stage.registry)]);
    let names = MirrorNames::new(&config, &registries).unwrap();
    let Ok(resolved) = names.resolve(&registries, AskedName { host: &host, path, query: &query }) else { return };
    assert!(Route::parse(path).is_ok(), "{path:?}");
    assert_eq!(resolved.targets.len(), 1);
    for target in resolved.targets {
        assert_eq!(target.authority.short(443).as_ref(), REGISTRY);
        assert_eq!(Route::parse(&target.route.to_string()), Ok(target.route.clone()));
        let Some(repository) = target.route.repository() else { continue };
        let is_below = |part: &str| repository.as_str() == part || repository.as_str().starts_with(&format!("{part}/"));
        if resolved.namespace.is_none() {
            match host.host.to_string().as_str() {
                "part.example.org" => assert!(is_below("team"), "{repository}"),
                "bound.example.org" => assert!(is_below("org"), "{repository}"),
                _ => {}
            }
        }
    }
}

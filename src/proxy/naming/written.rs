//! Tells what a client of the mirror calls a repository: a name is one if a request by it is resolved to that repository.

use std::sync::Arc;

use super::names::{MirrorMeaning, MirrorNames};
use crate::oci::{Authority, Repository};
use crate::proxy::registry::registry::Registry;

impl MirrorNames {
    /// The name by which a client that names the mirror so gets `repository` of `registry`; `None` if there is none.
    pub(crate) fn written(
        &self,
        registries: &[Arc<Registry>],
        (host, namespace): (&Authority, Option<&str>),
        (registry, repository): (&Registry, &Repository),
    ) -> Option<String> {
        let own = repository.as_str();
        let below = |path: Option<&Repository>, meaning: &MirrorMeaning| {
            let rests = meaning.members.iter().filter(|member| registry.is_at(&member.authority));
            let rests = rests.filter_map(move |member| match &member.part {
                None => Some(own),
                Some(part) => own.strip_prefix(part.as_str())?.strip_prefix('/'),
            });
            let path = path.map(|path| format!("{path}/")).unwrap_or_default();
            rests.map(|rest| format!("{path}{rest}")).collect::<Vec<_>>()
        };
        let short = own.strip_prefix("library/").map(str::to_owned);
        let hosts = self.hosts.iter().filter(|(name, _)| name.host.as_ref() == Some(&host.host));
        let by_host = hosts.flat_map(|(name, meaning)| below(name.path.as_ref(), meaning));
        let by_path = self.paths.iter().flat_map(|(path, meaning)| below(Some(path), meaning));
        let by_registry = format!("{}/{own}", registry.name());
        let all = short.into_iter().chain([own.to_owned()]).chain(by_host).chain(by_path).chain([by_registry]);
        all.into_iter().find(|name| {
            let places = self.places(registries, host, namespace, name);
            places.iter().any(|(at, meant)| registry.is_at(at) && meant == repository)
        })
    }
}

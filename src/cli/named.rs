//! Reads an image's name as the mirror of this configuration does, where that is how it is named.

use std::sync::Arc;

use crate::config::Settings;
use crate::oci::{Authority, ImageName, Repository};
use crate::proxy::{Auth, MirrorNames, Registry, RegistrySettings};

/// A repository by its registry's own names, as the cache has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnName {
    pub(super) registry: Arc<str>,
    pub(super) repository: Repository,
}

/// What `repository` at the host `registry` means, in the order in which it is asked for: several in a group. Empty where the
/// host is a registry of the configuration, or no name of the mirror.
pub(super) fn meant(settings: &Settings, registry: &str, repository: &Repository) -> Vec<OwnName> {
    let Ok(host) = Authority::parse(registry, 443) else { return Vec::new() };
    let registries: Vec<Arc<Registry>> = settings.registries.iter().filter_map(nameable).collect();
    let Ok(names) = MirrorNames::new(&settings.mirror, &registries) else { return Vec::new() };
    let is_at = |authority: &Authority| registries.iter().find(|registry| registry.is_at(authority));
    let first = repository.as_str().split('/').next().and_then(|first| Authority::parse(first, 443).ok());
    let is_port = settings.listen.mirror.is_some_and(|mirror| mirror.port() == host.port);
    let is_name = names.has_host(&host.host) || is_port || first.is_some_and(|first| is_at(&first).is_some());
    if !is_name || is_at(&host).is_some() {
        return Vec::new();
    }
    let own = |(authority, repository): (Authority, Repository)| {
        Some(OwnName { registry: is_at(&authority)?.origin(&authority), repository })
    };
    names.places(&registries, &host, None, repository.as_str()).into_iter().filter_map(own).collect()
}

/// The name by which the cache has what `name` names.
///
/// # Errors
/// It stands for several registries.
pub(super) fn own(settings: &Settings, name: &ImageName) -> anyhow::Result<ImageName> {
    let (ImageName::Image(registry, repository, _) | ImageName::Repository(registry, repository)) = name else {
        return Ok(name.clone());
    };
    let meant = meant(settings, registry, repository);
    let named = |own: &OwnName| match name {
        ImageName::Image(_, _, reference) => {
            ImageName::Image(own.registry.clone(), own.repository.clone(), reference.clone())
        }
        _ => ImageName::Repository(own.registry.clone(), own.repository.clone()),
    };
    match meant.as_slice() {
        [] => Ok(name.clone()),
        [one] => Ok(named(one)),
        several => {
            let all: Vec<String> = several.iter().map(|own| named(own).to_string()).collect();
            anyhow::bail!("{name} stands for several registries at the mirror: use one of {}", all.join(", "))
        }
    }
}

/// The registry with its names alone.
fn nameable(settings: &RegistrySettings) -> Option<Arc<Registry>> {
    let settings = RegistrySettings { auth: Auth::Anonymous, endpoints: Vec::new(), ..settings.clone() };
    Registry::new(&settings).ok().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigSources, load};

    fn settings(text: &str) -> Settings {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.yaml");
        std::fs::write(&file, text).unwrap();
        load(&ConfigSources { config: Some(file), ..ConfigSources::default() }).unwrap()
    }

    #[test]
    fn an_image_is_named_by_each_name_of_the_mirror() {
        let settings = settings(
            "listen: {mirror: '127.0.0.1:5000'}\nregistries: {docker.io: {}, quay.io: {}, 'r.example.com:5000': {}}\nmirror:\n  names: {hub.example.org: docker.io, \
             'm.example.org/team': quay.io/org, /q: quay.io, port.example.org: 'r.example.com:5000', all.example.org: [docker.io, \
             {registry: quay.io, repositories: [org/*]}]}\n",
        );
        let table = [
            ("hub.example.org/alpine", "docker.io/library/alpine"),
            ("hub.example.org:5000/org/app", "docker.io/org/app"),
            ("m.example.org/team/app", "quay.io/org/app"),
            ("m.example.org/quay.io/other/app", "quay.io/other/app"),
            ("10.0.0.5:5000/quay.io/org/app", "quay.io/org/app"),
            ("10.0.0.5:5000/q/org/app", "quay.io/org/app"),
            ("10.0.0.5:5000/alpine", "docker.io/library/alpine"),
            ("balancer.example.org/docker.io/alpine", "docker.io/library/alpine"),
            ("port.example.org/a/b", "r.example.com:5000/a/b"),
            ("all.example.org/org/app", "docker.io/org/app quay.io/org/app"),
            ("all.example.org/other/app", "docker.io/other/app"),
            ("quay.io/org/app", ""),
            ("other.example.org/org/app", ""),
        ];
        for (name, expected) in table {
            let Ok(ImageName::Repository(registry, repository)) = name.parse() else { panic!("{name}") };
            let told = meant(&settings, &registry, &repository);
            let told: Vec<String> = told.iter().map(|own| format!("{}/{}", own.registry, own.repository)).collect();
            assert_eq!(told.join(" "), expected, "{name}");
        }
        let named = |text: &str| own(&settings, &text.parse().unwrap()).map(|name| name.to_string());
        assert_eq!(named("hub.example.org/alpine:3").unwrap(), "docker.io/library/alpine:3");
        assert_eq!(named("quay.io/org/app:1").unwrap(), "quay.io/org/app:1");
        assert!(named("all.example.org/org/app:1").unwrap_err().to_string().contains("quay.io/org/app:1"));
    }
}

//! Warns of registries under names that no registry answers to: web sites, hosts of clouds, and typing errors.
//!
//! Such a configuration is valid, and nothing that anybody pulls is cached under it. A name near a known one may be a
//! registry of the user's own, so this is a notice and no mistake.

use crate::config::presets::PRESETS;

/// Hosts that people take for a registry, and the registry that they mean.
const OTHERS: [(&str, &str); 21] = [
    ("hub.docker.com", "docker.io"),
    ("docker.com", "docker.io"),
    ("www.docker.com", "docker.io"),
    ("registry.docker.com", "docker.io"),
    ("registry.docker.io", "docker.io"),
    ("cloud.docker.com", "docker.io"),
    ("gcr.com", "gcr.io"),
    ("gcr.dev", "gcr.io"),
    ("gcr.oi", "gcr.io"),
    ("grc.io", "gcr.io"),
    ("ghcr.com", "ghcr.io"),
    ("github.com", "ghcr.io"),
    ("quay.com", "quay.io"),
    ("quay.org", "quay.io"),
    ("k8s.io", "registry.k8s.io"),
    ("kubernetes.io", "registry.k8s.io"),
    ("gitlab.com", "registry.gitlab.com"),
    ("microsoft.com", "mcr.microsoft.com"),
    ("gallery.ecr.aws", "public.ecr.aws"),
    ("ngc.nvidia.com", "nvcr.io"),
    ("catalog.ngc.nvidia.com", "nvcr.io"),
];

/// Says which name was probably meant instead of `name`, a host; `None` for a name that may well be a registry. One that
/// `is_led` somewhere by endpoints of its own is no typing error.
pub(crate) fn doubt(name: &str, is_led: bool) -> Option<String> {
    if PRESETS.iter().any(|preset| preset.name == name || preset.aliases.contains(&name)) {
        return None;
    }
    if let Some((_, meant)) = OTHERS.iter().find(|(other, _)| *other == name) {
        return Some(format!("no registry answers under {name}; images of {meant} are pulled under the name {meant}"));
    }
    let near = near(name).filter(|_| !is_led)?;
    Some(format!("{name} is not a known registry; did you mean {near}? (If it is one of your own, all is well)"))
}

/// The known registry that differs by one typing error: a letter too many, too few, another, or two exchanged.
fn near(name: &str) -> Option<&'static str> {
    let known = PRESETS.iter().map(|preset| preset.name).filter(|known| !known.contains('*'));
    // A short name has true neighbours: icr.io beside gcr.io.
    known.filter(|known| known.len() > "gcr.io".len()).find(|known| strsim::damerau_levenshtein(name, known) == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_and_web_sites_are_doubted_and_registries_are_not() {
        let table = [
            ("dcoker.io", Some("did you mean docker.io?")),
            ("docker.oi", Some("did you mean docker.io?")),
            ("dockr.io", Some("did you mean docker.io?")),
            ("quay.oi", Some("did you mean quay.io?")),
            ("gchr.io", Some("did you mean")),
            ("registry.k8s.oi", Some("did you mean registry.k8s.io?")),
            ("mcr.micrososft.com", Some("did you mean mcr.microsoft.com?")),
            ("hub.docker.com", Some("pulled under the name docker.io")),
            ("docker.com", Some("pulled under the name docker.io")),
            ("gcr.com", Some("pulled under the name gcr.io")),
            ("docker.io", None),
            ("index.docker.io", None),
            ("gcr.io", None),
            ("ghcr.io", None),
            ("k8s.gcr.io", None),
            ("registry.example.com", None),
            ("registry.redhat.io", None),
            ("lscr.io", None),
            ("icr.io", None),
            ("registry.hub.docker.com", None),
            ("cgr.dev", None),
            ("xpkg.upbound.io", None),
        ];
        for (name, expected) in table {
            let doubt = doubt(name, false);
            match expected {
                None => assert_eq!(doubt, None, "{name}"),
                Some(words) => assert!(doubt.as_ref().is_some_and(|doubt| doubt.contains(words)), "{name}: {doubt:?}"),
            }
        }
        assert_eq!(doubt("dcoker.io", true), None, "it has endpoints");
    }
}

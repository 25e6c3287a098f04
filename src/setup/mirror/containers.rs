//! Plans the mirror of Podman, Skopeo, Buildah and CRI-O, which name a registry to their mirror by its path alone.

use super::MirrorUrl;
use super::containerd::CA;
use super::files::{self, FALLBACK, ca_at, written};
use super::known::{OnMirror, path_of};
use super::refused::{Unmirrorable, refuse_root};
use crate::setup::{ClientKind, SetupPlan};

/// The plan for these registries, but for those that no path can name.
pub(super) fn containers(
    client: ClientKind,
    mirror: &MirrorUrl,
    registries: &[&str],
    known: &[OnMirror],
) -> Result<SetupPlan, Unmirrorable> {
    refuse_root(mirror, "registries.conf")?;
    let (mut places, mut without) = (Vec::new(), Vec::new());
    for name in registries {
        match path_of(mirror, name, known) {
            Some(location) => places.push((*name, location)),
            None => without.push(pathless(client, mirror, name)),
        }
    }
    if places.is_empty() {
        return Err(Unmirrorable(without.join("; ")));
    }
    let text = files::registries_conf(mirror, &places);
    let mut words = without;
    words.push(
        "A registry has its own entry, so patterns such as *.azurecr.io are not mirrored: name each host with --registry"
            .to_owned(),
    );
    words.push(FALLBACK.to_owned());
    words.push(match client {
        ClientKind::Crio => {
            "Check: crictl pull docker.io/library/alpine:3.20, then look for it in the mirror's log".to_owned()
        }
        ClientKind::Skopeo => "Check: skopeo inspect --no-tags docker://docker.io/library/alpine:3.20, then look for it in the mirror's log (without \
             --no-tags, Skopeo also asks the registry itself for its list of tags)"
                .to_owned(),
        other => format!("Check: {other} pull docker.io/library/alpine:3.20, then look for it in the mirror's log"),
    });
    let run = if client == ClientKind::Crio { vec!["systemctl reload crio".to_owned()] } else { Vec::new() };
    Ok(SetupPlan {
        files: vec![written("/etc/containers/registries.conf.d/50-pullthrough.conf", text)],
        ca: ca_at(mirror, format!("/etc/containers/certs.d/{}/{CA}", mirror.authority())),
        unit: (client == ClientKind::Crio).then_some("crio"),
        run,
        words,
        scripted: true,
        ..SetupPlan::default()
    })
}

/// A path has no port, and these clients name a registry by the path alone.
fn pathless(client: ClientKind, mirror: &MirrorUrl, registry: &str) -> String {
    let (host, base) = (registry.split(':').next().unwrap_or(registry), mirror.base());
    format!(
        "{registry} is left out, since no path of a mirror has a port: give it a path on the mirror, mirror.names: {{/{host}: \
         '{registry}'}}, and run this with the mirror's own configuration, or curl -fsS {base}/setup/{client}; or write the \
         entry by hand, with location = \"{}/{host}\" for the mirror",
        mirror.authority()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::mirror_plan;

    #[test]
    fn a_registry_with_a_port_is_left_out_with_the_reason_where_only_a_path_can_name_it() {
        let known = ["docker.io", "r.example:5000"].map(|name| OnMirror::Registry(name.to_owned()));
        let (mirror, named) = ("http://m:5000".parse().unwrap(), ["r.example:5000".to_owned()]);
        for client in [ClientKind::Podman, ClientKind::Skopeo, ClientKind::Buildah, ClientKind::Crio] {
            let plan = mirror_plan(client, &mirror, &[], &known).unwrap();
            assert!(!plan.files[0].text.contains("r.example"), "{client}");
            assert!(plan.words[0].starts_with("r.example:5000 is left out"), "{client}: {:?}", plan.words);
            let refused = mirror_plan(client, &mirror, &named, &[]).unwrap_err().to_string();
            assert!(refused.contains("mirror.names: {/r.example: 'r.example:5000'}"), "{client}: {refused}");
        }
        for client in [ClientKind::Containerd, ClientKind::Buildkit, ClientKind::K3s] {
            let plan = mirror_plan(client, &mirror, &named, &[]).unwrap();
            let first = plan.files.iter().chain(&plan.lines).next().unwrap();
            assert!(format!("{}{}", first.path, first.text).contains("r.example:5000"), "{client}: they send ns");
        }
    }
}

//! Checks the mirror's names, the registries that they stand for, and its certificate.

use std::collections::BTreeMap;

use super::pem;
use crate::config::base::Base;
use crate::config::mistakes::phrase::repeated;
use crate::config::mistakes::report::Report;
use crate::config::tree::KeyPath;
use crate::oci::Authority;
use crate::proxy::{MirrorConfig, MirrorMembers, MirrorName, MirrorTarget, RegistrySettings};

/// Checks the section; the certificate's files become relative to the folder of the configuration, unless variables name
/// them.
pub(crate) fn judge(mirror: &mut MirrorConfig, registries: &[RegistrySettings], base: &Base, report: &mut Report<'_>) {
    if let Some(tls) = &mut mirror.tls {
        let path = KeyPath::of(["mirror", "tls"]);
        for (key, file) in [("cert_file", &mut tls.cert_file), ("key_file", &mut tls.key_file)] {
            if !report.is_overridden(&path.key(key)) {
                *file = base.secret(file);
            }
        }
        pem::judge_own(&tls.cert_file, &tls.key_file, &path, report);
    }
    if let Some(default) = &mirror.default {
        judge_members(default, registries, &KeyPath::of(["mirror", "default"]), report);
    }
    let mut seen: BTreeMap<MirrorName, &str> = BTreeMap::new();
    for (key, members) in &mirror.names {
        let path = KeyPath::of(["mirror", "names"]).key(key);
        match key.parse::<MirrorName>() {
            Err(flaw) => report.say(&path, flaw.to_string()),
            Ok(name) => {
                judge_host(&name, registries, &path, report);
                if let Some(other) = seen.insert(name, key) {
                    report.say(&path, format!("same name as {other}; expected each name once"));
                }
            }
        }
        judge_members(members, registries, &path, report);
    }
}

/// A name that is a registry's own would answer for it with other content.
fn judge_host(name: &MirrorName, registries: &[RegistrySettings], path: &KeyPath, report: &mut Report<'_>) {
    let Some(host) = &name.host else { return };
    let is_at = |registry: &&RegistrySettings| registry.hosts.iter().any(|pattern| pattern.matches_host(host));
    if let Some(registry) = registries.iter().find(is_at) {
        let text = format!("is a host of the registry {}; expected a name of this mirror's own", registry.name);
        report.say(path, text);
    }
}

fn judge_members(members: &MirrorMembers, registries: &[RegistrySettings], path: &KeyPath, report: &mut Report<'_>) {
    if members.0.is_empty() && report.is_clean(path) {
        report.say(path, "lists no registry; expected at least one");
    }
    let one = members.0.len() == 1;
    let mut seen = Vec::new();
    for (index, member) in members.0.iter().enumerate() {
        // A single entry may be written without a list; its path is then the key itself.
        let path = if one { path.clone() } else { path.index(index) };
        if member.repositories.as_ref().is_some_and(Vec::is_empty) && report.is_clean(&path) {
            let text =
                "is empty, so the registry is never asked; expected patterns such as org/* (without this key, all)";
            report.say(&path.key("repositories"), text);
        }
        let found = repeated(&member.registry);
        let target: MirrorTarget = match member.registry.parse() {
            Ok(target) => target,
            Err(flaw) => {
                report.say(&path, format!("found {found}; {flaw}"));
                continue;
            }
        };
        if !is_configured(&target.authority, registries) {
            report.say(&path, format!("found {found}; not a configured registry; expected one of registries"));
        }
        if seen.contains(&target) {
            report.say(&path, format!("found {found}; listed twice; expected each registry once"));
        }
        seen.push(target);
    }
}

fn is_configured(authority: &Authority, registries: &[RegistrySettings]) -> bool {
    registries.iter().any(|registry| registry.hosts.iter().any(|host| host.matches(authority, 443)))
}

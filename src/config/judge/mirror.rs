//! Checks the mirror's names, the registries that they stand for, and its certificate.

use std::collections::{BTreeMap, BTreeSet};

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;

use super::pem;
use crate::config::base::Base;
use crate::config::mistakes::phrase::repeated;
use crate::config::mistakes::report::Report;
use crate::config::tree::KeyPath;
use crate::oci::{Authority, Host};
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
        let leaf = pem::judge_own(&tls.cert_file, &tls.key_file, &path, report);
        if let Some(leaf) = leaf {
            note_uncovered(&leaf, mirror, &path, report);
        }
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
                note_without_effect(&name, registries, &path, report);
                if let Some(other) = seen.insert(name, key) {
                    report.say(&path, format!("same name as {other}; expected each name once"));
                }
            }
        }
        judge_members(members, registries, &path, report);
    }
}

/// Docker asks its mirrors for Docker Hub's images by no registry's name.
pub(crate) fn note_no_default(mirror: &MirrorConfig, registries: &[RegistrySettings], report: &mut Report<'_>) {
    let has_hub = registries.iter().any(|registry| registry.name == "docker.io");
    if mirror.default.is_none() && mirror.names.is_empty() && !has_hub {
        let text = "is not set, and docker.io is not a registry here: what names no registry is not found at the mirror, such as \
                    all that Docker asks its registry-mirrors for";
        report.notice(&KeyPath::of(["mirror", "default"]), text);
    }
}

/// Clients refuse a certificate that is not for the name, and most of them pull from the registry then and say nothing.
fn note_uncovered(leaf: &CertificateDer<'_>, mirror: &MirrorConfig, path: &KeyPath, report: &mut Report<'_>) {
    let Ok(leaf) = ParsedCertificate::try_from(leaf) else { return };
    let hosts: BTreeSet<Host> = mirror.names.keys().filter_map(|name| name.parse::<MirrorName>().ok()?.host).collect();
    let is_covered = |host: &Host| {
        let host = host.to_string();
        let name = ServerName::try_from(host.trim_matches(['[', ']']));
        name.is_ok_and(|name| verify_server_name(&leaf, &name).is_ok())
    };
    let lacking: Vec<String> = hosts.iter().filter(|host| !is_covered(host)).map(Host::to_string).collect();
    if !lacking.is_empty() {
        let text = format!(
            "is not for {}, which mirror.names has: clients by TLS refuse it there, and most pull from the registry then without a \
             word. Expected a certificate for all of them, unless a balancer before the mirror has it",
            lacking.join(", ")
        );
        report.notice(&path.key("cert_file"), text);
    }
}

/// A name that is valid, and that probably no client can use as it was meant.
fn note_without_effect(name: &MirrorName, registries: &[RegistrySettings], path: &KeyPath, report: &mut Report<'_>) {
    let first = name.path.as_ref().and_then(|path| path.as_str().split('/').next());
    let registry = first.and_then(|first| Authority::parse(first, 443).ok()).filter(|at| is_configured(at, registries));
    match (&name.host, registry) {
        (None, Some(registry)) => report.notice(
            path,
            format!(
                "is never used: a path that begins with {0} means that registry; expected another path",
                registry.short(443)
            ),
        ),
        (Some(Host::Name(host)), _)
            if name.path.is_none() && name.port.is_none() && !host.contains('.') && &**host != "localhost" =>
        {
            report.notice(path, format!("is the host {host}; for a path on every host, write /{host}"));
        }
        _ => {}
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

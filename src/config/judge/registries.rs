//! Merges presets and entries into the registries, and checks their patterns.

use std::collections::BTreeMap;

use regex_lite::Regex;

use super::names;
use crate::cache::GrantsConfig;
use crate::config::mistakes::phrase::repeated;
use crate::config::mistakes::report::Report;
use crate::config::presets::{ECR, PRESETS, Preset, expand};
use crate::config::tree::KeyPath;
use crate::host::Period;
use crate::oci::{BadPattern, Host, HostPattern};
use crate::proxy::{Auth, RegistryConfig, RegistrySettings};
use crate::upstream::{CredentialConfig, EndpointConfig, Realm};

const PRESET_FRESH_FOR: Period = Period::seconds(60);
const OTHER_FRESH_FOR: Period = Period::seconds(0);
const DEADLINE: Period = Period::seconds(10);

/// Every enabled registry: all presets if `entries` is absent, else the listed ones. Exact hosts come before patterns,
/// and longer patterns before shorter ones, so that the first match is the closest.
pub(crate) fn settle(
    entries: Option<BTreeMap<String, Option<RegistryConfig>>>,
    report: &mut Report<'_>,
) -> Vec<RegistrySettings> {
    let mut settled = match entries {
        None => PRESETS.iter().filter_map(|preset| of_preset(preset).ok()).collect(),
        Some(entries) => of_entries(entries, report),
    };
    settled.sort_by_key(|registry| registry.hosts.iter().map(breadth).max());
    settled
}

/// How much a pattern covers: an exact host the least, a pattern with few labels the most.
fn breadth(pattern: &HostPattern) -> usize {
    match pattern.domain() {
        Some(domain) if pattern.exact().is_none() => usize::MAX - domain.split('.').count(),
        _ => 0,
    }
}

fn of_preset(preset: &Preset) -> Result<RegistrySettings, BadPattern> {
    merge(preset.name, &preset.name.parse()?, Some(preset), RegistryConfig::default(), false)
}

fn of_entries(entries: BTreeMap<String, Option<RegistryConfig>>, report: &mut Report<'_>) -> Vec<RegistrySettings> {
    if entries.is_empty() && report.is_clean(&section()) {
        report.say(&section(), "lists no registries; expected at least one (without this key, all presets are used)");
    }
    let mut owners: BTreeMap<HostPattern, String> = BTreeMap::new();
    let mut settled = Vec::new();
    for (key, body) in entries {
        let path = section().key(&key);
        match of_entry(&key, body.unwrap_or_default(), &path, report) {
            Ok(registry) => {
                let owner = registry.hosts.iter().find_map(|host| owners.get(host));
                if let Some(owner) = owner {
                    report.say(&path, format!("same host as {owner}; expected each registry once"));
                }
                owners.extend(registry.hosts.iter().map(|host| (host.clone(), key.clone())));
                settled.push(registry);
            }
            Err(problem) => report.say(&path, problem),
        }
    }
    settled
}

fn of_entry(
    key: &str,
    body: RegistryConfig,
    path: &KeyPath,
    report: &mut Report<'_>,
) -> Result<RegistrySettings, String> {
    judge_body(&body, path, report);
    let pattern = normal(key).map_err(|error| error.to_string())?;
    let name = pattern.to_string();
    if let Some(preset) = PRESETS.iter().find(|preset| preset.aliases.contains(&name.as_str())) {
        return Err(format!("is a host of {0}; expected {0}", preset.name));
    }
    if let Some(doubt) = names::doubt(&name, !body.endpoints.is_empty()) {
        report.notice(path, doubt);
    }
    let preset = PRESETS.iter().find(|preset| preset.name == name);
    if preset.is_none() {
        judge_pattern(&pattern)?;
    }
    if pattern.exact().is_none() && !body.endpoints.is_empty() {
        let endpoints = path.key("endpoints");
        report.say(
            &endpoints,
            "a pattern stands for many registries, but an endpoint for one; expected the name of one host instead of the pattern",
        );
    }
    if let Auth::Held(held) = &body.auth
        && pattern.exact().is_none()
        && held.0.iter().any(CredentialConfig::is_for_one_host)
    {
        let text = "a pattern stands for many registries, and one password must not go to all of them; expected the name of \
                    one host instead of the pattern, or docker_config or helper here";
        report.say(&path.key("auth"), text);
    }
    merge(&name, &pattern, preset, body, pattern.exact().is_some()).map_err(|error| error.to_string())
}

/// Drops port 443, which is the default.
fn normal(key: &str) -> Result<HostPattern, BadPattern> {
    let pattern: HostPattern = key.parse()?;
    match pattern.to_string().strip_suffix(":443") {
        Some(bare) if pattern.port() == Some(443) => bare.parse(),
        _ => Ok(pattern),
    }
}

/// Checks the domain of a pattern, since the CA may sign for everything in it: it must not cover more than was meant, nor
/// a whole top-level domain.
fn judge_pattern(pattern: &HostPattern) -> Result<(), String> {
    if pattern.exact().is_some() {
        return Ok(());
    }
    let Some(domain) = pattern.domain() else {
        return Err("covers every host; expected the host of a registry, or a pattern such as *.example.com".into());
    };
    if pattern.has_inner_star() {
        return Err(format!(
            "the CA would have to cover all of {domain}; expected a star only as the first label, as in *.example.com, or \
             each host by its name (the one exception is {ECR}, whose regions are built in)"
        ));
    }
    if !domain.contains('.') {
        return Err(format!("covers all of .{domain}; expected a domain of your own, such as *.example.{domain}"));
    }
    Ok(())
}

fn judge_body(body: &RegistryConfig, path: &KeyPath, report: &mut Report<'_>) {
    for (index, host) in body.token_hosts.iter().enumerate() {
        if host.parse::<Host>().is_err() {
            let path = path.key("token_hosts").index(index);
            report.say(&path, format!("found {host:?}; expected a host without a port, such as auth.example.com"));
        }
    }
    let grants = path.key("grants");
    for (key, period) in [("life", body.grants.life), ("outage", body.grants.outage)] {
        if period.0.is_zero() || period > GrantsConfig::LONGEST {
            report.say(&grants.key(key), format!("found {period}; expected more than 0s and at most 7d"));
        }
    }
    let tags = path.key("tags");
    if body.tags.deadline.is_some_and(|deadline| deadline.0.is_zero()) {
        report.say(&tags.key("deadline"), "found 0s; expected more than 0s, such as 10s");
    }
    for (index, rule) in body.tags.rules.iter().enumerate() {
        if let Err(error) = Regex::new(&rule.pattern) {
            let path = tags.key("rules").index(index).key("match");
            let found = repeated(&rule.pattern);
            report.say(
                &path,
                format!(
                    "found {found}, which is no regular expression: {error}; expected one such as '^v?\\d+\\.\\d+$'"
                ),
            );
        }
    }
}

fn merge(
    name: &str,
    pattern: &HostPattern,
    preset: Option<&Preset>,
    body: RegistryConfig,
    named: bool,
) -> Result<RegistrySettings, BadPattern> {
    let mut hosts = vec![];
    match preset {
        None => hosts.push(pattern.clone()),
        Some(preset) => {
            for host in expand(preset.name).iter().map(String::as_str).chain(preset.aliases.iter().copied()) {
                hosts.push(host.parse()?);
            }
        }
    }
    let mut endpoints = body.endpoints;
    if endpoints.is_empty() {
        endpoints.extend(preset.and_then(|preset| preset.endpoint).map(|url| EndpointConfig::of_url(url.to_owned())));
    }
    let known = preset.map(|preset| preset.token_hosts).unwrap_or_default();
    let mut token_hosts: Vec<Host> = body.token_hosts.iter().filter_map(|host| host.parse().ok()).collect();
    if body.token_hosts.is_empty() {
        token_hosts.extend(known.iter().filter_map(|host| host.parse().ok()));
    }
    let mut tags = body.tags;
    tags.fresh_for.get_or_insert(if preset.is_some() { PRESET_FRESH_FOR } else { OTHER_FRESH_FOR });
    tags.deadline.get_or_insert(DEADLINE);
    let known = preset.map(|preset| preset.realms).unwrap_or_default();
    let mut realms: Vec<Realm> = known.iter().filter_map(|realm| realm.parse().ok()).collect();
    realms.extend(body.realms);
    let name = name.to_owned();
    let (auth, push, prefetch, grants) = (body.auth, body.push, body.prefetch, body.grants);
    Ok(RegistrySettings { name, hosts, endpoints, token_hosts, named, realms, auth, push, prefetch, tags, grants })
}

fn section() -> KeyPath {
    KeyPath::of(["registries"])
}

//! Applies the `PULLTHROUGH_*` variables and the flags: every single value of the file has a variable.

use std::ffi::OsStr;

use serde_yaml::Value;

use super::mistakes::mistake::ValueSource;
use super::mistakes::phrase::nearest;
use super::mistakes::report::Report;
use super::source::ConfigSources;
use super::tree::{KeyPath, PathStep, set};

const PREFIX: &str = "PULLTHROUGH_";

/// Every value of the file outside lists and maps of names. The name of its variable is its path in upper case.
const VALUES: [&[&str]; 36] = [
    &["listen", "proxy"],
    &["listen", "admin"],
    &["listen", "mirror"],
    &["listen", "transparent"],
    &["mirror", "default"],
    &["mirror", "tls", "cert_file"],
    &["mirror", "tls", "key_file"],
    &["ca", "dir"],
    &["ca", "leaf_lifetime"],
    &["cache", "dir"],
    &["cache", "max_size"],
    &["cache", "min_free"],
    &["fill", "parallel_from"],
    &["fill", "lanes"],
    &["fill", "finish_share"],
    &["fill", "finish_rest"],
    &["clients", "connections"],
    &["clients", "connections_each"],
    &["clients", "streams"],
    &["clients", "streams_each"],
    &["clients", "htpasswd"],
    &["clients", "audit"],
    &["upstream", "proxy"],
    &["upstream", "no_proxy"],
    &["upstream", "resolvers"],
    &["upstream", "ip"],
    &["upstream", "connect_timeout"],
    &["upstream", "first_byte_timeout"],
    &["upstream", "idle_timeout"],
    &["upstream", "downloads_per_host"],
    &["upstream", "bandwidth"],
    &["tunnel", "default"],
    &["log", "level"],
    &["log", "format"],
    &["log", "access"],
    &["drain"],
];

/// Lays the variables, then the flags, over the tree.
pub(super) fn overlay(root: &mut Value, sources: &ConfigSources, report: &mut Report<'_>) {
    for (name, text) in &sources.environment {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        if text.is_empty() || is_service_link(rest) {
            continue;
        }
        match VALUES.iter().find(|path| variable(path) == *name) {
            Some(path) => lay(root, path, text, ValueSource::Variable(name.clone()), report),
            None => report.say_of(ValueSource::Variable(name.clone()), unknown(name)),
        }
    }
    let flags = &sources.overrides;
    for (path, flag, text) in [
        (["listen", "proxy"], "--listen", &flags.listen),
        (["listen", "admin"], "--admin", &flags.admin),
        (["listen", "mirror"], "--mirror", &flags.mirror),
        (["cache", "dir"], "--cache-dir", &flags.cache_dir),
        (["ca", "dir"], "--ca-dir", &flags.ca_dir),
    ] {
        if let Some(text) = text {
            lay(root, &path, OsStr::new(text), ValueSource::Flag(flag), report);
        }
    }
}

fn lay(root: &mut Value, path: &[&str], text: &OsStr, place: ValueSource, report: &mut Report<'_>) {
    let Some(text) = text.to_str() else { return report.say_of(place, "not UTF-8; expected text") };
    let value = match (path, text) {
        (
            ["fill", "lanes"]
            | ["upstream", "downloads_per_host"]
            | ["clients", "connections" | "connections_each" | "streams" | "streams_each"],
            digits,
        ) => digits.parse::<u64>().map_or_else(|_| text.into(), Value::from),
        _ => text.into(),
    };
    set(root, path, value);
    report.override_place(KeyPath(path.iter().map(|key| PathStep::Key((*key).to_owned())).collect()), place);
}

fn variable(path: &&[&str]) -> String {
    format!("{PREFIX}{}", path.join("_")).to_ascii_uppercase()
}

fn unknown(name: &str) -> String {
    let known: Vec<String> = VALUES.iter().map(variable).collect();
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("unknown variable; did you mean {near}?"),
        None => format!("unknown variable; expected one such as {}", known[0]),
    }
}

/// Whether Kubernetes has set the variable. It gives every pod variables about the services of its namespace; those of
/// a service called `pullthrough` or `pullthrough-admin` begin as the proxy's do (its
/// documentation, "Accessing the Service", environment variables).
fn is_service_link(rest: &str) -> bool {
    let rest = format!("_{rest}");
    let port_of = |tail: &str| tail.starts_with(|c: char| c.is_ascii_digit());
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.ends_with("_PORT")
        || rest.split("_PORT_").skip(1).any(port_of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::decode::decode;
    use crate::config::tree;

    #[test]
    fn a_variable_is_its_path_in_capitals() {
        assert_eq!(variable(&&["cache", "max_size"][..]), "PULLTHROUGH_CACHE_MAX_SIZE");
        assert_eq!(unknown("PULLTHROUGH_CACHE_MAXSIZE"), "unknown variable; did you mean PULLTHROUGH_CACHE_MAX_SIZE?");
    }

    #[test]
    fn every_value_of_the_file_has_a_variable_and_no_other_is_known() {
        let lists = [
            "listen.proxy_protocol",
            "mirror.names",
            "clients.allow",
            "clients.rules",
            "upstream.hosts",
            "tunnel.ports",
            "tunnel.allow",
            "tunnel.deny",
        ];
        let mut expected: Vec<String> =
            VALUES.iter().map(|path| path.join(".")).chain(lists.map(str::to_owned)).collect();
        let mut found = Vec::new();
        for section in ["listen", "mirror", "ca", "cache", "fill", "clients", "upstream", "tunnel", "log"] {
            let text = format!("{section}: {{no_such_key: 1}}");
            let mut root = tree::parse(&text).unwrap().root;
            let mut report = Report::new(None, &text);
            decode(&mut root, &mut report);
            let mistakes = report.finish().unwrap_err().to_string();
            let (_, known) = mistakes.split_once("expected one of ").unwrap();
            found.extend(known.split(", ").map(|key| format!("{section}.{key}")));
        }
        let text = "no_such_key: 1";
        let mut report = Report::new(None, text);
        decode(&mut tree::parse(text).unwrap().root, &mut report);
        let mistakes = report.finish().unwrap_err().to_string();
        let (_, known) = mistakes.split_once("expected one of ").unwrap();
        let sections =
            ["listen", "mirror", "ca", "cache", "fill", "registries", "clients", "upstream", "tunnel", "log"];
        found.extend(known.split(", ").filter(|key| !sections.contains(key)).map(str::to_owned));
        // The one section within a section: both of its values have a variable.
        let tls = found.iter().position(|key| key == "mirror.tls").unwrap();
        found.splice(tls..=tls, ["cert_file", "key_file"].map(|key| format!("mirror.tls.{key}")));
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_kubernetes_says_of_services_is_not_ours() {
        for theirs in ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_PROXY", "PORT", "PORT_3128_TCP_ADDR"] {
            assert!(is_service_link(theirs), "{theirs}");
            assert!(is_service_link(&format!("ADMIN_{theirs}")), "{theirs}");
        }
        for ours in VALUES.iter().map(variable) {
            assert!(!is_service_link(&ours[PREFIX.len()..]), "{ours}");
        }
    }
}

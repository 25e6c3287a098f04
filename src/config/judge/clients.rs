//! Checks the clients section: the lines of the htpasswd file, the names and users of rules, the folder of the audit log.

use std::collections::BTreeSet;
use std::path::Path;

use crate::config::base::Base;
use crate::config::mistakes::phrase::repeated;
use crate::config::mistakes::report::Report;
use crate::config::presets::PRESETS;
use crate::config::tree::KeyPath;
use crate::oci::{Authority, HostPattern};
use crate::proxy::{AuditConfig, BadLine, ClientsConfig, RegistrySettings, RuleConfig, Users};

/// Checks the section; its files become relative to the folder of the configuration, unless a variable names them.
pub(crate) fn judge(clients: &mut ClientsConfig, base: &Base, report: &mut Report<'_>) {
    let (htpasswd, audit) = (KeyPath::of(["clients", "htpasswd"]), KeyPath::of(["clients", "audit"]));
    if let Some(file) = clients.htpasswd.as_mut().filter(|_| !report.is_overridden(&htpasswd)) {
        *file = base.secret(file);
    }
    let users = clients.htpasswd.as_deref().and_then(|file| users(file, &htpasswd, report));
    if let Some(AuditConfig::File(file)) = &mut clients.audit {
        if !report.is_overridden(&audit) {
            *file = base.join(file);
        }
        let place = file.parent().filter(|place| !place.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if file.is_dir() || !place.is_dir() {
            report
                .say(&audit, format!("{}: cannot be a file; expected a path in an existing directory", file.display()));
        }
    }
    let mut names = BTreeSet::new();
    for (index, rule) in clients.rules.iter().enumerate() {
        let path = KeyPath::of(["clients", "rules"]).index(index);
        if rule.name.is_empty() || rule.name == "default" || rule.name.chars().any(char::is_control) {
            let found = repeated(&rule.name);
            report.say(
                &path.key("name"),
                format!("found {found}; not a valid rule name; expected a word of your own other than default"),
            );
        } else if !names.insert(&rule.name) {
            let found = repeated(&rule.name);
            report.say(&path.key("name"), format!("found {found}; duplicate rule name; expected a unique name"));
        }
        if rule.actions.is_empty() {
            report.say(&path.key("actions"), "is empty; expected pull, push or both (without this key, both)");
        }
        judge_users(rule, clients.htpasswd.is_some(), users.as_ref(), &path, report);
    }
}

fn users(file: &Path, path: &KeyPath, report: &mut Report<'_>) -> Option<Users> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) => {
            report.say(path, format!("{}: {error}; expected a readable file", file.display()));
            return None;
        }
    };
    let tell = |BadLine { line, text }: BadLine| report.say(path, format!("{}:{line}: {text}", file.display()));
    Users::parse(&bytes).map_err(|flaws| flaws.into_iter().for_each(tell)).ok()
}

fn judge_users(rule: &RuleConfig, named: bool, known: Option<&Users>, path: &KeyPath, report: &mut Report<'_>) {
    for (index, user) in rule.users.iter().enumerate() {
        let path = path.key("users").index(index);
        if !named && report.is_clean(&KeyPath::of(["clients", "htpasswd"])) {
            let text = "no users are known without clients.htpasswd; expected that file, or no users here";
            report.say(&path, format!("found {}; {text}", repeated(user)));
        } else if user != "*" && known.is_some_and(|known| !known.contains(user)) {
            report.say(
                &path,
                format!("{user:?} is not in clients.htpasswd; expected one of its users, or '*' for all of them"),
            );
        }
    }
}

/// Checks the registries of rules. A rule for one name of a registry that has several could be bypassed with another
/// name; and a host that is not a configured registry is tunnelled past all rules.
pub(crate) fn judge_registries(rules: &[RuleConfig], registries: &[RegistrySettings], report: &mut Report<'_>) {
    for (number, rule) in rules.iter().enumerate() {
        let path = KeyPath::of(["clients", "rules"]).index(number).key("registries");
        for (index, pattern) in rule.registries.iter().enumerate() {
            let (path, name) = (path.index(index), pattern.to_string());
            if let Some(preset) = PRESETS.iter().find(|preset| preset.aliases.contains(&name.as_str())) {
                let found = repeated(&name);
                report.say(&path, format!("found {found}; is a host of {0}; expected {0}", preset.name));
            } else if !registries.iter().any(|registry| registry.name == name || meets(pattern, registry)) {
                let text = "not a configured registry; expected the name of one, or a pattern of their hosts";
                report.say(&path, format!("found {}; {text}", repeated(&name)));
            }
        }
    }
}

/// Whether some host of `registry` may match `pattern`.
fn meets(pattern: &HostPattern, registry: &RegistrySettings) -> bool {
    let within = |wide: &HostPattern, narrow: &HostPattern| {
        let authority = narrow.exact().map(|host| Authority { host: host.clone(), port: narrow.port().unwrap_or(443) });
        authority.is_some_and(|authority| wide.matches(&authority, 443))
    };
    registry.hosts.iter().any(|host| within(pattern, host) || within(host, pattern))
}

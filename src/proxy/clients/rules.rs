//! Judges one request by the rules of `clients.rules`, without side effects.

use std::net::IpAddr;
use std::sync::Arc;

use super::rule_config::{Action, Effect, RuleConfig};
use crate::oci::{Authority, Repository};

/// The rule's name where no rule that allows matches a request; no configured rule may have this name.
pub(crate) const DEFAULT: &str = "default";

/// What a client wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Intent<'a> {
    /// Its user, if it has proven to be one.
    pub user: Option<&'a str>,
    /// Its address.
    pub client: IpAddr,
    /// The registry's configured name.
    pub registry: &'a str,
    /// The registry's host as the client asked for it.
    pub host: &'a Authority,
    /// The repository.
    pub repository: Named<'a>,
    /// The action there.
    pub action: Action,
}

/// Which repository a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// This one.
    One(&'a Repository),
    /// It names none that we understand, such as the catalog, which lists them all: it may be about each of them.
    Any,
}

/// The judgement of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It may; by this rule, or because none speaks of it.
    Allowed(Option<Arc<str>>),
    /// It may not; by this rule, or (`default`) because none of those that allow speaks of it.
    Denied(Arc<str>),
}

/// The rules, in order. The default has none: everything is allowed.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<(Arc<str>, RuleConfig)>);

impl Rules {
    /// Makes the configured rules ready.
    #[must_use]
    pub fn new(rules: &[RuleConfig]) -> Self {
        Self(rules.iter().map(|rule| (rule.name.as_str().into(), rule.clone())).collect())
    }

    /// Whether there is no rule: then nothing has to be judged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Judges a request: the first deny that speaks of it, else the first allow that does, else nobody, unless
    /// some allow has this action.
    #[must_use]
    pub fn judge(&self, intent: &Intent<'_>) -> Judgement {
        let of = |effect: Effect| self.0.iter().filter(move |(_, rule)| rule.effect == effect);
        if let Some((name, _)) = of(Effect::Deny).find(|(_, rule)| rule.speaks_of(intent)) {
            return Judgement::Denied(name.clone());
        }
        if let Some((name, _)) = of(Effect::Allow).find(|(_, rule)| rule.speaks_of(intent)) {
            return Judgement::Allowed(Some(name.clone()));
        }
        if of(Effect::Allow).any(|(_, rule)| rule.actions.contains(&intent.action)) {
            return Judgement::Denied(DEFAULT.into());
        }
        Judgement::Allowed(None)
    }
}

impl RuleConfig {
    fn speaks_of(&self, intent: &Intent<'_>) -> bool {
        self.actions.contains(&intent.action)
            && fits(&self.users, |user| intent.user.is_some_and(|name| user == "*" || user == name))
            && fits(&self.networks, |network| network.contains(&intent.client.to_canonical()))
            && fits(&self.registries, |registry| {
                registry.to_string() == intent.registry || registry.matches(intent.host, 443)
            })
            && match intent.repository {
                Named::One(name) => fits(&self.repositories, |pattern| pattern.matches(name)),
                // A deny for some repositories denies this, an allow for some does not allow it.
                Named::Any => self.repositories.is_empty() || self.effect == Effect::Deny,
            }
    }
}

/// An absent list fits everything.
fn fits<T>(list: &[T], one: impl Fn(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "
- {name: no-secrets, effect: deny, repositories: ['*/secret']}
- {name: no-guests-at-quay, effect: deny, registries: [quay.io], networks: [192.0.2.0/24]}
- {name: office, effect: allow, networks: [10.0.0.0/8, 192.0.2.0/24], actions: [pull]}
- {name: named, effect: allow, users: ['*'], actions: [pull]}
- {name: ci, effect: allow, users: [ci], registries: ['*.pkg.dev', r.example.com:5000], repositories: ['team/*'], actions: [push]}
";

    fn rules(yaml: &str) -> Rules {
        Rules::new(&serde_yaml::from_str::<Vec<RuleConfig>>(yaml).unwrap())
    }

    fn judge(rules: &Rules, user: &str, client: &str, host: &str, repository: &str, action: Action) -> String {
        let host = Authority::parse(host, 443).unwrap();
        let registry = if host.to_string().ends_with(".pkg.dev:443") { "*.pkg.dev".into() } else { host.short(443) };
        let repository: Option<Repository> = (!repository.is_empty()).then(|| repository.parse().unwrap());
        let intent = Intent {
            user: (!user.is_empty()).then_some(user),
            client: client.parse().unwrap(),
            registry: &registry,
            host: &host,
            repository: repository.as_ref().map_or(Named::Any, Named::One),
            action,
        };
        match rules.judge(&intent) {
            Judgement::Allowed(rule) => format!("allowed {}", rule.as_deref().unwrap_or("-")),
            Judgement::Denied(rule) => format!("denied {rule}"),
        }
    }

    #[test]
    fn deny_wins_then_allow_and_what_no_allow_names_is_refused() {
        use Action::{Pull, Push};
        let rules = rules(RULES);
        let table = [
            ("", "10.1.2.3", "docker.io", "library/alpine", Pull, "allowed office"),
            ("", "::ffff:10.1.2.3", "docker.io", "library/alpine", Pull, "allowed office"),
            ("", "172.16.0.1", "docker.io", "library/alpine", Pull, "denied default"),
            ("bob", "172.16.0.1", "docker.io", "library/alpine", Pull, "allowed named"),
            ("bob", "10.1.2.3", "docker.io", "team/secret", Pull, "denied no-secrets"),
            ("", "192.0.2.9", "quay.io", "org/app", Pull, "denied no-guests-at-quay"),
            ("bob", "192.0.2.9", "quay.io", "org/app", Pull, "denied no-guests-at-quay"),
            ("", "192.0.2.9", "quay.io:444", "org/app", Pull, "allowed office"),
            ("ci", "172.16.0.1", "eu-docker.pkg.dev", "team/app/cache", Push, "allowed ci"),
            ("ci", "172.16.0.1", "eu-docker.pkg.dev", "other/app", Push, "denied default"),
            ("ci", "172.16.0.1", "r.example.com:5000", "team/app", Push, "allowed ci"),
            ("ci", "172.16.0.1", "r.example.com", "team/app", Push, "denied default"),
            ("CI", "172.16.0.1", "r.example.com:5000", "team/app", Push, "denied default"),
            // What names no repository may be about each of them.
            ("ci", "172.16.0.1", "r.example.com:5000", "", Push, "denied no-secrets"),
            ("", "10.1.2.3", "docker.io", "", Pull, "denied no-secrets"),
        ];
        for (user, client, host, repository, action, expected) in table {
            let found = judge(&rules, user, client, host, repository, action);
            assert_eq!(found, expected, "{user} {client} {host} {repository} {action:?}");
        }
    }

    #[test]
    fn without_an_allow_for_an_action_what_is_not_denied_is_allowed() {
        let judge = |yaml, action| judge(&rules(yaml), "", "10.0.0.1", "quay.io", "a", action);
        assert_eq!(judge("[]", Action::Push), "allowed -");
        assert_eq!(judge("[{name: x, effect: deny, users: [a]}]", Action::Pull), "allowed -");
        let push_only = "[{name: x, effect: allow, users: [a], actions: [push]}]";
        assert_eq!(judge(push_only, Action::Pull), "allowed -");
        assert_eq!(judge(push_only, Action::Push), "denied default");
    }

    #[test]
    fn a_rule_says_its_name_and_effect_and_knows_no_other_keys() {
        for yaml in ["{effect: deny}", "{name: x}", "{name: x, effect: perhaps}", "{name: x, effect: deny, user: a}"] {
            assert!(serde_yaml::from_str::<RuleConfig>(yaml).is_err(), "{yaml}");
        }
    }
}

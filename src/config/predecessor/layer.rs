//! Turns docker-registry-proxy's variables and volumes into a layer below our own settings.

use serde_yaml::{Mapping, Value};

use super::convert::{canonical, size, time};
use super::names::IGNORED;
use crate::config::mistakes::mistake::ValueSource;
use crate::config::mistakes::report::Report;
use crate::config::presets::PRESETS;
use crate::config::source::ConfigSources;
use crate::config::tree::{KeyPath, find, set};

const HUB: &str = "docker.io";

/// Applies the predecessor's variables to `root`, and returns the notices for a person.
pub(crate) fn overlay(root: &mut Value, sources: &ConfigSources, report: &mut Report<'_>) -> Vec<String> {
    let mut layer = Layer { root, sources, report, notices: Vec::new() };
    layer.volumes();
    layer.registries();
    layer.scalar("CACHE_MAX_SIZE", ["cache", "max_size"], size);
    layer.scalar("PROXY_CONNECT_TIMEOUT", ["upstream", "connect_timeout"], time);
    layer.scalar("PROXY_READ_TIMEOUT", ["upstream", "idle_timeout"], time);
    if layer.is_true("DISABLE_IPV6") {
        layer.lay(&["upstream", "ip"], "v4".into(), "DISABLE_IPV6");
    }
    layer.refusals();
    layer.notices
}

struct Layer<'a, 'b> {
    root: &'a mut Value,
    sources: &'a ConfigSources,
    report: &'a mut Report<'b>,
    notices: Vec<String>,
}

impl Layer<'_, '_> {
    /// The value of the variable, if it is text; most callers treat an empty value as absent.
    fn text(&self, name: &str) -> Option<&str> {
        self.sources.environment.get(name).and_then(|text| text.to_str())
    }

    fn filled(&self, name: &str) -> Option<String> {
        self.text(name).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn is_true(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    fn lay(&mut self, path: &[&str], value: Value, variable: &str) {
        set(self.root, path, value);
        self.report.override_place(path.iter().fold(KeyPath::default(), |path, key| path.key(key)), of(variable));
    }

    fn scalar(&mut self, variable: &str, path: [&str; 2], convert: fn(&str) -> String) {
        if let Some(text) = self.filled(variable) {
            self.lay(&path, convert(&text).into(), variable);
        }
    }

    fn volumes(&mut self) {
        for (path, folder) in [(["cache", "dir"], "docker_mirror_cache"), (["ca", "dir"], "ca")] {
            let Some(folder) = self.sources.volumes.as_ref().map(|root| root.join(folder)) else { continue };
            if folder.is_dir() && find(self.root, &KeyPath::of(path)).is_none() {
                set(self.root, &path, folder.display().to_string().into());
                // The path is absolute, so it is not relative to the configuration.
                self.report.override_place(KeyPath::of(path), ValueSource::Defaults);
            }
        }
    }

    /// `REGISTRIES`, and the variables that apply to all registries.
    fn registries(&mut self) {
        let listed = self.text("REGISTRIES").map(|text| text.split_whitespace().map(canonical).collect::<Vec<_>>());
        let held = self.credentials();
        let tags = self.tags();
        let push = self.is_true("ALLOW_PUSH");
        if listed.is_none() && held.is_empty() && tags.is_none() && !push {
            return;
        }
        let presets = || PRESETS.iter().map(|preset| preset.name.to_owned()).collect();
        let mut names: Vec<String> = listed.clone().unwrap_or_else(presets);
        names.insert(0, HUB.to_owned());
        names.extend(held.iter().map(|(host, _)| host.clone()));
        names.sort();
        names.dedup();
        for name in names {
            let variable = match &listed {
                Some(listed) if listed.contains(&name) => "REGISTRIES",
                _ if held.iter().any(|(host, _)| *host == name) => "AUTH_REGISTRIES",
                _ => "REGISTRIES",
            };
            self.lay(&["registries", &name], Value::Mapping(Mapping::new()), variable);
            if push {
                self.lay(&["registries", &name, "push"], "allow".into(), "ALLOW_PUSH");
            }
            if let Some((tags, rules)) = &tags {
                self.lay(&["registries", &name, "tags"], tags.clone(), "ENABLE_MANIFEST_CACHE");
                for (index, (pattern, time)) in rules.iter().enumerate() {
                    let rule = KeyPath::of(["registries"]).key(&name).key("tags").key("rules").index(index);
                    self.report.override_place(rule.key("match"), of(pattern));
                    self.report.override_place(rule.key("fresh_for"), of(time));
                }
                let fresh_for = KeyPath::of(["registries"]).key(&name).key("tags").key("fresh_for");
                self.report.override_place(fresh_for, of("MANIFEST_CACHE_DEFAULT_TIME"));
            }
        }
        for (host, credential) in held {
            self.lay(&["registries", &host, "auth"], credential, "AUTH_REGISTRIES");
        }
    }

    /// `AUTH_REGISTRIES` by registry. In the predecessor, everyone who could reach the proxy used the credentials, so it
    /// is the same here, with a notice.
    fn credentials(&mut self) -> Vec<(String, Value)> {
        let Some(text) = self.filled("AUTH_REGISTRIES") else { return Vec::new() };
        let delimiter =
            |name: &str, usual: &str| self.text(name).filter(|text| !text.is_empty()).unwrap_or(usual).to_owned();
        let between = delimiter("AUTH_REGISTRIES_DELIMITER", " ");
        let inside = delimiter("AUTH_REGISTRY_DELIMITER", ":");
        let mut held: Vec<(String, Value)> = Vec::new();
        let entries = text.split(between.as_str()).map(str::trim).filter(|entry| !entry.is_empty());
        for (number, entry) in entries.enumerate() {
            let parts: Vec<&str> = entry.split(inside.as_str()).collect();
            let [host, user, password] = parts[..] else {
                let problem = format!(
                    "entry {} has {} parts; expected host, user and password separated by AUTH_REGISTRY_DELIMITER: if a \
                     password contains that delimiter, choose another one",
                    number + 1,
                    parts.len()
                );
                self.report.say_of(of("AUTH_REGISTRIES"), problem);
                continue;
            };
            let host = canonical(host);
            if held.iter().any(|(known, _)| *known == host) {
                self.report.say_of(of("AUTH_REGISTRIES"), format!("names {host} twice; expected it once"));
                continue;
            }
            let mut credential = Mapping::new();
            credential.insert("username".into(), user.into());
            credential.insert("password".into(), password.into());
            credential.insert("repositories".into(), Value::Sequence(vec!["*".into()]));
            self.notices.push(format!(
                "AUTH_REGISTRIES: every client of this proxy may read everything that the credentials for {host} may read"
            ));
            if !PRESETS.iter().any(|preset| preset.name == host) {
                self.notices.push(format!(
                    "AUTH_REGISTRIES: the credentials for {host} are used for the registry of that name; if {host} is the \
                     token service of another registry, as with GitLab, write a configuration with auth and realms under \
                     that registry"
                ));
            }
            held.push((host, Value::Mapping(credential)));
        }
        held
    }

    /// The `tags:` section of every registry, and the variables of each rule's pattern and time.
    fn tags(&self) -> Option<(Value, Vec<(&'static str, &'static str)>)> {
        self.filled("ENABLE_MANIFEST_CACHE")?;
        let mut tags = Mapping::new();
        if !self.is_true("ENABLE_MANIFEST_CACHE") {
            tags.insert("fresh_for".into(), "0s".into());
            return Some((Value::Mapping(tags), Vec::new()));
        }
        let given = |name: &str, usual: &str| self.filled(name).unwrap_or_else(|| usual.to_owned());
        // The defaults of docker-registry-proxy's image.
        let tiers = [
            ("MANIFEST_CACHE_PRIMARY_REGEX", "(stable|nightly|production|test)", "MANIFEST_CACHE_PRIMARY_TIME", "10m"),
            (
                "MANIFEST_CACHE_SECONDARY_REGEX",
                r"(.*)(\d|\.)+(.*)(\d|\.)+(.*)(\d|\.)+",
                "MANIFEST_CACHE_SECONDARY_TIME",
                "60d",
            ),
        ];
        let mut rules = Vec::new();
        for (pattern, usual, period, life) in tiers {
            let mut rule = Mapping::new();
            // nginx matched it after `^/v2/(.*)/manifests/`: anchored at the start, open at the end.
            rule.insert("match".into(), format!("^(?:{})", given(pattern, usual)).into());
            rule.insert("fresh_for".into(), time(&given(period, life)).into());
            rules.push(Value::Mapping(rule));
        }
        tags.insert("fresh_for".into(), time(&given("MANIFEST_CACHE_DEFAULT_TIME", "1h")).into());
        tags.insert("rules".into(), Value::Sequence(rules));
        Some((Value::Mapping(tags), tiers.iter().map(|(pattern, _, time, _)| (*pattern, *time)).collect()))
    }

    fn refusals(&mut self) {
        if let Some(text) = self.filled("VERIFY_SSL").filter(|text| text != "true") {
            let problem = format!(
                "found {text:?}: upstreams are always verified; expected this variable unset, and for a registry with its \
                 own CA a configuration with ca_file under registries.NAME.endpoints"
            );
            self.report.say_of(of("VERIFY_SSL"), problem);
        }
        for (name, file) in [("CA_KEY_FILE", "ca.key"), ("CA_CRT_FILE", "ca.crt")] {
            if self.filled(name).is_some() {
                let problem = format!("not supported; expected the file as {file} in the CA directory (--ca-dir)");
                self.report.say_of(of(name), problem);
            }
        }
        for (name, reason) in IGNORED {
            let off = name.starts_with("DEBUG") && !self.is_true(name);
            if self.filled(name).is_some() && !off {
                self.notices.push(format!("{name} has no effect: {reason}"));
            }
        }
    }
}

fn of(variable: &str) -> ValueSource {
    ValueSource::Variable(variable.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, load};
    use crate::host::{Period, Size};
    use crate::proxy::{Auth, Push};
    use crate::upstream::Family;

    fn sources(environment: &[(&str, &str)]) -> ConfigSources {
        let environment = environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).into())).collect();
        ConfigSources { environment, ..ConfigSources::default() }
    }

    fn settings(environment: &[(&str, &str)]) -> Settings {
        load(&sources(environment)).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    fn mistakes(environment: &[(&str, &str)]) -> String {
        load(&sources(environment)).unwrap_err().to_string()
    }

    fn names(settings: &Settings) -> Vec<&str> {
        settings.registries.iter().map(|registry| registry.name.as_str()).collect()
    }

    #[test]
    fn registries_take_the_place_of_the_presets_and_docker_hub_stays() {
        let table = [
            (
                "k8s.gcr.io  quay.io\nr.example.com:5000",
                vec!["docker.io", "k8s.gcr.io", "quay.io", "r.example.com:5000"],
            ),
            ("auth.docker.io registry-1.docker.io", vec!["docker.io"]),
            ("", vec!["docker.io"]),
        ];
        for (text, expected) in table {
            assert_eq!(names(&settings(&[("REGISTRIES", text)])), expected, "{text}");
        }
        assert_eq!(settings(&[]).registries.len(), PRESETS.len());
        assert!(mistakes(&[("REGISTRIES", "a_b/c")]).starts_with("REGISTRIES: "));
    }

    #[test]
    fn credentials_belong_to_the_registry_whose_host_is_named() {
        let environment = [
            ("REGISTRIES", "quay.io"),
            ("AUTH_REGISTRIES", "auth.docker.io:::me:::a b:c;;;gcr.io:::_json_key:::{\"a\": \"b\"}"),
            ("AUTH_REGISTRIES_DELIMITER", ";;;"),
            ("AUTH_REGISTRY_DELIMITER", ":::"),
        ];
        let settings = settings(&environment);
        assert_eq!(names(&settings), ["docker.io", "gcr.io", "quay.io"]);
        let held = |name: &str| match &settings.registries.iter().find(|one| one.name == name).unwrap().auth {
            Auth::Held(held) => {
                let entry = &held.0[0];
                assert_eq!(entry.repositories.len(), 1);
                Some((entry.username.clone().unwrap(), entry.password.clone().unwrap().expose().to_owned()))
            }
            _ => None,
        };
        assert_eq!(held("docker.io"), Some(("me".into(), "a b:c".into())));
        assert_eq!(held("gcr.io"), Some(("_json_key".into(), "{\"a\": \"b\"}".into())));
        assert_eq!(held("quay.io"), None);
        assert_eq!(settings.notices.len(), 2);
        let usual = self::settings(&[("AUTH_REGISTRIES", " auth.docker.io:me:pw  gitlab.com:you:pw ")]);
        assert_eq!(usual.registries.len(), PRESETS.len());
        let with =
            |name: &str| usual.registries.iter().any(|one| one.name == name && matches!(one.auth, Auth::Held(_)));
        assert!(with("docker.io") && with("registry.gitlab.com") && !with("quay.io"));
    }

    #[test]
    fn a_credential_is_in_no_mistake_and_no_notice() {
        for text in
            ["quay.io:me:canary:more", "quay.io:canary", "quay.io:me:canary quay.io:me:canary", "a_/b:me:canary"]
        {
            let told = mistakes(&[("AUTH_REGISTRIES", text)]);
            assert!(told.contains("AUTH_REGISTRIES: ") && !told.contains("canary"), "{told}");
        }
        let settings = settings(&[("AUTH_REGISTRIES", "quay.io:me:canary")]);
        let sources = sources(&[("AUTH_REGISTRIES", "quay.io:me:canary")]);
        assert!(!format!("{settings:?} {sources:?}").contains("canary"));
    }

    #[test]
    fn manifests_are_believed_by_tiers() {
        let of = |environment: &[(&str, &str)], tag: &str| {
            let settings = settings(environment);
            let tags = &settings.registries[0].tags;
            crate::cache::TagPolicy::new(tags, std::time::Duration::ZERO).unwrap().of(&tag.parse().unwrap()).fresh_for
        };
        let day = 86_400;
        let on = ("ENABLE_MANIFEST_CACHE", "true");
        for (tag, seconds) in [("stable-alpine", 600), ("1.2.3", 60 * day), ("latest", 3600)] {
            assert_eq!(of(&[on], tag).as_secs(), seconds, "{tag}");
        }
        assert_eq!(of(&[("ENABLE_MANIFEST_CACHE", "false")], "1.2.3").as_secs(), 0);
        assert_eq!(of(&[("MANIFEST_CACHE_DEFAULT_TIME", "9h")], "latest").as_secs(), 60, "it was not switched on");
        let own = [
            on,
            ("MANIFEST_CACHE_PRIMARY_REGEX", "latest|edge"),
            ("MANIFEST_CACHE_PRIMARY_TIME", "90"),
            ("MANIFEST_CACHE_DEFAULT_TIME", "200 5m"),
        ];
        for (tag, seconds) in [("latest", 90), ("edge-1", 90), ("not-latest", 300)] {
            assert_eq!(of(&own, tag).as_secs(), seconds, "{tag}");
        }
        let wrong =
            mistakes(&[on, ("MANIFEST_CACHE_SECONDARY_REGEX", "(?!x)"), ("MANIFEST_CACHE_PRIMARY_TIME", "soon")]);
        assert!(wrong.contains("MANIFEST_CACHE_SECONDARY_REGEX: "), "{wrong}");
        assert!(wrong.contains("MANIFEST_CACHE_PRIMARY_TIME: "), "{wrong}");
    }

    #[test]
    fn sizes_times_and_switches_are_those_of_nginx() {
        let settings = settings(&[
            ("CACHE_MAX_SIZE", "32g"),
            ("ALLOW_PUSH", "true"),
            ("DISABLE_IPV6", "true"),
            ("PROXY_CONNECT_TIMEOUT", "7"),
            ("PROXY_READ_TIMEOUT", "2m"),
            ("VERIFY_SSL", "true"),
        ]);
        assert_eq!(settings.cache.max_size, Some(Size(32 << 30)));
        assert!(settings.registries.iter().all(|registry| registry.push == Push::Allow));
        assert_eq!(settings.upstream.ip, Family::V4);
        assert_eq!(settings.upstream.connect_timeout, Period::seconds(7));
        assert_eq!(settings.upstream.idle_timeout, Period::seconds(120));
        assert!(settings.notices.is_empty());
        assert!(mistakes(&[("CACHE_MAX_SIZE", "much")]).starts_with("CACHE_MAX_SIZE: "));
    }

    #[test]
    fn what_has_no_meaning_is_named_and_what_is_unsafe_is_refused() {
        let told = settings(&[("SEND_TIMEOUT", "60s"), ("DEBUG", "false"), ("DEBUG_HUB", "true")]).notices;
        assert_eq!(told.len(), 2);
        assert!(told.iter().any(|text| text.starts_with("SEND_TIMEOUT ")), "{told:?}");
        for text in ["false", "no", "TRUE"] {
            let told = mistakes(&[("VERIFY_SSL", text)]);
            assert!(told.starts_with("VERIFY_SSL: ") && told.contains("ca_file"), "{told}");
        }
        assert!(mistakes(&[("CA_KEY_FILE", "/x")]).contains("ca.key"));
    }

    #[test]
    fn a_variable_of_our_own_lies_over_it_and_a_file_makes_it_nothing() {
        let both = [("CACHE_MAX_SIZE", "32g"), ("PULLTHROUGH_CACHE_MAX_SIZE", "1GiB")];
        assert_eq!(settings(&both).cache.max_size, Some(Size(1 << 30)));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.yaml");
        std::fs::write(&file, "log: {access: true}").unwrap();
        let with_file =
            ConfigSources { config: Some(file), ..sources(&[("REGISTRIES", "quay.io"), ("VERIFY_SSL", "false")]) };
        assert_eq!(load(&with_file).unwrap().registries.len(), PRESETS.len());
    }

    #[test]
    fn its_volumes_are_used_where_they_are_mounted() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("ca")).unwrap();
        let mounted = ConfigSources { volumes: Some(root.path().to_owned()), ..sources(&[]) };
        let found = load(&mounted).unwrap();
        assert_eq!(found.ca.dir, root.path().join("ca"));
        assert_eq!(found.cache.dir, std::path::Path::new("cache"));
        let mounted = ConfigSources { environment: sources(&[("PULLTHROUGH_CA_DIR", "mine")]).environment, ..mounted };
        assert_eq!(load(&mounted).unwrap().ca.dir, std::path::Path::new("mine"));
    }
}

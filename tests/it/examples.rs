//! What `examples/` shows is right: configurations pass `check`, manifests and rules say what they promise.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde::Deserialize;
use serde_yaml::Value;
use tempfile::TempDir;

/// A file of the repository.
fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn documents(name: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(&file(name)).map(|document| Value::deserialize(document).unwrap()).collect()
}

/// `check` of a configuration, in a folder that has the certificates that examples name.
fn check(text: &str) -> Output {
    let folder = TempDir::new().unwrap();
    let signed = rcgen::generate_simple_self_signed(["example".to_owned()]).unwrap();
    for name in ["example-ca.crt", "central-ca.crt"] {
        fs::write(folder.path().join(name), signed.cert.pem()).unwrap();
    }
    fs::write(folder.path().join("config.yaml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullthrough"));
    command.env_clear().current_dir(folder.path()).args(["check", "--config", "config.yaml"]).output().unwrap()
}

fn passes(name: &str, text: &str) {
    let output = check(text);
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

fn manifest(kind: &str) -> Value {
    let all = documents("examples/kubernetes/pullthrough.yaml");
    let mut found: Vec<_> = all.into_iter().filter(|document| document["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "one {kind}");
    found.remove(0)
}

#[test]
fn every_configuration_passes_check() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut names: Vec<_> = files.iter().filter(|file| file.extension().is_some_and(|end| end == "yaml")).collect();
    names.sort();
    assert!(names.len() >= 7, "{names:?}");
    for name in names {
        passes(&name.display().to_string(), &fs::read_to_string(name).unwrap());
    }
}

#[test]
fn the_file_of_all_keys_has_every_key() {
    // A mapping of each kind, with a key that none knows: `check` then lists those that it does know.
    let mappings = [
        ("", "zzz: 1"),
        ("listen", "listen: {zzz: 1}"),
        ("mirror", "mirror: {zzz: 1}"),
        ("mirror", "mirror: {tls: {zzz: 1}}"),
        ("mirror", "mirror: {names: {a.example: {zzz: 1}}}"),
        ("ca", "ca: {zzz: 1}"),
        ("cache", "cache: {zzz: 1}"),
        ("fill", "fill: {zzz: 1}"),
        ("registries", "registries: {r.example: {zzz: 1}}"),
        ("registries", "registries: {r.example: {endpoints: [{zzz: 1}]}}"),
        ("registries", "registries: {r.example: {auth: {zzz: 1}}}"),
        ("registries", "registries: {r.example: {tags: {zzz: 1}}}"),
        ("registries", "registries: {r.example: {tags: {rules: [{zzz: 1}]}}}"),
        ("registries", "registries: {r.example: {grants: {zzz: 1}}}"),
        ("clients", "clients: {zzz: 1}"),
        ("clients", "clients: {rules: [{zzz: 1}]}"),
        ("upstream", "upstream: {zzz: 1}"),
        ("upstream", "upstream: {proxy: [{url: 'http://p.example', zzz: 1}]}"),
        ("upstream", "upstream: {hosts: {h.example: {zzz: 1}}}"),
        ("tunnel", "tunnel: {zzz: 1}"),
        ("log", "log: {zzz: 1}"),
    ];
    let text = file("examples/pullthrough.yaml");
    let begins = |line: &str, name: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
    let section = |name: &str| -> Vec<&str> {
        let after = text.lines().skip_while(|line| !name.is_empty() && !begins(line, name));
        let ends = |line: &&str| line.starts_with(|c: char| c.is_ascii_alphabetic());
        match name {
            "" => after.filter(ends).collect(),
            _ => after.enumerate().take_while(|(at, line)| *at == 0 || !ends(line)).map(|(_, line)| line).collect(),
        }
    };
    let mut sections = std::collections::BTreeSet::new();
    for (name, mapping) in mappings {
        let said = String::from_utf8(check(mapping).stderr).unwrap();
        let lists = said.lines().find_map(|line| line.split_once("zzz: unknown key; expected one of "));
        let (_, known) = lists.unwrap_or_else(|| panic!("{mapping}: {said}"));
        let lines = section(name);
        for key in known.split(", ") {
            let is_there = |line: &&&str| {
                let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
                words.into_iter().any(|word| word.split_once(':').is_some_and(|(word, _)| word == key))
            };
            assert!(
                lines.iter().any(|line| is_there(&line)),
                "examples/pullthrough.yaml lacks {key} in {name}: {mapping}"
            );
            if name.is_empty() {
                sections.insert(key.to_owned());
            }
        }
        assert!(
            name.is_empty() || sections.remove(name) || mappings.iter().filter(|(one, _)| *one == name).count() > 1
        );
    }
    let other: Vec<_> = sections.iter().collect();
    assert_eq!(other, ["drain"], "a section whose keys are not looked at");
}

#[test]
fn the_packages_configuration_names_the_folders_that_the_unit_makes() {
    let text = file("packaging/config.yaml");
    passes("packaging/config.yaml", &text);
    let documents = documents("packaging/config.yaml");
    let unit = file("systemd/pullthrough.service");
    assert_eq!(documents[0]["cache"]["dir"], "/var/cache/pullthrough");
    assert_eq!(documents[0]["ca"]["dir"], "/var/lib/pullthrough/ca");
    for line in ["CacheDirectory=pullthrough", "StateDirectory=pullthrough"] {
        assert!(unit.lines().any(|said| said == line), "the unit has no {line}");
    }
    let over = unit.lines().find(|line| line.starts_with("Environment=PULLTHROUGH_"));
    assert_eq!(over, None, "commands outside the service do not see it");
}

#[test]
fn the_cluster_replaces_its_pod_before_a_second_one_opens_the_cache() {
    let deployment = manifest("Deployment");
    assert_eq!(deployment["spec"]["strategy"]["type"], "Recreate");
    assert_eq!(deployment["spec"]["replicas"], 1);
}

#[test]
fn the_cluster_probes_the_proxy_and_lets_it_drain() {
    let pod = &manifest("Deployment")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        assert_eq!(container[probe]["httpGet"]["path"], "/healthz", "{probe}");
        assert_eq!(container[probe]["httpGet"]["port"], "proxy", "{probe}");
    }
    assert_eq!(container["ports"][0]["name"], "proxy");
    assert_eq!(container["ports"][0]["containerPort"], 3128);
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() >= 60);
}

#[test]
fn what_stops_the_proxy_waits_longer_than_its_drain() {
    let enough = pullthrough::config::DRAIN.0 + Duration::from_secs(20);
    let said = |file_name: &str, key: &str, end: &[char]| -> Vec<Duration> {
        let text = file(file_name);
        let values = text.split(key).skip(1).map(|rest| rest.trim_start().split(end).next().unwrap().trim().to_owned());
        let parsed = |value: String| match value.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => humantime::parse_duration(&value).unwrap_or_else(|error| panic!("{file_name}: {value}: {error}")),
        };
        values.map(parsed).collect()
    };
    let table: [(&str, &str, &[char]); 6] = [
        ("systemd/pullthrough.service", "\nTimeoutStopSec=", &['\n']),
        ("examples/compose/compose.yaml", "stop_grace_period:", &['#', '\n']),
        ("examples/kubernetes/pullthrough.yaml", "terminationGracePeriodSeconds:", &['#', '\n']),
        ("Containerfile", "--stop-timeout", &[' ']),
        ("docs/migrate.md", "--stop-timeout", &[' ', '\n']),
        ("docs/operations.md", "--stop-timeout ", &['`', ' ', '\n']),
    ];
    for (name, key, end) in table {
        let waits = said(name, key, end);
        assert!(!waits.is_empty(), "{name} does not say {key}");
        assert!(waits.iter().all(|wait| *wait >= enough), "{name}: {waits:?} is less than {enough:?}");
    }
    let documents = documents("examples/pullthrough.yaml");
    assert_eq!(documents[0]["drain"], humantime::format_duration(pullthrough::config::DRAIN.0).to_string().as_str());
}

#[test]
fn the_cluster_runs_it_without_root_on_a_read_only_root() {
    let pod = &manifest("Deployment")["spec"]["template"]["spec"];
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["fsGroupChangePolicy"], "OnRootMismatch");
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["capabilities"]["drop"][0], "ALL");
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["enableServiceLinks"], false, "or the service's variables are refused at start");
}

#[test]
fn the_clusters_configuration_is_right_and_tunnels_nothing_private() {
    let config = manifest("ConfigMap")["data"]["config.yaml"].as_str().unwrap().to_owned();
    passes("the ConfigMap", &config);
    let config: Value = serde_yaml::from_str(&config).unwrap();
    assert_eq!(config["tunnel"]["default"], "deny");
    assert!(config["tunnel"]["allow"].is_null());
    let policy = manifest("NetworkPolicy");
    let outside = &policy["spec"]["egress"][1]["to"][0]["ipBlock"];
    let except: Vec<_> = outside["except"].as_sequence().unwrap().iter().map(|net| net.as_str().unwrap()).collect();
    for network in ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"] {
        assert!(except.contains(&network), "{network} is reachable");
    }
}

#[test]
fn compose_publishes_on_loopback_and_keeps_the_volumes_of_docker_registry_proxy() {
    let compose = documents("examples/compose/compose.yaml").remove(0);
    let service = &compose["services"]["pullthrough"];
    let ports = service["ports"].as_sequence().unwrap();
    assert!(ports.iter().all(|port| port.as_str().unwrap().starts_with("127.0.0.1:")), "{ports:?}");
    let volumes: Vec<_> = service["volumes"].as_sequence().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert_eq!(volumes, ["cache:/docker_mirror_cache", "ca:/ca"]);
    assert_eq!(service["read_only"], true);
}

/// The sources that name the metrics.
fn telemetry() -> String {
    ["metrics", "readings", "process", "registry"].map(|name| file(&format!("src/telemetry/{name}.rs"))).concat()
}

#[test]
fn operations_name_metrics_that_there_are() {
    let (telemetry, text) = (telemetry(), file("docs/operations.md"));
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    let named: Vec<&str> = words.filter_map(|word| word.strip_prefix("pullthrough_")).collect();
    assert!(named.len() >= 10, "{named:?}");
    for word in named {
        let name = word.strip_suffix("_total").or_else(|| word.strip_suffix("_info")).unwrap_or(word);
        assert!(telemetry.contains(&format!("\"{name}\"")), "no metric pullthrough_{word}");
    }
}

#[test]
fn alert_rules_ask_for_metrics_that_there_are() {
    let telemetry = telemetry();
    let rules = documents("examples/prometheus/alerts.yaml").remove(0);
    let rules = rules["groups"][0]["rules"].as_sequence().unwrap().clone();
    assert!(rules.len() >= 10);
    for rule in rules {
        let expression = rule["expr"].as_str().unwrap();
        assert!(rule["annotations"]["summary"].is_string(), "{expression}");
        let words = expression.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        for word in words.filter_map(|word| word.strip_prefix("pullthrough_")) {
            let name = word.strip_suffix("_total").unwrap_or(word);
            assert!(telemetry.contains(&format!("\"{name}\"")), "no metric pullthrough_{word}");
        }
    }
}

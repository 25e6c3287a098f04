//! A docker configuration: credentials go to the host that stands in their key, and errors tell none.

use serde_json::Value;

use super::Credential;
use super::docker::{DockerConfig, Lead};
use crate::fuzzing::naive;
use crate::oci::{Authority, Repository};

/// Who is asked for.
const SERVERS: [&str; 5] = ["quay.io", "docker.io", "registry-1.docker.io", "quay.io:5000", "[2001:db8::1]:443"];
const REPOSITORIES: [&str; 3] = ["a", "team/app", "team/sub/app"];

/// What is found for a registry stands under a key that names it, or is asked of a helper that the file names.
pub fn docker_config(data: &[u8]) {
    let config = match DockerConfig::parse(data) {
        Ok(config) => config,
        Err(problem) => return told_nothing(data, &problem),
    };
    let Some(value) = naive::json(data) else { return };
    for server in SERVERS {
        let authority = Authority::parse(server, 443).unwrap();
        for repository in REPOSITORIES {
            let repository: Repository = repository.parse().unwrap();
            for lead in config.leads(&authority, &repository) {
                check(&value, &authority, &lead);
            }
        }
    }
}

fn check(value: &Value, server: &Authority, lead: &Lead) {
    let short = server.short(443).to_string();
    let host = if short.ends_with("docker.io") { "docker.io" } else { short.trim_end_matches(":443") };
    match lead {
        Lead::Credential(credential) => {
            let secret = match credential {
                Credential::Password { password, .. } => password,
                Credential::Identity { token } => token,
            };
            let entries = value["auths"].as_object().expect("entries");
            let named = entries.iter().any(|(key, _)| key.to_ascii_lowercase().contains(host));
            assert!(named, "{server} is under no key");
            // What is printed for any secret is no secret.
            let printed = format!("{credential:?}");
            assert!(
                !printed.contains(secret.expose())
                    || "Identity { token: Secret }".contains(secret.expose())
                    || secret.expose().len() < 12
            );
        }
        Lead::Helper { name, server: asked } => {
            let helpers = value["credHelpers"].as_object().into_iter().flatten();
            let by_host = helpers.filter(|(key, _)| key.to_ascii_lowercase().contains(host)).map(|(_, helper)| helper);
            let named: Vec<&Value> = by_host.chain(value.get("credsStore")).collect();
            assert!(named.iter().any(|helper| helper.as_str() == Some(name)), "{name} is no helper for {server}");
            assert!(asked.contains(host), "{asked}");
        }
    }
}

/// An error names a place or a key, and no value.
fn told_nothing(data: &[u8], problem: &str) {
    let of_place = problem.starts_with("line ") && problem.ends_with(" is not what docker writes");
    let key =
        problem.strip_prefix("the auth of ").and_then(|rest| rest.strip_suffix(" is not base64 of user:password"));
    assert!(of_place || key.is_some(), "{problem}");
    if let Some(key) = key {
        let Some(value) = naive::json(data) else { return };
        let entries = value["auths"].as_object().expect("an entry");
        assert!(entries.keys().any(|name| name.escape_debug().to_string() == key), "{problem}");
    }
}

//! Checks held credentials: each entry needs one source, and its file or program must exist.

use crate::config::base::Base;
use crate::config::mistakes::report::Report;
use crate::config::tree::KeyPath;
use crate::oci::HostPattern;
use crate::upstream::{CredentialConfig, Endpoint, EndpointConfig, Held};

/// Checks the entries below `path`; their files become relative to the folder of the configuration.
pub(crate) fn judge(held: &mut Held, base: &Base, path: &KeyPath, report: &mut Report<'_>) {
    if held.0.is_empty() && report.is_clean(path) {
        report.say(path, "contains no credentials; expected at least one, or client or anonymous");
    }
    let one = held.0.len() == 1;
    for (index, entry) in held.0.iter_mut().enumerate() {
        // A single entry may be written without a list; its path is then the key itself.
        let path = if one { path.clone() } else { path.index(index) };
        judge_entry(entry, base, &path, report);
    }
}

fn judge_entry(entry: &mut CredentialConfig, base: &Base, path: &KeyPath, report: &mut Report<'_>) {
    for file in [&mut entry.password_file, &mut entry.docker_config] {
        *file = file.take().map(|file| base.secret(&file));
    }
    entry.home.clone_from(&base.home);
    if let Some((key, problem)) = entry.problem() {
        // A key that was cut out because of another mistake is not missing.
        if report.is_clean(path) {
            report.say(&if key.is_empty() { path.clone() } else { path.key(key) }, problem);
        }
        return;
    }
    if let Err((key, problem)) = entry.probe() {
        report.say(&path.key(key), problem);
    }
}

/// Checks that held credentials are not sent in clear text: they go to the registry's own host and to authoritative
/// endpoints.
pub(crate) fn judge_urls(name: &str, endpoints: &[EndpointConfig], path: &KeyPath, report: &mut Report<'_>) {
    let own: Option<HostPattern> = name.parse().ok();
    for config in endpoints {
        let Ok(endpoint) = Endpoint::parse(config) else { continue };
        let at_home = own.as_ref().is_some_and(|own| own.matches_host(&endpoint.authority().host));
        if endpoint.authoritative() || at_home {
            judge_url(&config.url, path, report);
        }
    }
}

/// Checks that the URL does not use http.
pub(crate) fn judge_url(url: &str, path: &KeyPath, report: &mut Report<'_>) {
    if url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://")) && report.is_clean(path) {
        report.say(path, format!("would be sent in clear text to {url}; expected https there, or no credentials"));
    }
}

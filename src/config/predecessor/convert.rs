//! Converts the predecessor's names, sizes and times to our own.

use crate::config::presets::PRESETS;

/// The name of the registry: the predecessor named Docker Hub by the host of its registry or of its token service.
pub(super) fn canonical(host: &str) -> String {
    let host = host.trim().to_ascii_lowercase();
    let realm_of =
        |realm: &&str| realm.strip_prefix("https://").and_then(|rest| rest.split('/').next()) == Some(&*host);
    let known = PRESETS.iter().find(|preset| {
        preset.aliases.contains(&&*host) || preset.token_hosts.contains(&&*host) || preset.realms.iter().any(realm_of)
    });
    known.map_or(host.clone(), |preset| preset.name.to_owned())
}

/// nginx's sizes are powers of 1,024; without a letter they are bytes.
pub(super) fn size(text: &str) -> String {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    match &text[digits.len()..] {
        "k" | "K" => format!("{digits}KiB"),
        "m" | "M" => format!("{digits}MiB"),
        "g" | "G" => format!("{digits}GiB"),
        _ => text.to_owned(),
    }
}

/// nginx's times without a letter are seconds; statuses may precede a time of `proxy_cache_valid`.
pub(super) fn time(text: &str) -> String {
    let text = text.split_whitespace().last().unwrap_or(text);
    if text.bytes().all(|byte| byte.is_ascii_digit()) { format!("{text}s") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sizes_and_times_are_put_into_our_words() {
        for (theirs, ours) in [
            ("auth.docker.io", "docker.io"),
            ("gitlab.com", "registry.gitlab.com"),
            (" Quay.io ", "quay.io"),
            ("x.example", "x.example"),
        ] {
            assert_eq!(canonical(theirs), ours);
        }
        for (theirs, ours) in [("32g", "32GiB"), ("512M", "512MiB"), ("8k", "8KiB"), ("4096", "4096"), ("5x", "5x")] {
            assert_eq!(size(theirs), ours);
        }
        for (theirs, ours) in [("10m", "10m"), ("90", "90s"), ("200 302 1h", "1h"), ("60d", "60d")] {
            assert_eq!(time(theirs), ours);
        }
    }
}

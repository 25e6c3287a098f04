//! Tells whether this environment's NO_PROXY takes a registry away from the proxy, by the rules of Go's clients.
//!
//! Reading: golang.org/x/net/http/httpproxy.

use super::report::Problem;
use crate::oci::{Authority, Host};

/// What is wrong where the proxy of this environment is not used for `to`.
pub(super) fn found(to: &Authority) -> Option<Problem> {
    let text =
        ["NO_PROXY", "no_proxy"].iter().find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()))?;
    let entry = text.split(',').map(str::trim).find(|entry| names(entry, to))?;
    let words =
        format!("NO_PROXY names {} (by {entry}): programs with this environment go past the proxy", to.short(443));
    Some(Problem::new(
        words,
        "take it out of NO_PROXY, also in the environment of the daemon, if its pulls should be cached",
    ))
}

fn names(entry: &str, to: &Authority) -> bool {
    let entry = entry.to_ascii_lowercase();
    if entry == "*" {
        return true;
    }
    let (entry, is_of_port) = match entry.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') => (name.to_owned(), port.parse() == Ok(to.port)),
        _ => (entry, true),
    };
    is_of_port
        && match &to.host {
            Host::Address(address) => {
                let network = entry.parse::<ipnet::IpNet>().is_ok_and(|network| network.contains(address));
                network || entry.parse() == Ok(*address)
            }
            Host::Name(name) => {
                let (name, domain) = (name.to_string().to_ascii_lowercase(), entry.trim_start_matches('*'));
                let below = |domain: &str| name.ends_with(&format!(".{domain}"));
                match domain.strip_prefix('.') {
                    Some(domain) => !domain.is_empty() && below(domain),
                    None => !domain.is_empty() && (name == domain || below(domain)),
                }
            }
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_what_go_says_it_does() {
        let table = [
            ("*", "quay.io", true),
            ("quay.io", "quay.io", true),
            ("Quay.IO", "cdn.quay.io", true),
            (".quay.io", "quay.io", false),
            (".quay.io", "cdn.quay.io", true),
            ("*.quay.io", "cdn.quay.io", true),
            ("ay.io", "quay.io", false),
            ("quay.io:443", "quay.io", true),
            ("quay.io:5000", "quay.io", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.0.0.0/8", "quay.io", false),
            ("::1", "[::1]", true),
            ("", "quay.io", false),
            (".", "quay.io", false),
        ];
        for (entry, host, expected) in table {
            assert_eq!(names(entry, &Authority::parse(host, 443).unwrap()), expected, "{entry} {host}");
        }
    }
}

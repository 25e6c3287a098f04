//! Checks numbers that make no sense and values that contradict each other.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::endpoints::KnownHosts;
use super::{clients, credentials, mirror, parents, registries};
use crate::config::base::Base;
use crate::config::file::File;
use crate::config::mistakes::phrase::repeated;
use crate::config::mistakes::report::Report;
use crate::config::tree::KeyPath;
use crate::host::Period;
use crate::proxy::{Auth, RegistrySettings};
use crate::upstream;

/// The CA renews a leaf well before its end, so a lifetime of minutes makes no sense; clients refuse one above Apple's
/// limit for private roots.
const LEAF_LIFETIME: RangeInclusive<Period> = Period::seconds(3600)..=Period::seconds(825 * 86_400);

/// A lower rate would starve a fill until it counts as stalled.
const SLOWEST: u64 = 64 << 10;

/// Checks the sections, makes the files that they name relative to `base`, and returns the registries.
pub(crate) fn check(sections: &mut File, base: &Base, report: &mut Report<'_>) -> Vec<RegistrySettings> {
    listeners(sections, report);
    sizes(sections, report);
    numbers(sections, report);
    bandwidth(sections, report);
    times(sections, report);
    lists(sections, report);
    clients::judge(&mut sections.clients, base, report);
    let mut hosts = KnownHosts::default();
    for (name, body) in sections.registries.iter_mut().flatten() {
        let Some(body) = body else { continue };
        let path = KeyPath::of(["registries"]).key(name);
        if let Auth::Held(held) = &mut body.auth {
            credentials::judge(held, base, &path.key("auth"), report);
            credentials::judge_urls(name, &body.endpoints, &path.key("auth"), report);
        }
        for (index, endpoint) in body.endpoints.iter_mut().enumerate() {
            let path = path.key("endpoints").index(index);
            hosts.endpoint(endpoint, base, &path, report);
            if let Some(held) = &mut endpoint.auth {
                credentials::judge(held, base, &path.key("auth"), report);
                credentials::judge_url(&endpoint.url, &path.key("auth"), report);
            }
        }
    }
    for (key, host) in &mut sections.upstream.hosts {
        hosts.host(key, host, base, &KeyPath::of(["upstream", "hosts"]).key(key), report);
    }
    parents::judge(&mut sections.upstream.proxy, base, report);
    let settled = registries::settle(sections.registries.take(), report);
    clients::judge_registries(&sections.clients.rules, &settled, report);
    mirror::judge(&mut sections.mirror, &settled, base, report);
    if sections.listen.mirror.is_some() {
        mirror::note_no_default(&sections.mirror, &settled, report);
    }
    settled
}

fn listeners(sections: &File, report: &mut Report<'_>) {
    let listen = &sections.listen;
    let mut listeners: Vec<(&str, SocketAddr)> =
        listen.doors().into_iter().map(|(door, _, address)| (door.label(), address)).collect();
    listeners.push(("admin", listen.admin));
    for (at, (later, second)) in listeners.iter().enumerate() {
        for (earlier, first) in &listeners[..at] {
            clash((*earlier, *first), (*later, *second), report);
        }
    }
    transparent(sections, report);
    for (index, balancer) in sections.listen.proxy_protocol.iter().enumerate() {
        if balancer.0.prefix_len() == 0 {
            let path = KeyPath::of(["listen", "proxy_protocol"]).index(index);
            report.notice(
                &path,
                "every peer chooses the address that it is judged by; name the balancers' own addresses",
            );
        }
    }
    if sections.ca.dir == sections.cache.dir {
        let folder = repeated(&sections.ca.dir.display().to_string());
        report.say_of_one([
            (
                KeyPath::of(["ca", "dir"]),
                format!("found {folder}; same directory as cache.dir; expected a separate directory"),
            ),
            (
                KeyPath::of(["cache", "dir"]),
                format!("found {folder}; same directory as ca.dir; expected a separate directory"),
            ),
        ]);
    }
}

/// Reports two listeners at one address.
fn clash((earlier, first): (&str, SocketAddr), (later, second): (&str, SocketAddr), report: &mut Report<'_>) {
    let overlap = first.ip() == second.ip() || first.ip().is_unspecified() || second.ip().is_unspecified();
    if first.port() != 0 && first.port() == second.port() && overlap {
        let text = |found: SocketAddr, other: &str, its: SocketAddr| {
            format!("found {found}; same address as listen.{other} ({its}); expected a different port")
        };
        report.say_of_one([
            (KeyPath::of(["listen", later]), text(second, earlier, first)),
            (KeyPath::of(["listen", earlier]), text(first, later, second)),
        ]);
    }
}

/// Checks what does not go together with `listen.transparent`.
fn transparent(sections: &File, report: &mut Report<'_>) {
    if sections.listen.transparent.is_none() {
        return;
    }
    let path = KeyPath::of(["listen", "transparent"]);
    if sections.clients.htpasswd.is_some() {
        report.say(
            &path,
            "clients of this listener cannot be asked for a password, and clients.htpasswd is set; expected only one of \
             the two (networks: clients.allow)",
        );
    }
    let (upstream, none) = (&sections.upstream, upstream::Config::default());
    if upstream.resolvers == none.resolvers && upstream.proxy == none.proxy {
        report.notice(
            &path,
            "the system's resolver is asked for the names of registries; if DNS is overridden for this machine too, set \
             upstream.resolvers to servers that know the real addresses",
        );
    }
}

fn sizes(sections: &File, report: &mut Report<'_>) {
    if sections.cache.max_size.is_some_and(|size| size.0 == 0) {
        report.say(&KeyPath::of(["cache", "max_size"]), "found 0; expected space for blobs, such as 100GiB");
    }
    if sections.cache.min_free.0 >= 100 {
        let found = format!("found {}; leaves no space for blobs; expected less than 100%", sections.cache.min_free);
        report.say(&KeyPath::of(["cache", "min_free"]), found);
    }
}

fn numbers(sections: &File, report: &mut Report<'_>) {
    for (path, number) in [
        (["fill", "lanes"], usize::from(sections.fill.lanes)),
        (["upstream", "downloads_per_host"], usize::from(sections.upstream.downloads_per_host)),
        (["clients", "connections"], sections.clients.connections.unwrap_or(1)),
        (["clients", "connections_each"], sections.clients.connections_each.unwrap_or(1)),
        (["clients", "streams"], sections.clients.streams.unwrap_or(1)),
        (["clients", "streams_each"], sections.clients.streams_each.unwrap_or(1)),
    ] {
        if number == 0 {
            report.say(&KeyPath::of(path), "found 0; expected at least 1");
        }
    }
}

fn bandwidth(sections: &File, report: &mut Report<'_>) {
    if let Some(rate) = sections.upstream.bandwidth.filter(|rate| rate.0 < SLOWEST) {
        let path = KeyPath::of(["upstream", "bandwidth"]);
        let text = "less than 64KiB a second, at which no pull would finish; expected more, such as 50MiB";
        report.say(&path, format!("found {rate}; {text}"));
    }
}

fn times(sections: &File, report: &mut Report<'_>) {
    let upstream = &sections.upstream;
    for (path, period) in [
        (["upstream", "connect_timeout"], upstream.connect_timeout),
        (["upstream", "first_byte_timeout"], upstream.first_byte_timeout),
        (["upstream", "idle_timeout"], upstream.idle_timeout),
    ] {
        if period.0.is_zero() {
            report.say(&KeyPath::of(path), "found 0s; expected more than 0s");
        }
    }
    let leaf_lifetime = sections.ca.leaf_lifetime;
    if !LEAF_LIFETIME.contains(&leaf_lifetime) {
        report.say(&KeyPath::of(["ca", "leaf_lifetime"]), format!("found {leaf_lifetime}; expected 1h to 825d"));
    }
}

fn lists(sections: &File, report: &mut Report<'_>) {
    let path = KeyPath::of(["clients", "allow"]);
    if sections.clients.allow.is_empty() && report.is_clean(&path) {
        report.say(
            &path,
            "allows no client; expected networks such as 10.0.0.0/8 (without this key, private networks are allowed)",
        );
    }
    for (index, port) in sections.tunnel.ports.iter().enumerate() {
        if *port == 0 {
            report.say(&KeyPath::of(["tunnel", "ports"]).index(index), "found 0; expected a port from 1 to 65535");
        }
    }
}

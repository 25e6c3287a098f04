//! What the proxy judges and writes down is what a registry acts on, however a path is spelt.
//!
//! A proxy that reads a path in one way while the registry behind it reads it in another lets rules, `push: deny` and
//! the audit log be passed. Each request comes from an address of its own, by which its line in the log is found, and
//! names a repository of its own, by which it is found in what the upstream logged.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::{Value, json};

use super::acting::{Acted, Upstream};
use super::target::{CLOSED, Case, Form, marked};
use crate::chance::Chance;
use crate::lab::{Lab, eventually};
use crate::proxy::Proxy;
use crate::raw::{Ending, Raw};

/// How many requests are put to each upstream.
const CASES: usize = 3_000;
/// How many of them must have been acted on, so that something was compared.
const COMPARED: usize = 300;
const ACCEPT: &str =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, */*";

/// A line of the proxy's log: what it took a request for.
#[derive(Clone, Debug)]
struct Judged {
    method: String,
    kind: String,
    repository: String,
    reference: String,
}

#[test]
fn what_nginx_acts_on_is_what_was_judged() {
    compare(Upstream::nginx, 11, false);
}

#[test]
fn what_a_server_on_gos_mux_acts_on_is_what_was_judged() {
    compare(Upstream::go, 12, true);
}

#[test]
fn what_distribution_acts_on_is_what_was_judged() {
    compare(Upstream::distribution, 13, false);
}

fn compare(start: fn(&Lab) -> Upstream, seed: u64, pushes: bool) {
    let lab = Lab::new();
    let upstream = start(&lab);
    let proxy = Proxy::with(&lab, |config| {
        let endpoint = json!({
            "url": format!("https://{}", upstream.host), "address": upstream.address, "ca_file": lab.ca_file(),
        });
        let push = if pushes { "allow" } else { "deny" };
        config["registries"] = json!({ upstream.host: { "endpoints": [endpoint], "push": push } });
        config["upstream"] = json!({ "resolvers": ["127.0.10.53"] }); // where nobody listens
        config["tunnel"] = json!({ "default": "deny" });
        config["log"] = json!({ "format": "json" });
        let closed = format!("{CLOSED}*");
        config["clients"] = json!({ "rules": [{ "name": "closed", "effect": "deny", "repositories": [closed] }] });
    });
    let mut chance = Chance::new(seed);
    let cases: Vec<Case> = (0..CASES).map(|number| Case::of(number, &mut chance)).collect();
    let raw = Raw::new(proxy.listen, &proxy.ca_file());
    let ends = put_all(&raw, upstream.host, &cases);

    let lines = || judged(&proxy.log());
    eventually("each request that was acted on has its line in the log", Duration::from_secs(60), || {
        let judged = lines();
        of_cases(&upstream.acted()).keys().all(|number| judged.contains_key(number))
    });
    let (judged, acted) = (lines(), of_cases(&upstream.acted()));
    let differences: Vec<String> = acted
        .iter()
        .flat_map(|(number, acted)| acted.iter().map(move |acted| (*number, acted)))
        .filter_map(|(number, acted)| {
            let case = &cases[number];
            let why = difference(case, judged.get(&number), acted, pushes)?;
            let target = String::from_utf8_lossy(&case.target);
            Some(format!(
                "{why}: {:?} {} {target:?}\n  judged {:?}\n  {acted:?}",
                case.form,
                case.method,
                judged.get(&number)
            ))
        })
        .collect();
    println!("{}: {} of {CASES} requests were acted on; the proxy answered {ends:?}", upstream.host, acted.len());
    assert!(
        differences.is_empty(),
        "{} differences, of which these are the first:\n{}",
        differences.len(),
        differences.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n")
    );
    assert!(acted.len() >= COMPARED, "only {} requests were acted on: nothing much was compared", acted.len());
}

/// Puts each case, some at a time; how many were answered how.
fn put_all(raw: &Raw, host: &str, cases: &[Case]) -> BTreeMap<String, usize> {
    let numbered: Vec<(usize, &Case)> = cases.iter().enumerate().collect();
    let ends = std::thread::scope(|scope| {
        let parts = numbered.chunks(CASES.div_ceil(4));
        let threads: Vec<_> = parts
            .map(|part| {
                scope.spawn(|| part.iter().map(|(number, case)| put(raw, host, *number, case)).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let mut counts = BTreeMap::new();
    for end in ends {
        *counts.entry(end).or_default() += 1;
    }
    counts
}

/// The status, or how the connection ended.
fn put(raw: &Raw, host: &str, number: usize, case: &Case) -> String {
    let address = Some(IpAddr::from(Ipv4Addr::new(127, 70, (number >> 8) as u8, number as u8)));
    let authority = format!("{host}:443");
    let ended = || -> io::Result<String> {
        Ok(match case.form {
            Form::Outside => {
                let said = raw.outside(address, &request(case, &format!("http://{host}:443"), host))?;
                String::from_utf8_lossy(&said).split(' ').nth(1).unwrap_or("closed").to_owned()
            }
            Form::Origin => raw.tunnel(address, &authority, false)?.ask(&request(case, "", host))?.status.to_string(),
            Form::Absolute => {
                let request = request(case, &format!("https://{host}"), host);
                raw.tunnel(address, &authority, false)?.ask(&request)?.status.to_string()
            }
            Form::H2 => {
                let fields: [(&[u8], &[u8]); 5] = [
                    (b":method", case.method.as_bytes()),
                    (b":scheme", b"https"),
                    (b":authority", host.as_bytes()),
                    (b":path", &case.target),
                    (b"accept", ACCEPT.as_bytes()),
                ];
                match raw.tunnel(address, &authority, true)?.ask_h2(&fields)? {
                    Ending::Answered => "by HTTP/2",
                    Ending::Reset => "reset",
                    Ending::Gone => "closed",
                }
                .to_owned()
            }
        })
    };
    ended().unwrap_or_else(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "closed".to_owned()
        }
        _ => panic!("{case:?}: {error}"),
    })
}

fn request(case: &Case, prefix: &str, host: &str) -> Vec<u8> {
    let length = if matches!(case.method, "GET" | "HEAD") { "" } else { "content-length: 0\r\n" };
    let headers = format!(" HTTP/1.1\r\nhost: {host}\r\naccept: {ACCEPT}\r\n{length}connection: close\r\n\r\n");
    [case.method.as_bytes(), b" ", prefix.as_bytes(), &case.target, headers.as_bytes()].concat()
}

/// The lines of the proxy's log about requests, by the number that is in the client's address.
fn judged(log: &str) -> HashMap<usize, Judged> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines = lines.filter(|line| line["message"] == "access" && line["method"] != "CONNECT");
    lines
        .filter_map(|line| {
            let address: Ipv4Addr = line["client"].as_str()?.parse().ok()?;
            let [127, 70, high, low] = address.octets() else { return None };
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            let judged = Judged {
                method: text("method"),
                kind: text("kind"),
                repository: text("repository"),
                reference: text("reference"),
            };
            Some((usize::from(high) << 8 | usize::from(low), judged))
        })
        .collect()
}

/// What was acted on, by the number that is in the target. What has none is a ping of the proxy's own, or what stood before
/// a `#`: it must name nothing.
fn of_cases(acted: &[Acted]) -> BTreeMap<usize, Vec<Acted>> {
    let mut by_case: BTreeMap<usize, Vec<Acted>> = BTreeMap::new();
    for acted in acted {
        match marked(&acted.raw) {
            Some(number) => by_case.entry(number).or_default().push(acted.clone()),
            None => assert!(acted.name.is_empty(), "nobody asked for that: {acted:?}"),
        }
    }
    by_case
}

/// Why what was done is not what was judged, if it is not.
fn difference(case: &Case, judged: Option<&Judged>, acted: &Acted, pushes: bool) -> Option<&'static str> {
    let reads = |method: &str| matches!(method, "GET" | "HEAD" | "OPTIONS");
    if case.form == Form::Outside {
        return Some("a registry was asked in plain text");
    }
    if acted.name.starts_with(CLOSED) || acted.from.iter().any(|from| from.starts_with(CLOSED)) {
        return Some("a rule was passed");
    }
    if !pushes && !reads(&acted.method) && !acted.name.is_empty() {
        return Some("a push was passed");
    }
    let Some(judged) = judged else { return Some("something was done that the log does not tell") };
    if acted.method != judged.method && !(reads(&acted.method) && reads(&judged.method)) {
        return Some("another method");
    }
    if acted.name != judged.repository {
        return Some("another repository");
    }
    let noun = match acted.noun.as_str() {
        "manifests" => "manifest",
        "blobs" => "blob",
        "uploads" => "upload",
        same => same, // and nothing where the program does not tell
    };
    if !noun.is_empty() && noun != judged.kind {
        return Some("another kind of thing");
    }
    let refers = matches!(judged.kind.as_str(), "manifest" | "blob" | "referrers") && !acted.reference.is_empty();
    // What a tag points to is the registry's own word.
    let follows = judged.kind == "manifest" && !judged.reference.contains(':') && acted.reference.contains(':');
    (refers && !follows && acted.reference != judged.reference).then_some("another reference")
}

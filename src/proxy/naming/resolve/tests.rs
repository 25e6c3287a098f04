//! Tests every kind of name, in the contract's order, and what no name leads to.

use super::*;
use crate::proxy::RegistrySettings;
use crate::proxy::naming::config::MirrorConfig;
use crate::proxy::registry::config::{Prefetch, Push};

fn registry(name: &str, hosts: &[&str]) -> Arc<Registry> {
    let settings = RegistrySettings {
        name: name.to_owned(),
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        endpoints: Vec::new(),
        token_hosts: vec!["auth.docker.io".parse().unwrap()],
        named: false,
        realms: Vec::new(),
        auth: Default::default(),
        push: Push::Deny,
        prefetch: Prefetch::default(),
        tags: Default::default(),
        grants: Default::default(),
    };
    Arc::new(Registry::new(&settings).unwrap())
}

fn registries() -> Vec<Arc<Registry>> {
    vec![
        registry("docker.io", &["docker.io", "index.docker.io", "registry-1.docker.io"]),
        registry("quay.io", &["quay.io"]),
        registry("r.example.com:5000", &["r.example.com:5000"]),
        registry("plain", &["plain"]),
        registry("*.pkg.dev", &["*.pkg.dev"]),
    ]
}

const NAMES: &str = "
names:
  docker.example.org: docker.io
  quay.example.org: quay.io
  quay.example.org:8443: docker.io
  part.example.org: r.example.com:5000/team
  m.example.org/team: r.example.com:5000/other
  m.example.org/team/deep: quay.io
  m.example.org/app: quay.io/org/app
  all.example.org: [docker.io, {registry: quay.io, repositories: [org/*]}, r.example.com:5000/third]
  bound.example.org: {registry: quay.io, repositories: [org/*]}
  /hub: docker.io/library
  /hub/deep: docker.io
  /q: quay.io
  /team: docker.io
";

fn names(text: &str) -> MirrorNames {
    let config: MirrorConfig = serde_yaml::from_str(text).unwrap();
    MirrorNames::new(&config, &registries()).unwrap()
}

/// The targets as `host path`, or why there are none.
fn resolved_by(names: &MirrorNames, host: &str, target: &str) -> Result<Vec<String>, Unnamed> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (host, query) = (Authority::parse(host, 443).unwrap(), Query::parse(query).unwrap());
    let resolved = names.resolve(&registries(), AskedName { host: &host, path, query: &query })?;
    assert!(!resolved.targets.is_empty());
    Ok(resolved.targets.iter().map(|target| format!("{} {}", target.authority.short(443), target.route)).collect())
}

fn resolved(host: &str, target: &str) -> Result<Vec<String>, Unnamed> {
    resolved_by(&names(NAMES), host, target)
}

const TAG: &str = "manifests/1";

#[test]
fn every_kind_of_name_leads_to_its_registry_in_the_contracts_order() {
    let blob = format!("blobs/sha256:{}", "0".repeat(64));
    for rest in [TAG, &blob, "tags/list", "blobs/uploads/", "blobs/uploads/x-1"] {
        let table = [
            // `ns`, before anything else
            ("any.example.org", "library/a/R?ns=docker.io", "docker.io library/a/R"),
            ("any.example.org", "a/R?ns=docker.io", "docker.io library/a/R"),
            ("any.example.org", "docker.io/library/a/R?ns=docker.io", "docker.io library/a/R"),
            ("any.example.org", "docker.io/a/R?ns=docker.io", "docker.io library/a/R"),
            ("any.example.org", "org/a/R?ns=quay.io", "quay.io org/a/R"),
            ("any.example.org", "a/R?ns=quay.io", "quay.io a/R"),
            ("any.example.org", "org/a/R?n=1&ns=QUAY.io", "quay.io org/a/R"),
            ("any.example.org", "team/a/R?ns=r.example.com:5000", "r.example.com:5000 team/a/R"),
            ("any.example.org", "r.example.com:5000/team/a/R?ns=r.example.com:5000", "r.example.com:5000 team/a/R"),
            ("any.example.org", "team/a/R?ns=r.example.com%3A5000", "r.example.com:5000 team/a/R"),
            ("any.example.org", "p/a/R?ns=us-docker.pkg.dev", "us-docker.pkg.dev p/a/R"),
            ("any.example.org", "quay.io/org/a/R?ns=docker.io", "docker.io quay.io/org/a/R"),
            ("docker.example.org", "org/a/R?ns=quay.io", "quay.io org/a/R"),
            ("m.example.org", "team/a/R?ns=quay.io", "quay.io team/a/R"),
            ("any.example.org", "hub/a/R?ns=quay.io", "quay.io hub/a/R"),
            ("quay.io", "org/a/R?ns=quay.io", "quay.io org/a/R"),
            // the host
            ("docker.example.org", "org/a/R", "docker.io org/a/R"),
            ("docker.example.org:5000", "a/R", "docker.io library/a/R"),
            ("DOCKER.example.org", "a/R", "docker.io library/a/R"),
            ("quay.example.org", "a/R", "quay.io a/R"),
            ("quay.example.org:8443", "a/R", "docker.io library/a/R"),
            ("quay.example.org:9000", "a/R", "quay.io a/R"),
            ("docker.example.org", "quay.io/org/a/R", "docker.io quay.io/org/a/R"),
            ("docker.example.org", "hub/a/R", "docker.io hub/a/R"),
            ("part.example.org", "a/R", "r.example.com:5000 team/a/R"),
            ("part.example.org", "x/a/R", "r.example.com:5000 team/x/a/R"),
            ("bound.example.org", "org/a/R", "quay.io org/a/R"),
            // a host with a path, the longest first
            ("m.example.org", "team/a/R", "r.example.com:5000 other/a/R"),
            ("m.example.org", "team/deep/a/R", "quay.io a/R"),
            ("m.example.org", "app/R", "quay.io org/app/R"),
            ("m.example.org", "app/x/R", "quay.io org/app/x/R"),
            ("m.example.org", "teams/a/R", "docker.io teams/a/R"),
            ("m.example.org", "hub/a/R", "docker.io library/a/R"),
            ("m.example.org", "quay.io/team/a/R", "quay.io team/a/R"),
            // a registry's host before the repository
            ("any.example.org", "quay.io/org/a/R", "quay.io org/a/R"),
            ("any.example.org", "docker.io/a/R", "docker.io library/a/R"),
            ("any.example.org", "docker.io/library/a/R", "docker.io library/a/R"),
            ("any.example.org", "r.example.com:5000/team/a/R", "r.example.com:5000 team/a/R"),
            ("any.example.org", "us-docker.pkg.dev/p/a/R", "us-docker.pkg.dev p/a/R"),
            ("10.0.0.5:5000", "quay.io/org/a/R", "quay.io org/a/R"),
            ("localhost:5000", "quay.io/org/a/R", "quay.io org/a/R"),
            ("r.example.com:5001", "quay.io/org/a/R", "quay.io org/a/R"),
            // a path on every host, the longest first
            ("any.example.org", "hub/a/R", "docker.io library/a/R"),
            ("any.example.org", "hub/deep/org/a/R", "docker.io org/a/R"),
            ("any.example.org", "q/org/a/R", "quay.io org/a/R"),
            ("any.example.org", "team/a/R", "docker.io library/a/R"),
            // the default
            ("any.example.org", "a/R", "docker.io library/a/R"),
            ("any.example.org", "org/a/R", "docker.io org/a/R"),
            ("any.example.org", "org/a/b/R", "docker.io org/a/b/R"),
            ("any.example.org", "hubs/a/R", "docker.io hubs/a/R"),
            ("any.example.org", "plain/a/R", "docker.io plain/a/R"),
            ("any.example.org", "my.app/R", "docker.io library/my.app/R"),
            // a name alone is no repository
            ("any.example.org", "q/R", "docker.io library/q/R"),
        ];
        for (host, asked, expected) in table {
            let (asked, expected) = (asked.replace('R', rest), expected.replace('R', rest).replace(' ', " /v2/"));
            assert_eq!(resolved(host, &format!("/v2/{asked}")), Ok(vec![expected]), "{host} {asked}");
        }
    }
}

#[test]
fn what_is_no_configured_registry_leads_nowhere() {
    let registry = |name: &str| Unnamed::Registry(name.to_owned());
    let host = |name: &str| Unnamed::Host(Authority::parse(name, 443).unwrap());
    let table = [
        ("any.example.org", "org/a/manifests/1?ns=ghcr.io", registry("ghcr.io")),
        ("any.example.org", "org/a/manifests/1?ns=127.0.0.1:5000", registry("127.0.0.1:5000")),
        ("any.example.org", "org/a/manifests/1?ns=127.1", registry("127.0.0.1")),
        ("any.example.org", "org/a/manifests/1?ns=169.254.169.254", registry("169.254.169.254")),
        ("any.example.org", "org/a/manifests/1?ns=[::1]:5000", registry("[::1]:5000")),
        ("any.example.org", "org/a/manifests/1?ns=quay.io:80", registry("quay.io:80")),
        ("any.example.org", "org/a/manifests/1?ns=auth.docker.io", registry("auth.docker.io")),
        ("any.example.org", "org/a/manifests/1?ns=", Unnamed::Namespace),
        ("any.example.org", "org/a/manifests/1?ns", Unnamed::Namespace),
        ("any.example.org", "org/a/manifests/1?ns=quay.io/org", Unnamed::Namespace),
        ("any.example.org", "org/a/manifests/1?ns=https://quay.io", Unnamed::Namespace),
        ("any.example.org", "org/a/manifests/1?ns=u@quay.io", Unnamed::Namespace),
        ("any.example.org", "org/a/manifests/1?ns=*.pkg.dev", Unnamed::Namespace),
        ("any.example.org", "org/a/manifests/1?ns=quay.io&ns=quay.io", BadQuery::Ambiguous("ns").into()),
        ("any.example.org", "org/a/manifests/1?ns=quay.io&NS=docker.io", BadQuery::Ambiguous("ns").into()),
        ("any.example.org", "org/a/manifests/1?%6es=quay.io&ns=docker.io", BadQuery::Ambiguous("ns").into()),
        // A registry's host that is not configured is not told to Docker Hub.
        ("any.example.org", "ghcr.io/org/a/manifests/1", registry("ghcr.io")),
        ("any.example.org", "registry.internal/a/manifests/1", registry("registry.internal")),
        ("any.example.org", "localhost:5000/a/manifests/1", registry("localhost:5000")),
        ("any.example.org", "127.0.0.1:22/a/manifests/1", registry("127.0.0.1:22")),
        ("any.example.org", "auth.docker.io/a/manifests/1", registry("auth.docker.io")),
        ("any.example.org", "quay.io/manifests/1", Unnamed::Nothing),
        // A connection to a registry itself is none to a mirror.
        ("quay.io", "org/a/manifests/1", host("quay.io")),
        ("registry-1.docker.io", "quay.io/org/a/manifests/1", host("registry-1.docker.io")),
        ("r.example.com:5000", "a/manifests/1", host("r.example.com:5000")),
        ("quay.io:80", "org/a/manifests/1", Unnamed::Host(Authority::parse("quay.io:80", 443).unwrap())),
        // A bound, and a part, end where they end.
        ("bound.example.org", "other/a/manifests/1", Unnamed::Nothing),
        ("bound.example.org", "_catalog", Unnamed::Nothing),
        ("part.example.org", "_catalog", Unnamed::Nothing),
        ("part.example.org", "A/manifests/1", Unnamed::Nothing),
        ("any.example.org", "hub/_catalog", Unnamed::Nothing),
        ("all.example.org", "_catalog", Unnamed::Nothing),
    ];
    for (host, asked, expected) in table {
        assert_eq!(resolved(host, &format!("/v2/{asked}")), Err(expected), "{host} {asked}");
    }
}

#[test]
fn a_path_that_servers_may_read_in_two_ways_is_refused_under_every_name() {
    for path in [
        "/v2//org/a/manifests/1",
        "/v2/quay.io//org/a/manifests/1",
        "/v2/quay.io/../a/manifests/1",
        "/v2/quay.io%2forg/a/manifests/1",
        "/v2/%71uay.io/org/a/manifests/1",
        "/v2/org/a/manifests%2f1",
        "/v2/org/a/./manifests/1",
        "/v2/org/a;x/manifests/1",
        "/v2/org\\a/manifests/1",
        "/%762/org/a/manifests/1",
    ] {
        for (host, query) in [("any.example.org", ""), ("docker.example.org", ""), ("any.example.org", "?ns=quay.io")] {
            let found = resolved(host, &format!("{path}{query}"));
            assert_eq!(found, Err(Unnamed::Path(BadPath)), "{host} {path}{query}");
        }
    }
}

#[test]
fn a_group_asks_its_members_in_order_and_each_only_for_its_own() {
    let three = |name: &str| {
        ["docker.io", "quay.io", "r.example.com:5000 third"].map(|member| {
            let (host, part) = member.split_once(' ').map_or((member, String::new()), |(h, p)| (h, format!("{p}/")));
            format!("{host} /v2/{part}{name}/manifests/1")
        })
    };
    let asked = |name: &str| resolved("all.example.org", &format!("/v2/{name}/manifests/1")).unwrap();
    assert_eq!(asked("org/a"), three("org/a"));
    let [hub, _, third] = three("other/a");
    assert_eq!(asked("other/a"), [hub, third]);
    // A name of one component is another one at Docker Hub alone.
    let [_, _, third] = three("a");
    assert_eq!(asked("a"), ["docker.io /v2/library/a/manifests/1", &third]);
    assert_eq!(
        resolved("all.example.org", "/v2/").unwrap(),
        ["docker.io /v2/", "quay.io /v2/", "r.example.com:5000 /v2/"]
    );
}

#[test]
fn pings_and_tokens_belong_to_the_name_and_other_paths_to_whole_registries() {
    let table = [
        ("docker.example.org", "/v2/", "docker.io /v2/"),
        ("docker.example.org", "/v2", "docker.io /v2/"),
        ("quay.example.org", "/v2/_pullthrough/token", "quay.io /v2/_pullthrough/token"),
        ("part.example.org", "/v2/_pullthrough/token", "r.example.com:5000 /v2/_pullthrough/token"),
        ("any.example.org", "/v2/", "docker.io /v2/"),
        ("any.example.org", "/v2/?ns=quay.io", "quay.io /v2/"),
        ("any.example.org", "/v2/_pullthrough/token", "docker.io /v2/_pullthrough/token"),
        ("any.example.org", "/v2/quay.io/", "quay.io /v2/"),
        ("any.example.org", "/v2/r.example.com:5000/", "r.example.com:5000 /v2/"),
        ("any.example.org", "/v2/q/", "quay.io /v2/"),
        ("any.example.org", "/v2/docker.io/?ns=docker.io", "docker.io /v2/"),
        ("quay.example.org", "/v2/_catalog", "quay.io /v2/_catalog"),
        ("any.example.org", "/v2/_catalog?ns=quay.io", "quay.io /v2/_catalog"),
        ("any.example.org", "/v2/quay.io/a/blobs/md5:00", "quay.io /v2/a/blobs/md5:00"),
    ];
    for (host, asked, expected) in table {
        assert_eq!(resolved(host, asked), Ok(vec![expected.to_owned()]), "{host} {asked}");
    }
}

#[test]
fn the_default_is_docker_hub_where_that_is_configured_and_nothing_else() {
    let of = |text: &str, registries: &[Arc<Registry>], path: &str| {
        let names = MirrorNames::new(&serde_yaml::from_str(text).unwrap(), registries).unwrap();
        let (host, query) = (Authority::parse("m", 443).unwrap(), Query::default());
        let resolved = names.resolve(registries, AskedName { host: &host, path, query: &query });
        resolved.map(|resolved| format!("{} {}", resolved.targets[0].authority.short(443), resolved.targets[0].route))
    };
    let all = registries();
    assert_eq!(of("{}", &all, "/v2/a/tags/list").unwrap(), "docker.io /v2/library/a/tags/list");
    assert_eq!(of("default: quay.io", &all, "/v2/a/tags/list").unwrap(), "quay.io /v2/a/tags/list");
    assert_eq!(of("default: quay.io", &all, "/v2/my.org/a/tags/list").unwrap(), "quay.io /v2/my.org/a/tags/list");
    assert_eq!(of("{}", &all[1..], "/v2/a/tags/list"), Err(Unnamed::NoDefault));
    assert_eq!(of("{}", &all[1..], "/v2/").unwrap(), "quay.io /v2/");
    assert_eq!(of("{}", &all[4..], "/v2/"), Err(Unnamed::NoDefault));
}

#[test]
fn what_the_client_wrote_is_kept_beside_what_is_asked() {
    let names = names(NAMES);
    let read = |host: &str, target: &str| {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (host, query) = (Authority::parse(host, 443).unwrap(), Query::parse(query).unwrap());
        let resolved = names.resolve(&registries(), AskedName { host: &host, path, query: &query }).unwrap();
        let text = |text: Option<Arc<str>>| text.map(|text| text.to_string()).unwrap_or_default();
        (text(resolved.written), text(resolved.namespace), text(resolved.group), resolved.is_host_of_one)
    };
    let of = |written: &str, namespace: &str, group: &str, one| (written.into(), namespace.into(), group.into(), one);
    assert_eq!(read("docker.example.org", "/v2/a/tags/list"), of("a", "", "", true));
    assert_eq!(read("part.example.org", "/v2/a/tags/list"), of("a", "", "", true));
    assert_eq!(read("m.example.org", "/v2/team/a/tags/list"), of("team/a", "", "", false));
    assert_eq!(read("x", "/v2/quay.io/o/a/tags/list"), of("quay.io/o/a", "", "", false));
    assert_eq!(read("x", "/v2/r.example.com:5000/o/a/tags/list"), of("r.example.com:5000/o/a", "", "", false));
    assert_eq!(read("docker.example.org", "/v2/a/tags/list?ns=docker.io"), of("a", "docker.io", "", false));
    assert_eq!(read("all.example.org", "/v2/org/a/tags/list"), of("org/a", "", "all.example.org", false));
    assert_eq!(read("x", "/v2/"), of("", "", "", false));
}

#[test]
fn a_scopes_repository_is_resolved_as_a_request_for_it_would_be() {
    let names = names(NAMES);
    let places = |host: &str, namespace, repository: &str| -> Vec<String> {
        let host = Authority::parse(host, 443).unwrap();
        let places = names.places(&registries(), &host, namespace, repository);
        places.into_iter().map(|(authority, name)| format!("{} {name}", authority.short(443))).collect()
    };
    assert_eq!(places("x", None, "a"), ["docker.io library/a"]);
    assert_eq!(places("x", None, "quay.io/org/a"), ["quay.io org/a"]);
    assert_eq!(places("x", Some("quay.io"), "org/a"), ["quay.io org/a"]);
    assert_eq!(places("all.example.org", None, "org/a").len(), 3);
    for bad in ["", "../a", "a/../b", "A", "ghcr.io/a/b", "a?ns=quay.io", "a/manifests/x?"] {
        assert!(places("x", None, bad).is_empty(), "{bad}");
    }
    assert!(places("x", Some("127.0.0.1"), "a").is_empty());
}

proptest::proptest! {
    #[test]
    fn whatever_is_asked_only_configured_registries_come_out_and_what_is_sent_is_what_was_judged(
        host in "(docker|part|m|all|x)\\.example\\.org(:5000)?",
        path in "/v2/(quay\\.io/|hub/|q/|team/|ghcr\\.io/|127\\.0\\.0\\.1:1/|[a-z./%:]{0,6}/){0,3}(a|b.c|%61)(/manifests/1|/tags/list|/blobs/uploads/|/x)?",
        ns in proptest::option::of("quay\\.io|docker\\.io|[a-z.:/@0-9]{0,12}"),
    ) {
        let query = ns.map_or_else(Query::default, |ns| Query::default().with("ns", &ns));
        let host = Authority::parse(&host, 443).unwrap();
        let known = registries();
        if let Ok(resolved) = names(NAMES).resolve(&known, AskedName { host: &host, path: &path, query: &query }) {
            for target in resolved.targets {
                proptest::prop_assert!(known.iter().any(|registry| registry.is_at(&target.authority)));
                proptest::prop_assert_eq!(Route::parse(&target.route.to_string()), Ok(target.route));
            }
        }
    }
}

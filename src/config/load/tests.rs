//! Tests loading with whole files: the message of each mistake, and the settings of a valid file.

mod doors;

use proptest::prelude::*;

use super::*;
use crate::config::Overrides;
use crate::store;

fn judged(text: &str, sources: &ConfigSources) -> (Settings, Vec<String>) {
    let mut report = Report::new(Some("dir/f.yaml".into()), text);
    let settings = judge(sources, Some("dir/f.yaml".into()), text, &mut report);
    let lines = report.finish().err().map(|mistakes| mistakes.iter().map(ToString::to_string).collect());
    (settings, lines.unwrap_or_default())
}

fn mistakes(text: &str) -> Vec<String> {
    judged(text, &ConfigSources::default()).1
}

#[test]
fn every_mistake_is_told_at_once_in_the_order_of_the_file() {
    let text = "\
cache:
  max_sise: 5GiB
  min_free: lots
listen:
  proxy: 3128
  mirror: here
registries:
  r.example.com:
    endpoints:
      - url: https://a.example.com
        colour: red
      - address: 127.0.0.1:1
      - url: ftp://b.example.com
        address: here
    tags:
      rules:
        - match: '('
          fresh_for: 1d
        - match: x
          fresh_for: soon
    push: perhaps
  '*.com': {}
cache:
  dir: x
nonsense: 1
";
    let expected = [
        "dir/f.yaml:2: cache.max_sise: unknown key; did you mean max_size?",
        "dir/f.yaml:3: cache.min_free: found \"lots\"; expected a percentage from 0% to 100%",
        "dir/f.yaml:5: listen.proxy: found 3128; expected an address and port such as 127.0.0.1:3128 or '[::]:3128'",
        "dir/f.yaml:6: listen.mirror: found \"here\"; expected an address and port such as 127.0.0.1:3128 or '[::]:3128'",
        "dir/f.yaml:11: registries.r.example.com.endpoints[0].colour: unknown key; expected one of url, address, \
             ca_file, client_cert_file, client_key_file, auth, authoritative",
        "dir/f.yaml:12: registries.r.example.com.endpoints[1]: url is missing; it is required",
        "dir/f.yaml:13: registries.r.example.com.endpoints[2].url: found \"ftp://b.example.com\"; not an endpoint URL; expected \
             https://host[:port][/path], or http://",
        "dir/f.yaml:14: registries.r.example.com.endpoints[2].address: found \"here\"; expected an address and port \
             such as 127.0.0.1:3128 or '[::]:3128'",
        "dir/f.yaml:17: registries.r.example.com.tags.rules[0].match: found \"(\", which is no regular expression: \
             found open group without closing ')'; expected one such as '^v?\\d+\\.\\d+$'",
        "dir/f.yaml:20: registries.r.example.com.tags.rules[1].fresh_for: found \"soon\"; expected a time such as \
             60s, 10m or 30d",
        "dir/f.yaml:21: registries.r.example.com.push: found \"perhaps\"; expected deny or allow",
        "dir/f.yaml:22: registries.*.com: covers all of .com; expected a domain of your own, such as \
             *.example.com",
        "dir/f.yaml:23: cache: duplicate key; expected each key once",
        "dir/f.yaml:25: nonsense: unknown key; expected one of listen, mirror, ca, cache, fill, registries, clients, \
             upstream, tunnel, log, drain",
    ];
    let found = mistakes(text);
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn each_mistake_says_what_was_expected() {
    let table = [
        ("a: [", "dir/f.yaml:2: not valid YAML: did not find"),
        ("clients:\n  allow: [::1/128]", "dir/f.yaml:2: not valid YAML: did not find expected node content; a value"),
        ("registries:\n  *.pkg.dev: {}", "dir/f.yaml:2: not valid YAML: did not find expected alphabetic"),
        ("- a", "dir/f.yaml:1: found a list; expected nested keys"),
        ("just text", "dir/f.yaml:1: found \"just text\"; expected nested keys"),
        ("log: {}\n---\nlog: {}", "dir/f.yaml:3: not valid YAML: deserializing from YAML containing more than one"),
        ("log: {access: perhaps}", "log.access: found \"perhaps\"; expected all, pulls or off"),
        ("log: {format: xml}", "log.format: found \"xml\"; expected text or json"),
        ("log: 5", "log: found 5; expected nested keys"),
        ("clients: {allow: [10.0.0.0/99]}", "clients.allow[0]: found \"10.0.0.0/99\"; expected a network"),
        ("clients: {allow: [nets]}", "clients.allow[0]: found \"nets\"; expected a network"),
        ("clients: {allow: []}", "clients.allow: allows no client; expected networks"),
        ("tunnel: {ports: [0]}", "tunnel.ports[0]: found 0; expected a port"),
        ("tunnel: {ports: [80, 99999]}", "tunnel.ports[1]: found 99999; expected a whole number from 0 to 65535"),
        ("tunnel: {allow: ['a b']}", "tunnel.allow[0]: found \"a b\"; expected a host"),
        ("upstream: {idle_timeout: 0s}", "upstream.idle_timeout: found 0s; expected more than 0s"),
        ("upstream: {idle_timeout: 1000y}", "upstream.idle_timeout: found \"1000y\"; expected a time of at most"),
        ("upstream: {idle_timeout: {}}", "upstream.idle_timeout: found nested keys; expected a time such as"),
        ("registries: {a.example: {endpoints: [{url: 5}]}}", "endpoints[0].url: found 5; expected text"),
        ("registries: {a.example: {tags: {rules: [{match: x}]}}}", "rules[0]: fresh_for is missing; it is required"),
        ("upstream: {idle_timeout: 5}", "upstream.idle_timeout: found 5; expected a time"),
        ("upstream: {hosts: {'a b': {}}}", "upstream.hosts.a b: not a host"),
        (
            "upstream: {hosts: {a.example: {address: '0.0.0.0:1'}}}",
            "address: found 0.0.0.0:1; not an address to connect to; expected",
        ),
        (
            "upstream: {proxy: [direct, parent]}",
            "upstream.proxy[1]: found \"parent\"; not a proxy URL; expected http://host[:port]",
        ),
        ("upstream: {proxy: [direct, direct]}", "upstream.proxy: names direct twice; expected"),
        ("upstream: {proxy: 5}", "upstream.proxy: found 5; expected proxies such as [http://parent:3128, direct]"),
        ("upstream: {proxy: [5]}", "upstream.proxy[0]: found 5; expected a proxy such as http://parent:3128"),
        ("upstream: {proxy: 'http://u:hunter2@p'}", "upstream.proxy: contains a user or a password; expected none"),
        (
            "upstream: {proxy: {url: 'https://p', ca_file: none}}",
            "upstream.proxy.ca_file: dir/none: No such file or directory",
        ),
        (
            "upstream: {proxy: [direct, {url: http://p, auth: {username: u, password_file: none}}]}",
            "upstream.proxy[1].auth.password_file: dir/none cannot be read",
        ),
        (
            "upstream: {proxy: {url: http://p, auth: {helper: ecr-login}}}",
            "upstream.proxy.auth: not supported for a proxy; expected one username with password_file",
        ),
        ("upstream: {proxy: {url: http://p, username: u}}", "upstream.proxy.username: unknown key; expected one of"),
        ("upstream: {no_proxy: ['a b']}", "upstream.no_proxy[0]: found \"a b\"; expected a host"),
        ("upstream: {no_proxy: .example.com}", "upstream.no_proxy: found \".example.com\"; expected a host"),
        ("upstream: {resolvers: [dns.example]}", "resolvers[0]: found \"dns.example\"; expected the address of"),
        ("cache: {max_size: 0}", "cache.max_size: found 0; expected"),
        ("fill: {lanes: 0}", "fill.lanes: found 0; expected"),
        ("fill: {lanes: many}", "fill.lanes: found \"many\"; expected a whole number"),
        ("clients: {connections: 0}", "clients.connections: found 0; expected"),
        ("clients: {connections_each: 0}", "clients.connections_each: found 0; expected"),
        ("clients: {streams: 0}", "clients.streams: found 0; expected"),
        ("clients: {streams_each: 0}", "clients.streams_each: found 0; expected"),
        ("upstream: {bandwidth: 1KiB}", "upstream.bandwidth: found 1.0 KiB; less than 64KiB a second"),
        ("upstream: {bandwidth: fast}", "upstream.bandwidth: found \"fast\"; expected a size"),
        ("upstream: {downloads_per_host: 0}", "upstream.downloads_per_host: found 0; expected"),
        ("registries: {quay.io: {prefetch: some}}", "quay.io.prefetch: found \"some\"; expected on, off or a number"),
        ("registries: {quay.io: {prefetch: 65}}", "quay.io.prefetch: found 65; expected on, off or a number"),
        ("cache: {min_free: 100%}", "cache.min_free: found 100%; leaves no space"),
        ("cache: {dir: x}\nca: {dir: x}", ":2: ca.dir: found \"dir/x\"; same directory as cache.dir; expected"),
        ("ca: {leaf_lifetime: 3y}", "ca.leaf_lifetime: found 3years; expected 1h to 825d"),
        ("ca: {leaf_lifetime: 0s}", "ca.leaf_lifetime: found 0s; expected 1h to 825d"),
        (
            "listen: {admin: '127.0.0.1:3128'}",
            ":1: listen.admin: found 127.0.0.1:3128; same address as listen.proxy ([::]:3128); expected",
        ),
        (
            "listen: {proxy: '127.0.0.1:9128'}",
            ":1: listen.proxy: found 127.0.0.1:9128; same address as listen.admin (127.0.0.1:9128); expected",
        ),
        ("registries:", "registries: lists no registries; expected"),
        ("registries: {}", "registries: lists no registries; expected"),
        ("registries: {'a b': {}}", "registries.a b: not a host or host pattern: expected"),
        ("registries: {'*': {}}", "registries.*: covers every host; expected"),
        ("registries: {'cdn*.quay.io': {}}", "the CA would have to cover all of quay.io; expected"),
        ("registries: {registry-1.docker.io: {}}", "is a host of docker.io; expected docker.io"),
        ("registries: {quay.io: {}, 'Quay.IO:443': {}}", "registries.quay.io: same host as Quay.IO:443"),
        ("registries: {quay.io: {auth: hunter2}}", "registries.quay.io.auth: neither client nor anonymous; expected"),
        ("registries: {quay.io: {auth: 5}}", "registries.quay.io.auth: found 5; expected client, anonymous"),
        (
            "registries: {quay.io: {auth: []}}",
            "registries.quay.io.auth: contains no credentials; expected at least one",
        ),
        ("registries: {quay.io: {auth: {username: u}}}", "quay.io.auth.username: has no password; expected"),
        ("registries: {quay.io: {auth: {username: u, password: 12}}}", "auth.password: not text; expected the secret"),
        (
            "registries: {quay.io: {auth: {username: u, password: p, repositorys: []}}}",
            "auth.repositorys: unknown key; did you mean repositories?",
        ),
        (
            "registries: {quay.io: {auth: [{username: u, password: p}, {username: u, password_file: none}]}}",
            ":1: registries.quay.io.auth[1].password_file: dir/none cannot be read: No such file or directory",
        ),
        (
            "registries: {quay.io: {auth: {username: u, password_env: PULLTHROUGH_NO_SUCH}}}",
            "quay.io.auth.password_env: the environment variable PULLTHROUGH_NO_SUCH (password_env) is not set",
        ),
        (
            "registries: {quay.io: {auth: {helper: no-such}}}",
            "auth.helper: docker-credential-no-such is no program on this machine; expected",
        ),
        (
            "registries: {quay.io: {auth: {username: u, password: p, repositories: [Team]}}}",
            "auth.repositories[0]: found \"Team\"; expected a repository or a pattern",
        ),
        (
            "registries: {'*.example.com': {auth: {username: u, password: p}}}",
            "example.com.auth: a pattern stands for many registries, and one password must not go to all of them; expected",
        ),
        (
            "registries: {a.example: {endpoints: [{url: https://a, auth: {username: u}}]}}",
            "endpoints[0].auth.username: has no password",
        ),
        (
            "registries: {quay.io: {realms: ['http://a/token']}}",
            "quay.io.realms[0]: found \"http://a/token\"; not a token service URL; expected https://host",
        ),
        ("clients: {htpasswd: none}", "clients.htpasswd: dir/none: No such file or directory"),
        ("clients: {audit: none/audit}", "clients.audit: dir/none/audit: cannot be a file; expected"),
        ("clients: {rules: [{name: x}]}", "clients.rules[0]: effect is missing; it is required"),
        (
            "clients: {rules: [{name: default, effect: deny}]}",
            "rules[0].name: found \"default\"; not a valid rule name; expected",
        ),
        (
            "clients: {rules: [{name: x, effect: deny}, {name: x, effect: allow}]}",
            "clients.rules[1].name: found \"x\"; duplicate rule name; expected",
        ),
        (
            "clients: {rules: [{name: x, effect: deny, users: [ci]}]}",
            "rules[0].users[0]: found \"ci\"; no users are known without clients.htpasswd; expected",
        ),
        (
            "clients: {rules: [{name: x, effect: deny, registries: [index.docker.io]}]}",
            "rules[0].registries[0]: found \"index.docker.io\"; is a host of docker.io; expected docker.io",
        ),
        (
            "clients: {rules: [{name: x, effect: deny, registries: ['*.pkg.dev', 'eu-docker.pkg.dev', quay.oi]}]}",
            "rules[0].registries[2]: found \"quay.oi\"; not a configured registry; expected",
        ),
        (
            "registries: {a.example: {endpoints: [{url: http://b, auth: {username: u, password: p}}]}}",
            "endpoints[0].auth: would be sent in clear text to http://b; expected https",
        ),
        (
            "registries: {a.example: {auth: {username: u, password: p}, endpoints: [{url: http://a.example:80}]}}",
            "registries.a.example.auth: would be sent in clear text",
        ),
        ("clients: {rules: [{name: x, effect: deny, actions: []}]}", "rules[0].actions: is empty; expected pull"),
        ("registries: {quay.io: {token_hosts: ['a:1']}}", "token_hosts[0]: found \"a:1\"; expected a host"),
        ("registries: {quay.io: {tags: {deadline: 0s}}}", "tags.deadline: found 0s; expected more than 0s"),
        (
            "registries: {'*.example.com': {endpoints: [{url: https://a}]}}",
            "endpoints: a pattern stands for many registries",
        ),
    ];
    for (text, expected) in table {
        let found = mistakes(text);
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        assert!(found[0].contains(expected), "{text}: {}", found[0]);
    }
}

#[test]
fn a_name_that_no_registry_answers_to_is_noticed() {
    for (name, words) in [("dcoker.io", "did you mean docker.io?"), ("hub.docker.com", "under the name docker.io")] {
        let (settings, found) = judged(&format!("registries:\n  {name}: {{}}\n"), &ConfigSources::default());
        assert_eq!(found, [""; 0]);
        let [notice] = &settings.notices[..] else { panic!("{:?}", settings.notices) };
        assert!(notice.starts_with("dir/f.yaml:2: registries.") && notice.contains(words), "{notice}");
    }
}

#[test]
fn the_drain_has_a_key_and_a_variable() {
    let (settings, _) = judged("", &ConfigSources::default());
    assert_eq!(settings.drain, DRAIN);
    let environment: std::collections::BTreeMap<_, _> = [("PULLTHROUGH_DRAIN".to_owned(), "90s".into())].into();
    for (text, environment, seconds) in
        [("drain: 1m", Default::default(), 60), ("drain:", Default::default(), 300), ("drain: 1m", environment, 90)]
    {
        let (settings, found) = judged(text, &ConfigSources { environment, ..ConfigSources::default() });
        assert_eq!((settings.drain.0.as_secs(), found), (seconds, Vec::<String>::new()), "{text}");
    }
    assert_eq!(
        mistakes("drain: soon"),
        ["dir/f.yaml:1: drain: found \"soon\"; expected a time such as 60s, 10m or 30d"]
    );
}

#[test]
fn two_ways_to_one_host_are_a_conflict() {
    let text = "\
registries:
  a.example.com:
    endpoints: [{url: 'https://a.example.com/x', address: '127.0.0.1:1'}]
upstream:
  hosts:
    a.example.com: {address: 127.0.0.1:2}
    b.example.com: {address: 127.0.0.1:3}
    a.example.com:444: {address: 127.0.0.1:4}
";
    let expected = "dir/f.yaml:6: upstream.hosts.a.example.com.address: differs from \
                        registries.a.example.com.endpoints[0].address; expected one address for a.example.com:443";
    assert_eq!(mistakes(text), [expected]);
}

#[test]
fn empty_sections_and_bodies_are_as_good_as_absent() {
    let (settings, found) = judged("cache:\nlog:\nregistries:\n  quay.io:\n", &ConfigSources::default());
    assert_eq!(found, [""; 0]);
    assert_eq!(settings.cache, store::Config::default());
    assert_eq!(settings.registries.len(), 1);
}

#[test]
fn folders_of_the_file_are_relative_to_it_and_defaults_are_not() {
    let (settings, _) = judged("cache: {dir: blobs}", &ConfigSources::default());
    assert_eq!(settings.cache.dir, Path::new("dir/blobs"));
    assert_eq!(settings.ca.dir, Path::new("ca"));
    let overrides = Overrides { cache_dir: Some("elsewhere".into()), ..Overrides::default() };
    let (settings, _) = judged("cache: {dir: blobs}", &ConfigSources { overrides, ..ConfigSources::default() });
    assert_eq!(settings.cache.dir, Path::new("elsewhere"));
}

#[test]
fn a_mistake_of_a_variable_or_flag_names_it() {
    let environment = [
        ("PULLTHROUGH_CACHE_MAX_SIZE", "big"),
        ("PULLTHROUGH_CACHE_MAXSIZE", "1GiB"),
        ("PULLTHROUGH_UPSTREAM_PROXY", "http://u:hunter2@p,direct"),
        ("PULLTHROUGH_UPSTREAM_RESOLVERS", "192.0.2.53,here"),
        ("PULLTHROUGH_LOG_LEVEL", "loud"),
        ("PULLTHROUGH_SERVICE_HOST", "10.0.0.1"),
        ("PULLTHROUGH_CA_DIR", ""),
    ];
    let sources = ConfigSources {
        environment: environment.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect(),
        overrides: Overrides { listen: Some("3128".into()), ..Overrides::default() },
        ..ConfigSources::default()
    };
    let expected = [
        "PULLTHROUGH_CACHE_MAXSIZE: unknown variable; did you mean PULLTHROUGH_CACHE_MAX_SIZE?",
        "PULLTHROUGH_CACHE_MAX_SIZE: found \"big\"; expected a size such as 100GiB, 5MB or 4096",
        "PULLTHROUGH_LOG_LEVEL: found \"loud\"; expected off, error, warn, info, debug or trace",
        "PULLTHROUGH_UPSTREAM_PROXY: contains a user or a password; expected none in a url, but auth: {username: u, \
             password_file: f} next to it",
        "PULLTHROUGH_UPSTREAM_RESOLVERS: found \"192.0.2.53,here\"; expected the address of a DNS server, such as \
             192.0.2.53, '192.0.2.53:5353' or '2001:db8::53'",
        "--listen: found \"3128\"; expected an address and port such as 127.0.0.1:3128 or '[::]:3128'",
    ];
    assert_eq!(judged("", &sources).1, expected);
}

/// Text with the shape of YAML, near enough to a configuration to come far.
fn yaml_like() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "listen:",
        "proxy:",
        "registries:",
        "docker.io:",
        "endpoints:",
        "url:",
        "tags:",
        "rules:",
        "match:",
        "-",
        "'",
        "\"",
        "&a",
        "*a",
        "!t",
        "<<:",
        "{",
        "}",
        "[",
        "]",
        ",",
        "? ",
        "\n",
        "\n  ",
        "\n    ",
        "~",
        "0s",
        "18446744073709551616",
        "9999999999999y",
        "\u{0}",
        "\u{feff}",
        "---",
        "...",
        "#",
        "|",
        ">",
        "%",
    ]);
    prop::collection::vec(word, 0..40).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn no_text_panics_the_loader(text in prop_oneof![any::<String>(), yaml_like()]) {
        let _ = mistakes(&text);
    }

    #[test]
    fn no_value_panics_the_loader(key in "[a-z_.*:]{0,20}", value in any::<String>()) {
        for section in ["registries", "upstream: {hosts", "cache"] {
            let close = if section.contains('{') { "}" } else { "" };
            let _ = mistakes(&format!("{section}: {{{key:?}: {value:?}}}{close}"));
        }
    }
}

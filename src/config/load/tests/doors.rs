//! Tests loading what opens doors: the transparent listener, the mirror, its names and its certificate.

use super::*;

#[test]
fn the_transparent_listener_has_an_address_of_its_own_and_no_users() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("htpasswd");
    std::fs::write(&file, "").unwrap();
    let with_users = format!("listen: {{transparent: '[::]:443'}}\nclients: {{htpasswd: '{}'}}", file.display());
    let table = [
        (
            "listen: {transparent: '[::]:3128'}",
            "listen.transparent: found [::]:3128; same address as listen.proxy ([::]:3128); expected",
        ),
        (
            "listen: {transparent: '[::]:9128'}",
            "listen.transparent: found [::]:9128; same address as listen.admin (127.0.0.1:9128); expected",
        ),
        (&with_users, "listen.transparent: clients of this listener cannot be asked for a password"),
        (
            "listen: {proxy_protocol: [balancer]}",
            "proxy_protocol[0]: found \"balancer\"; expected an address or a network",
        ),
    ];
    for (text, expected) in table {
        let told = mistakes(text);
        assert!(told.first().is_some_and(|told| told.contains(expected)), "{text}: {told:?}");
    }
}

#[test]
fn what_is_dangerous_about_doors_is_noticed() {
    let notices = |text: &str| {
        let (settings, mistakes) = judged(text, &ConfigSources::default());
        assert_eq!(mistakes, [""; 0]);
        settings.notices
    };
    let open = "listen: {transparent: '[::]:443', proxy_protocol: [10.0.0.5, 'fd00::/8']}";
    assert!(notices(open)[0].contains("upstream.resolvers"));
    assert_eq!(notices(&format!("{open}\nupstream: {{resolvers: 192.0.2.53}}")), [""; 0]);
    assert!(notices("listen: {proxy_protocol: ['0.0.0.0/0']}")[0].contains("every peer chooses the address"));
}

#[test]
fn a_mirrors_names_stand_for_configured_registries_and_every_mistake_in_them_is_told() {
    let text = "\
registries:
  docker.io: {}
  r.example.com:5000: {}
  '*.pkg.dev': {}
mirror:
  default: quay.io
  tls: {cert_file: nowhere.crt, key_file: nowhere.key}
  names:
    docker.example.org: docker.io
    Docker.Example.org.: docker.io
    docker.io: r.example.com:5000
    x.pkg.dev/hub: docker.io
    bad/Name: docker.io
    /v2/hub: docker.io
    a.example.org: ghcr.io/org
    b.example.org: [docker.io, r.example.com, docker.io]
    c.example.org: {registry: docker.io, repositories: []}
    d.example.org: []
    e.example.org: [{registry: docker.io, repos: []}]
    f.example.org: [us.pkg.dev/p, {registry: 'r.example.com:5000/team', repositories: [team/*]}]
    g.example.org: 'https://docker.io'
";
    let expected = [
        "dir/f.yaml:6: mirror.default: found \"quay.io\"; not a configured registry; expected one of registries",
        "dir/f.yaml:7: mirror.tls.cert_file: dir/nowhere.crt: No such file or directory (os error 2); expected a \
             readable file",
        "dir/f.yaml:7: mirror.tls.key_file: dir/nowhere.key: No such file or directory (os error 2); expected a \
             readable file",
        "dir/f.yaml:9: mirror.names.docker.example.org: same name as Docker.Example.org.; expected each name once",
        "dir/f.yaml:11: mirror.names.docker.io: is a host of the registry docker.io; expected a name of this mirror's \
             own",
        "dir/f.yaml:12: mirror.names.x.pkg.dev/hub: is a host of the registry *.pkg.dev; expected a name of this \
             mirror's own",
        "dir/f.yaml:13: mirror.names.bad/Name: not a name of a mirror; expected a host such as docker.example.org, a \
             host with a path such as mirror.example.org/team, or a path such as /hub (without /v2)",
        "dir/f.yaml:14: mirror.names./v2/hub: not a name of a mirror; expected a host such as docker.example.org, a \
             host with a path such as mirror.example.org/team, or a path such as /hub (without /v2)",
        "dir/f.yaml:15: mirror.names.a.example.org: found \"ghcr.io/org\"; not a configured registry; expected one of \
             registries",
        "dir/f.yaml:16: mirror.names.b.example.org[1]: found \"r.example.com\"; not a configured registry; expected one \
             of registries",
        "dir/f.yaml:16: mirror.names.b.example.org[2]: found \"docker.io\"; listed twice; expected each registry once",
        "dir/f.yaml:17: mirror.names.c.example.org.repositories: is empty, so the registry is never asked; expected \
             patterns such as org/* (without this key, all)",
        "dir/f.yaml:18: mirror.names.d.example.org: lists no registry; expected at least one",
        "dir/f.yaml:19: mirror.names.e.example.org[0].repos: unknown key; expected one of registry, repositories",
        "dir/f.yaml:21: mirror.names.g.example.org: found \"https://docker.io\"; not a registry; expected its host such \
             as quay.io, or a part of it such as quay.io/org",
    ];
    let found = mistakes(text);
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn variables_set_the_mirrors_listener_and_its_default() {
    let environment = [("PULLTHROUGH_LISTEN_MIRROR", "[::]:5000"), ("PULLTHROUGH_MIRROR_DEFAULT", "quay.io/org")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.into())).into();
    let sources = ConfigSources { environment, ..ConfigSources::default() };
    let (settings, mistakes) = judged("mirror: {names: {10.0.0.5: docker.io}}", &sources);
    assert_eq!(mistakes, [""; 0]);
    assert_eq!(settings.listen.mirror, Some("[::]:5000".parse().unwrap()));
    assert_eq!(settings.mirror.default.as_ref().map(|members| &*members.0[0].registry), Some("quay.io/org"));
    assert_eq!(settings.mirror_address(), Some("10.0.0.5".parse().unwrap()));
    assert!(settings.mirror_hosts().contains(&"10.0.0.5".parse().unwrap()));
}

#[test]
fn what_a_mirrors_names_and_certificate_lack_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let notices = |text: &str| {
        let (settings, mistakes) = judged(text, &ConfigSources::default());
        assert_eq!(mistakes, [""; 0]);
        settings.notices
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let names = ["*.example.org".to_owned(), "10.0.0.5".to_owned()];
    let leaf = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let files = [("m.crt", leaf.pem()), ("m.key", key.serialize_pem())].map(|(name, pem)| {
        let file = folder.path().join(name);
        std::fs::write(&file, pem).unwrap();
        file
    });
    let tls = format!("mirror:\n  tls: {{cert_file: '{}', key_file: '{}'}}\n", files[0].display(), files[1].display());
    let covered = "  names: {a.example.org: quay.io, 10.0.0.5: ghcr.io, /hub: docker.io, 'b.example.org/x': quay.io}";
    assert_eq!(notices(&format!("{tls}{covered}")), [""; 0]);
    let lacking = "  names: {a.b.example.org: quay.io, 10.0.0.6: ghcr.io, 'other.example.net/x': quay.io, a.example.org: quay.io}";
    let told = notices(&format!("{tls}{lacking}"));
    assert!(told.len() == 1 && told[0].starts_with("dir/f.yaml:2: mirror.tls.cert_file: is not for "), "{told:?}");
    for host in ["a.b.example.org", "10.0.0.6", "other.example.net"] {
        assert!(told[0].contains(host), "{told:?}");
    }
    assert!(!told[0].contains(" a.example.org"), "{told:?}");
    for (name, words) in [("/quay.io", "is never used"), ("/quay.io/org", "is never used"), ("hub", "write /hub")] {
        let told = notices(&format!("mirror: {{names: {{'{name}': docker.io}}}}"));
        assert!(told.len() == 1 && told[0].contains(words), "{name}: {told:?}");
    }
    for name in ["/quay", "hub.example.org", "localhost", "hub:5000", "m.example.org/quay.io"] {
        assert_eq!(notices(&format!("mirror: {{names: {{'{name}': docker.io}}}}")), [""; 0], "{name}");
    }
    let alone = "registries: {quay.io: {}}\nlisten: {mirror: '[::]:5000'}\n";
    let told = notices(alone);
    assert!(told.len() == 1 && told[0].contains("mirror.default") && told[0].contains("registry-mirrors"), "{told:?}");
    assert_eq!(notices(&format!("{alone}mirror: {{default: quay.io}}")), [""; 0]);
}

//! The configuration, through the real program and through the library.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use pullthrough::config::{ConfigSources, Overrides, Settings, load, reload};
use pullthrough::oci::Authority;
use pullthrough::telemetry::AccessLog;
use tempfile::TempDir;

/// Runs the program in `folder` with this environment and no other.
fn pullthrough(folder: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullthrough"));
    command.current_dir(folder).env_clear().envs(environment.iter().copied()).args(arguments);
    command.output().expect("the program runs")
}

fn folder_with(text: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    write(&folder.path().join("pullthrough.yaml"), text, 0o644);
    folder
}

fn write(file: &Path, text: &str, mode: u32) {
    fs::write(file, text).expect("a file");
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).expect("its mode");
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn loaded(sources: &ConfigSources) -> Settings {
    load(sources).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

#[test]
fn check_tells_every_mistake_with_its_line_and_exits_with_2() {
    let folder = folder_with(
        "cache:\n  max_size: big\n\nregistries:\n  r.example.com:\n    endpoints:\n      - url: https://r.example.com\n\
         \x20       ca_file: nowhere.crt\n    pus: allow\nlisten:\n  mirror: here\n",
    );
    let output = pullthrough(folder.path(), &[("PULLTHROUGH_CACH_DIR", "x")], &["check"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stdout(&output), "");
    let expected = [
        "pullthrough.yaml:2: cache.max_size: found \"big\"; expected a size such as 100GiB, 5MB or 4096",
        "pullthrough.yaml:8: registries.r.example.com.endpoints[0].ca_file: nowhere.crt: No such file or directory (os \
         error 2); expected a readable file",
        "pullthrough.yaml:9: registries.r.example.com.pus: unknown key; did you mean push?",
        "pullthrough.yaml:11: listen.mirror: found \"here\"; expected an address and port such as 127.0.0.1:3128 or '[::]:3128'",
        "PULLTHROUGH_CACH_DIR: unknown variable; did you mean PULLTHROUGH_CACHE_DIR?",
    ];
    assert_eq!(stderr(&output).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn check_of_a_good_file_says_what_was_checked_in_one_line() {
    let folder = folder_with("registries:\n  quay.io:\n  docker.io:\n  '*.pkg.dev':\n");
    let output = pullthrough(folder.path(), &[], &["check"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    assert_eq!(stdout(&output), "pullthrough.yaml: no mistakes; 3 registries: docker.io, quay.io, *.pkg.dev\n");
}

#[test]
fn check_tells_programs_what_it_tells_people() {
    let folder = folder_with("registries: {quay.io: {}}\n");
    let told = |status: i32, variables: &[(&str, &str)]| -> serde_json::Value {
        let output = pullthrough(folder.path(), variables, &["check", "--json"]);
        assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
        serde_json::from_str(&stdout(&output)).expect("JSON")
    };
    let good = told(0, &[]);
    let expected = serde_json::json!({"ok": true, "file": "pullthrough.yaml", "registries": ["quay.io"],
        "notices": [], "mistakes": []});
    assert_eq!(good, expected);
    write(&folder.path().join("pullthrough.yaml"), "registries: {quay.io: {}}\nlog:\n  fomat: json\n", 0o644);
    let bad = told(2, &[("PULLTHROUGH_CACH_DIR", "x")]);
    assert_eq!((&bad["ok"], bad["mistakes"].as_array().map(Vec::len)), (&false.into(), Some(2)), "{bad}");
    let expected = serde_json::json!({"file": "pullthrough.yaml", "line": 3, "variable": null, "flag": null,
        "key": "log.fomat", "text": "unknown key; did you mean format?"});
    assert_eq!(bad["mistakes"][0], expected);
    assert_eq!(bad["mistakes"][1]["variable"], "PULLTHROUGH_CACH_DIR");
}

#[test]
fn every_command_that_only_reads_takes_json() {
    let folder = folder_with("");
    let commands = "check|ca show|trust status|setup|doctor|why|cache ls|cache show|cache stats";
    for command in commands.split('|') {
        let arguments: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let output = pullthrough(folder.path(), &[], &arguments);
        assert!(stdout(&output).contains("--json"), "{command}: {}", stdout(&output));
    }
}

#[test]
fn wrong_usage_and_a_missing_file_exit_with_2() {
    let folder = folder_with("");
    for arguments in [&["chekc"][..], &["check", "--colour"], &[], &["check", "--config", "nowhere.yaml"]] {
        let output = pullthrough(folder.path(), &[], arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_ne!(stderr(&output), "", "{arguments:?}");
    }
    for arguments in [["--help"], ["--version"]] {
        assert_eq!(pullthrough(folder.path(), &[], &arguments).status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn a_file_that_others_may_write_counts_only_if_it_is_named() {
    let folder = folder_with("");
    let file = folder.path().join("pullthrough.yaml");
    for (mode, arguments, expected) in [
        (0o664, &["check"][..], 2),
        (0o646, &["check"], 2),
        (0o666, &["check", "--config", "pullthrough.yaml"], 0),
        (0o644, &["check"], 0),
        (0o600, &["check"], 0),
    ] {
        write(&file, "registries: {quay.io: {}}\n", mode);
        let output = pullthrough(folder.path(), &[], arguments);
        assert_eq!(output.status.code(), Some(expected), "{mode:o} {arguments:?}: {}", stderr(&output));
        if expected == 2 {
            assert!(stderr(&output).starts_with("pullthrough.yaml: writable by others; expected"));
        }
    }
}

#[test]
fn a_file_of_another_user_counts_only_if_it_is_named() {
    let folder = folder_with("registries: {quay.io: {}}\n");
    let file = folder.path().join("pullthrough.yaml");
    if std::os::unix::fs::chown(&file, Some(65_534), None).is_err() {
        eprintln!("not root: the owner of a file cannot be changed, so nothing was tested");
        return;
    }
    let output = pullthrough(folder.path(), &[], &["check"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("pullthrough.yaml: belongs to another user; expected root or"));
    assert_eq!(pullthrough(folder.path(), &[], &["check", "--config", "pullthrough.yaml"]).status.code(), Some(0));
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let folder = folder_with(
        "listen: {proxy: '127.0.0.1:1', admin: '127.0.0.1:2'}\ncache: {dir: file}\nca: {dir: file-ca}\nlog: {access: true}\n",
    );
    let variables = [
        ("PULLTHROUGH_LISTEN_PROXY", "127.0.0.1:3"),
        ("PULLTHROUGH_CACHE_DIR", "variable"),
        ("PULLTHROUGH_LOG_ACCESS", "false"),
        ("PULLTHROUGH_UPSTREAM_IDLE_TIMEOUT", "7s"),
    ];
    let sources = ConfigSources {
        config: Some(folder.path().join("pullthrough.yaml")),
        environment: variables.iter().map(|(name, text)| ((*name).to_owned(), text.into())).collect(),
        overrides: Overrides { listen: Some("127.0.0.1:4".into()), ..Overrides::default() },
        ..ConfigSources::default()
    };
    let settings = loaded(&sources);
    assert_eq!(settings.listen.proxy, "127.0.0.1:4".parse().unwrap());
    assert_eq!(settings.listen.admin, "127.0.0.1:2".parse().unwrap());
    assert_eq!(settings.cache.dir, Path::new("variable"));
    assert_eq!(settings.ca.dir, folder.path().join("file-ca"));
    assert_eq!(settings.upstream.idle_timeout.0.as_secs(), 7);
    assert_eq!(settings.log.access, AccessLog::Off);
}

#[test]
fn a_variable_over_a_mistake_does_not_hide_it() {
    let folder = folder_with("cache: {max_size: big}\n");
    let output = pullthrough(folder.path(), &[("PULLTHROUGH_CACHE_MAX_SIZE", "1GiB")], &["check"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("pullthrough.yaml:1: cache.max_size: found \"big\""));
}

#[test]
fn without_a_file_all_presets_are_on() {
    let settings = loaded(&ConfigSources::default());
    assert_eq!(settings.file, None);
    assert_eq!(settings.registries.len(), 13);
    let registry = |host: &str| {
        let authority = Authority::parse(host, 443).unwrap();
        let found = settings.registries.iter().find(|r| r.hosts.iter().any(|p| p.matches(&authority, 443)));
        found.map(|registry| registry.name.as_str())
    };
    let table = [
        ("docker.io", Some("docker.io")),
        ("index.docker.io", Some("docker.io")),
        ("registry-1.docker.io", Some("docker.io")),
        ("registry-1.docker.io:444", None),
        ("auth.docker.io", None),
        ("europe-docker.pkg.dev", Some("*.pkg.dev")),
        ("team.azurecr.io", Some("*.azurecr.io")),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", Some("*.dkr.ecr.*.amazonaws.com")),
        ("123456789012.dkr.ecr.nowhere-1.amazonaws.com", None),
        ("s3.eu-west-1.amazonaws.com", None),
        ("example.com", None),
    ];
    for (host, expected) in table {
        assert_eq!(registry(host), expected, "{host}");
    }
    let hub = settings.registries.iter().find(|registry| registry.name == "docker.io").unwrap();
    assert_eq!(hub.endpoints[0].url, "https://registry-1.docker.io");
    assert_eq!(hub.token_hosts, ["auth.docker.io".parse().unwrap()]);
    assert!(!hub.named);
    assert_eq!(hub.tags.fresh_for.unwrap().0.as_secs(), 60);
    let constraint_domains = settings.registries.iter().flat_map(|registry| &registry.hosts);
    assert!(constraint_domains.clone().all(|host| !host.has_inner_star()));
    assert!(constraint_domains.clone().all(|host| host.domain().as_deref() != Some("amazonaws.com")));
}

#[test]
fn an_entry_overrides_its_preset_field_by_field() {
    let folder = folder_with(
        "registries:\n  docker.io:\n    endpoints: [{url: https://registry-1.docker.io, address: '127.0.10.1:5443'}]\n\
         \x20 Registry.Example.com:443:\n    tags: {deadline: 3s}\n  r.example.com:5000:\n  '*.example.com':\n  '*.a.example.com':\n",
    );
    let file = folder.path().join("pullthrough.yaml");
    let settings = loaded(&ConfigSources { config: Some(file), ..ConfigSources::default() });
    let by_name: BTreeMap<&str, _> = settings.registries.iter().map(|r| (r.name.as_str(), r)).collect();
    let hub = by_name["docker.io"];
    assert_eq!(hub.endpoints[0].address, Some("127.0.10.1:5443".parse().unwrap()));
    assert_eq!(hub.token_hosts, ["auth.docker.io".parse().unwrap()]);
    assert_eq!((hub.hosts.len(), hub.named), (3, true));
    assert_eq!(hub.tags.fresh_for.unwrap().0.as_secs(), 60);
    let own = by_name["registry.example.com"];
    assert!(own.endpoints.is_empty() && own.named);
    assert_eq!(own.tags.fresh_for.unwrap().0.as_secs(), 0);
    assert_eq!(own.tags.deadline.unwrap().0.as_secs(), 3);
    assert!(by_name["r.example.com:5000"].named && !by_name["*.example.com"].named);
    let names: Vec<&str> = settings.registries.iter().map(|registry| registry.name.as_str()).collect();
    assert_eq!(names[3..], ["*.a.example.com", "*.example.com"], "the closest match comes first");
}

#[test]
fn certificate_files_are_read_when_they_are_checked() {
    let folder = TempDir::new().unwrap();
    let (certificate, key) = certificate();
    let (_, other_key) = self::certificate();
    for (name, text) in [("a.crt", &certificate), ("a.key", &key), ("b.key", &other_key)] {
        write(&folder.path().join(name), text, 0o600);
    }
    write(&folder.path().join("empty.crt"), "", 0o600);
    let table = [
        ("ca_file: a.crt", None),
        ("ca_file: a.crt, client_cert_file: a.crt, client_key_file: a.key", None),
        ("ca_file: a.key", Some("ca_file: a.key: contains no certificate")),
        ("ca_file: empty.crt", Some("ca_file: empty.crt: contains no certificate")),
        ("ca_file: .", Some("ca_file: .: Is a directory")),
        ("client_cert_file: a.crt", Some("client_cert_file: has no key")),
        ("client_key_file: a.key", Some("client_key_file: has no certificate")),
        ("client_cert_file: a.crt, client_key_file: a.crt", Some("client_key_file: a.crt: contains no private key")),
        ("client_cert_file: a.crt, client_key_file: b.key", Some("client_key_file: does not match")),
    ];
    for (body, expected) in table {
        write(&folder.path().join("f.yaml"), &format!("upstream: {{hosts: {{a.example: {{{body}}}}}}}\n"), 0o644);
        let output = pullthrough(folder.path(), &[], &["check", "--config", "f.yaml"]);
        match expected {
            None => assert_eq!(output.status.code(), Some(0), "{body}: {}", stderr(&output)),
            Some(text) => {
                let line = format!("f.yaml:1: upstream.hosts.a.example.{text}");
                assert!(stderr(&output).starts_with(&line), "{body}: {}", stderr(&output));
            }
        }
    }
}

fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn every_example_is_right() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let folder = TempDir::new().unwrap();
    for name in ["example-ca.crt", "central-ca.crt"] {
        write(&folder.path().join(name), &certificate().0, 0o644);
    }
    let mut checked = 0;
    for entry in fs::read_dir(examples).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "yaml") {
            let copy = folder.path().join(file.file_name().unwrap());
            fs::copy(&file, &copy).unwrap();
            loaded(&ConfigSources { config: Some(copy), ..ConfigSources::default() });
            checked += 1;
        }
    }
    assert!(checked >= 3, "{checked} examples");
}

#[test]
fn the_example_of_all_defaults_says_the_defaults() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pullthrough.yaml");
    let mut said = loaded(&ConfigSources { config: Some(file.clone()), ..ConfigSources::default() });
    let defaults = loaded(&ConfigSources::default());
    assert_eq!(said.file.take(), Some(file));
    assert!(said.ca.dir.ends_with("examples/ca") && said.cache.dir.ends_with("examples/cache"));
    said.ca.dir.clone_from(&defaults.ca.dir);
    said.cache.dir.clone_from(&defaults.cache.dir);
    // A registry that a file names may have a private address; that is all that naming it changes.
    said.registries.iter_mut().for_each(|registry| registry.named = false);
    said.registries.sort_by(|a, b| a.name.cmp(&b.name));
    let mut presets = defaults.registries.clone();
    presets.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(said, Settings { registries: presets, ..defaults });
}

#[test]
fn a_registry_that_a_sealed_ca_does_not_cover_is_a_mistake_of_check_alone() {
    let folder = folder_with("registries: {quay.io: {}}\n");
    let file = folder.path().join("pullthrough.yaml");
    assert_eq!(pullthrough(folder.path(), &[], &["ca", "init"]).status.code(), Some(0));
    assert_eq!(pullthrough(folder.path(), &[], &["ca", "seal", "--out", "root.key"]).status.code(), Some(0));
    assert_eq!(pullthrough(folder.path(), &[], &["check"]).status.code(), Some(0));
    write(&file, "registries: {quay.io: {}, 'r.example.com:5000': {token_hosts: [auth.example.com]}}\n", 0o644);
    let output = pullthrough(folder.path(), &[], &["check"]);
    assert_eq!(output.status.code(), Some(2));
    let lines = stderr(&output);
    assert_eq!(lines.lines().count(), 2, "{lines}");
    for domain in ["auth.example.com", "r.example.com"] {
        let start =
            format!("pullthrough.yaml: registries: the sealed CA in ca does not cover {domain}; expected ca.key");
        assert!(lines.lines().any(|line| line.starts_with(&start)), "{lines}");
    }
    assert_eq!(loaded(&ConfigSources { config: Some(file), ..ConfigSources::default() }).registries.len(), 2);
}

#[test]
fn a_sealed_ca_covers_the_mirrors_names_of_its_time_and_check_tells_those_that_came_later() {
    let names =
        |names: &str| format!("registries: {{quay.io: {{}}}}\nmirror: {{default: quay.io, names: {{{names}}}}}\n");
    let folder = folder_with(&names("m.example.org: quay.io"));
    assert_eq!(pullthrough(folder.path(), &[], &["ca", "init"]).status.code(), Some(0));
    assert_eq!(pullthrough(folder.path(), &[], &["ca", "seal", "--out", "root.key"]).status.code(), Some(0));
    assert_eq!(stderr(&pullthrough(folder.path(), &[], &["check"])), "");
    let later = names("m.example.org: quay.io, 'late.example.org:5000/team': quay.io/team, /q: quay.io");
    write(&folder.path().join("pullthrough.yaml"), &later, 0o644);
    let output = pullthrough(folder.path(), &[], &["check"]);
    assert_eq!(output.status.code(), Some(2));
    let start = "pullthrough.yaml: mirror.names: the sealed CA in ca does not cover late.example.org; expected ca.key";
    assert!(stderr(&output).starts_with(start), "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 1);
}

#[test]
fn ca_commands_use_the_configured_folder_and_registries() {
    let folder = folder_with("ca: {dir: mine}\nregistries: {quay.io: {}}\n");
    assert_eq!(pullthrough(folder.path(), &[], &["ca", "init"]).status.code(), Some(0));
    assert!(folder.path().join("mine/ca.crt").exists());
    let shown = stdout(&pullthrough(folder.path(), &[], &["ca", "show", "--config", "pullthrough.yaml"]));
    assert!(shown.contains("covers       quay.io") && !shown.contains("docker.io"), "{shown}");
    assert!(!shown.contains("not covered"), "{shown}");
}

#[test]
fn what_fails_is_one_sentence_and_status_1() {
    let folder = folder_with("");
    let output = pullthrough(folder.path(), &[], &["ca", "show"]);
    assert_eq!(output.status.code(), Some(1));
    let expected = "pullthrough: there is no CA in ca: run pullthrough ca init, or pullthrough serve\n";
    assert_eq!(stderr(&output), expected);
}

#[test]
fn a_reload_takes_what_changed_and_refuses_a_file_that_is_gone() {
    let folder = folder_with("registries: {quay.io: {}}\n");
    let file = folder.path().join("pullthrough.yaml");
    let sources = ConfigSources { defaults: vec![file.clone()], ..ConfigSources::default() };
    let first = loaded(&sources);
    assert_eq!(reload(&sources, &first).as_ref(), Ok(&first));
    write(&file, "registries: {quay.io: {push: allow}, ghcr.io: {}}\n", 0o644);
    assert_eq!(reload(&sources, &first).unwrap().registries.len(), 2);
    write(&file, "registries: {quay.io: {push: alow}}\n", 0o644);
    assert!(reload(&sources, &first).unwrap_err().to_string().contains(":1: registries.quay.io.push: found"));
    fs::remove_file(&file).unwrap();
    assert!(
        reload(&sources, &first)
            .unwrap_err()
            .to_string()
            .ends_with("no longer exists; expected the file that is in effect")
    );
}

#[test]
fn a_file_full_of_mistakes_is_told_in_part_and_soon() {
    let folder = folder_with(&"a: 1\n".repeat(2_000));
    let sources = ConfigSources { config: Some(folder.path().join("pullthrough.yaml")), ..ConfigSources::default() };
    assert_eq!(load(&sources).unwrap_err().iter().count(), 100);
}

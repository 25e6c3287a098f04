//! The image swap: docker-registry-proxy's environment and its CA, taken over by the real program.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use pullthrough::ca::Error;

use crate::ca::support::Lab;

fn openssl(folder: &Path, arguments: &[&str]) -> Output {
    let done = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl is installed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done
}

/// A CA as its script makes one, but for the length of the key; with what it leaves beside it.
fn make(folder: &Path, passphrase: &str, form: &[&str]) {
    fs::create_dir_all(folder).unwrap();
    let pass = format!("pass:{passphrase}");
    let generate = [&["genrsa", "-des3", "-passout", &pass, "-out", "ca.key"], form, &["2048"]].concat();
    openssl(folder, &generate);
    let profile = "[req]\ndistinguished_name = dn\n[dn]\n[IA]\nbasicConstraints = critical,CA:TRUE\n\
                   keyUsage = critical, digitalSignature, cRLSign, keyCertSign\nsubjectKeyIdentifier = hash\n";
    fs::write(folder.join("profile"), profile).unwrap();
    let subject = "/C=NL/ST=Noord Holland/L=Amsterdam/O=ME/OU=IT/CN=DockerMirrorBox CA Root proxy 2026.01.01 10:00";
    let request = ["req", "-new", "-x509", "-days", "1300", "-sha256", "-key", "ca.key", "-out", "ca.crt", "-passin"];
    let profile = ["-subj", subject, "-extensions", "IA", "-config", "profile"];
    openssl(folder, &[&request[..], &[&pass], &profile].concat());
    fs::write(folder.join("ca.srl"), "01\n").unwrap();
    fs::set_permissions(folder.join("ca.key"), Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn nodes_go_on_trusting_its_ca() {
    for form in [&["-traditional"][..], &[]] {
        let lab = Lab::new();
        make(&lab.config.dir, "foobar", form);
        let (root, key) = (lab.read("ca.crt"), lab.read("ca.key"));
        let authority = lab.open(&["quay.io"]);
        assert!(authority.covers(&"quay.io".parse().unwrap()) && !authority.sealed());
        assert!(authority.server_config(&"quay.io".parse().unwrap()).is_ok());
        let squeezed = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(squeezed(authority.root_pem()), squeezed(&root));
        assert!(lab.read("ca.crt") == root && lab.read("ca.key") == key, "its files stay as they are");
        openssl(&lab.config.dir, &["verify", "-CAfile", "ca.crt", "issuing.crt"]);
    }
}

#[test]
fn a_key_under_another_passphrase_is_an_error_that_says_so() {
    let lab = Lab::new();
    make(&lab.config.dir, "another", &[]);
    let error = lab.try_open(&["quay.io"]).err().unwrap();
    assert!(matches!(error, Error::BadKey(_)), "{error:?}");
    assert!(error.to_string().contains("without a passphrase"), "{error}");
}

fn program(command: &str, environment: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_pullthrough"));
    program.arg(command).current_dir(&folder).env_clear().envs(environment.iter().copied()).output().unwrap()
}

#[test]
fn its_environment_is_a_configuration() {
    let checked = program("check", &[("REGISTRIES", "quay.io ghcr.io"), ("CACHE_MAX_SIZE", "32g")]);
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(said.ends_with("3 registries: docker.io, ghcr.io, quay.io\n"), "{said}");
    let checked = program("check", &[("SEND_TIMEOUT", "60s")]);
    assert!(String::from_utf8(checked.stdout).unwrap().starts_with("note: SEND_TIMEOUT has no effect"));
}

#[test]
fn what_it_let_pass_unverified_is_refused_and_no_secret_is_told() {
    let environment = [
        ("VERIFY_SSL", "false"),
        ("AUTH_REGISTRIES", "quay.io:me:canary quay.io:me:canary"),
        ("REGISTRIES", "quay.io"),
    ];
    for command in ["check", "serve"] {
        let refused = program(command, &environment);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2));
        assert!(said.contains("ca_file") && said.contains("twice") && !said.contains("canary"), "{said}");
    }
}

//! Which certificate a client is made to trust for a mirror over TLS: ours by its fingerprint, or the operator's by its file.

use pullthrough::ca::Overview;

use super::*;
use crate::support::lab::OwnCertificate;

#[test]
fn over_tls_the_ca_is_trusted_by_its_fingerprint_and_for_the_mirror_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca");
    let mut init = program(&["ca", "init", "--ca-dir", ca.to_str().unwrap()]);
    assert!(init.current_dir(folder.path()).status().unwrap().success());
    let fingerprint = Overview::read(&ca).unwrap().unwrap().fingerprint;
    let with = [("PULLTHROUGH_CA_FILE", ca.join("ca.crt"))];
    let with = [(with[0].0, with[0].1.as_path())];
    let table = [
        ("docker", "/etc/docker/certs.d/m.example:5000/pullthrough.crt"),
        ("podman", "/etc/containers/certs.d/m.example:5000/pullthrough.crt"),
        ("containerd", "/etc/containerd/certs.d/pullthrough.crt"),
        ("k3s", "/etc/rancher/k3s/pullthrough.crt"),
        ("buildkit", "/etc/buildkit/pullthrough.crt"),
    ];
    for (client, path) in table {
        let machine = Machine::new();
        let script = script_of(client, TLS);
        for (given, expected) in [("", "fingerprint is missing"), (&"0".repeat(64), "this is another CA")] {
            let refused = machine.script(&script, &[given], &with, &machine.path());
            assert!(said(&refused).contains(expected), "{client}: {}", said(&refused));
            assert!(refused.status.code() == Some(1) && !machine.at(path).exists(), "{client}");
        }
        let done = machine.script(&script, &[&fingerprint], &with, &machine.path());
        assert!(done.status.success(), "{client}: {}", said(&done));
        assert!(machine.read(path).contains("BEGIN CERTIFICATE"), "{client}");
        assert!(!machine.at("/usr/local/share/ca-certificates").exists(), "only for the mirror");
        let named = machine.files().iter().filter(|(_, text)| text.contains(path)).count();
        assert_eq!(named, usize::from(!path.contains("/certs.d/m.")) * if client == "containerd" { 2 } else { 1 });
        let done = machine.script(&script, &["undo"], &[], &machine.path());
        assert!(done.status.success() && !machine.at(path).exists(), "{client}: {}", said(&done));
        let done = machine.script(&script, &["trusted"], &[], &machine.path());
        assert!(done.status.success() && !machine.at(path).exists(), "{client}: {}", said(&done));
        assert!(machine.files().iter().all(|(_, text)| !text.contains("pullthrough.crt")), "{client}");
    }
}

/// A mirror's certificate by a CA of its operator's, and the file with that CA.
fn own_certificate(folder: &Path) -> (&'static OwnCertificate, PathBuf) {
    let own = OwnCertificate::by_openssl(folder, "own", &["-addext", "subjectAltName=IP:127.0.0.1"]);
    let ca = folder.join("own-ca.pem");
    // A key beside the certificate, and a second certificate: the file is taken as it is, without the key.
    let pem = fs::read_to_string(&own.certificate).unwrap();
    fs::write(&ca, format!("{pem}{}{pem}", fs::read_to_string(&own.key).unwrap())).unwrap();
    (own, ca)
}

#[test]
fn a_ca_of_the_operators_is_trusted_for_the_mirror_by_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (own, ca) = own_certificate(folder.path());
    let ca = ca.to_str().unwrap();
    let pem = fs::read_to_string(&own.certificate).unwrap();
    for (client, path) in [
        ("docker", "/etc/docker/certs.d/m.example:5000/pullthrough.crt"),
        ("podman", "/etc/containers/certs.d/m.example:5000/pullthrough.crt"),
        ("containerd", "/etc/containerd/certs.d/pullthrough.crt"),
        ("k3s", "/etc/rancher/k3s/pullthrough.crt"),
    ] {
        let machine = Machine::new();
        let before = machine.files();
        machine.well(client, TLS, &["--apply", "--ca-file", ca]);
        assert_eq!(machine.read(path), format!("{pem}{pem}"), "{client}");
        machine.well(client, TLS, &["--undo"]);
        assert_eq!(machine.files(), before, "{client}");
        let script = script_of(client, TLS);
        let done = machine.script(&script, &["given"], &[("PULLTHROUGH_CA_FILE", Path::new(ca))], &machine.path());
        assert!(done.status.success() && machine.read(path) == format!("{pem}{pem}"), "{client}: {}", said(&done));
    }
    let machine = Machine::new();
    let before = machine.files();
    let none = folder.path().join("none");
    fs::write(&none, "none").unwrap();
    for (url, file, expected) in [
        (TLS, none.to_str().unwrap(), "has no certificate in PEM form"),
        (TLS, "/nowhere", "does not name a file"),
        (PLAIN, ca, "for a mirror with https://"),
    ] {
        let refused = machine.setup("podman", url, &["--apply", "--ca-file", file]);
        assert!(refused.status.code() == Some(1) && said(&refused).contains(expected), "{}", said(&refused));
    }
    assert_eq!(machine.files(), before);
}

#[test]
fn a_configuration_with_mirror_tls_has_no_ca_to_trust_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (own, ca) = own_certificate(folder.path());
    let config = folder.path().join("c.yaml");
    let text =
        format!("mirror: {{tls: {{cert_file: '{}', key_file: '{}'}}}}\n", own.certificate.display(), own.key.display());
    fs::write(&config, text).unwrap();
    let config = ["--config", config.to_str().unwrap()];
    let machine = Machine::new();
    let before = machine.files();
    let refused = machine.setup("containerd", TLS, &["--apply", config[0], config[1]]);
    assert!(refused.status.code() == Some(1) && said(&refused).contains("--ca-file"), "{}", said(&refused));
    assert_eq!(machine.files(), before);
    machine.well("containerd", TLS, &["--apply", config[0], config[1], "--ca-file", ca.to_str().unwrap()]);
}

#[tokio::test]
async fn what_the_mirror_shows_is_judged_before_anything_is_changed() {
    if !is_installed("curl") {
        return eprintln!("curl is not installed: its judgement is left out");
    }
    let folder = tempfile::tempdir().unwrap();
    let (own, ca) = own_certificate(folder.path());
    let (cert, key) = (own.certificate.display(), own.key.display());
    let hub = crate::support::Registry::start("docker.io");
    let plan = crate::support::Plan::new().registry(&hub, "");
    let proxy = plan.mirror(&format!("tls: {{cert_file: '{cert}', key_file: '{key}'}}")).start().await;
    let url = format!("https://{}", proxy.mirror());
    let answer = tokio::task::spawn_blocking(move || {
        let other = folder.path().join("other");
        let mut init = program(&["ca", "init", "--ca-dir", other.to_str().unwrap()]);
        assert!(init.current_dir(folder.path()).output().unwrap().status.success());
        let other = other.join("ca.crt");
        let machine = Machine::new();
        let before = machine.files();
        let refused = machine.setup("podman", &url, &["--apply", "--ca-file", other.to_str().unwrap()]);
        assert!(refused.status.code() == Some(1), "{}", said(&refused));
        assert!(said(&refused).contains("does not vouch for the certificate"), "{}", said(&refused));
        assert!(said(&refused).contains("--ca-file FILE"), "{}", said(&refused));
        assert_eq!(machine.files(), before);
        machine.well("podman", &url, &["--apply", "--ca-file", ca.to_str().unwrap()]);
    });
    answer.await.unwrap();
}

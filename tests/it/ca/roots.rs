//! Roots that other tools made: ours stays within their validity, and what strict verifiers refuse in them is told.

use std::path::Path;
use std::process::Command;

use pullthrough::cli::Print;
use pullthrough::cli::ca::{CaCommand, run};
use x509_parser::pem::parse_x509_pem;

use crate::ca::support::{Lab, host, permitted};
use crate::support::{Log, program};

/// A configuration of openssl that adds nothing of its own.
const BARE: &str = "[req]\ndistinguished_name = dn\n[dn]\n";
const GOOD: [&str; 3] =
    ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign", "subjectKeyIdentifier=hash"];

fn openssl(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").current_dir(folder).args(arguments).output().expect("openssl is installed");
    let words = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&words).into_owned())
}

/// A folder with a root of these extensions, made just now.
fn root(extensions: &[&str]) -> Lab {
    let lab = Lab::new();
    std::fs::create_dir(&lab.config.dir).unwrap();
    std::fs::write(lab.path("bare.cnf"), BARE).unwrap();
    let extensions: Vec<&str> = extensions.iter().flat_map(|extension| ["-addext", *extension]).collect();
    let request = ["req", "-x509", "-nodes", "-days", "30", "-newkey", "rsa:2048", "-subj", "/CN=Example Root"];
    let files = ["-config", "bare.cnf", "-keyout", "ca.key", "-out", "ca.crt"];
    let (made, words) = openssl(&lab.config.dir, &[&request[..], &files, &extensions].concat());
    assert!(made, "{words}");
    lab
}

fn validity(pem: &str) -> (i64, i64) {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).unwrap();
    let certificate = pem.parse_x509().unwrap();
    (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp())
}

fn shown(lab: &Lab, json: bool) -> String {
    let mut out = Vec::new();
    let command = CaCommand::Show { print: Print { json } };
    run(&command, &lab.config, &permitted(&["quay.io"]), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The leaf that clients get, in a file beside the others.
fn leaf(lab: &Lab) -> (i64, i64) {
    let authority = lab.open(&["quay.io"]);
    let server = authority.server_config(&host("quay.io")).unwrap();
    let client = crate::ca::support::client(authority.root_pem(), &[&rustls::version::TLS13], &[]);
    let (client, _) = crate::ca::support::handshake(&client, &server, "quay.io").unwrap();
    let der = &client.peer_certificates().unwrap()[0];
    std::fs::write(lab.path("leaf.der"), der).unwrap();
    let (converted, words) =
        openssl(&lab.config.dir, &["x509", "-inform", "der", "-in", "leaf.der", "-out", "leaf.crt"]);
    assert!(converted, "{words}");
    validity(&lab.read("leaf.crt"))
}

#[test]
fn what_a_young_root_signs_never_begins_before_it_nor_ends_after_it() {
    let lab = root(&GOOD);
    let leaf = leaf(&lab);
    let (root, issuing) = (validity(&lab.read("ca.crt")), validity(&lab.read("issuing.crt")));
    for (begin, end) in [issuing, leaf] {
        assert!(root.0 <= begin && end <= root.1, "{root:?} {issuing:?} {leaf:?}");
    }
    assert!(issuing.0 <= leaf.0 && leaf.1 <= issuing.1, "{issuing:?} {leaf:?}");
    let strict = ["verify", "-x509_strict", "-CAfile", "ca.crt", "-untrusted", "issuing.crt", "leaf.crt"];
    assert_eq!(openssl(&lab.config.dir, &strict), (true, "leaf.crt: OK\n".to_owned()));
    assert!(!shown(&lab, false).contains("strict"));
}

#[test]
fn an_issuing_certificate_that_began_before_its_root_is_made_again() {
    // As an earlier version made it: the root that comes afterwards has the same key and name, and begins later.
    let lab = root(&GOOD);
    lab.open(&["quay.io"]);
    let before = lab.read("issuing.crt");
    let later = ["x509", "-in", "ca.crt", "-signkey", "ca.key", "-days", "20", "-out", "later.crt"];
    let (made, words) = openssl(&lab.config.dir, &later);
    assert!(made, "{words}");
    std::fs::rename(lab.path("later.crt"), lab.path("ca.crt")).unwrap();
    lab.open(&["quay.io"]);
    let (root, issuing) = (validity(&lab.read("ca.crt")), validity(&lab.read("issuing.crt")));
    assert!(lab.read("issuing.crt") != before && root.0 <= issuing.0 && issuing.1 <= root.1);
}

#[test]
fn a_root_that_strict_verifiers_refuse_is_named_with_what_is_wrong_and_used() {
    let [constraints, usage, identifier] = GOOD;
    for (extensions, fault) in [
        ([constraints, usage, "subjectKeyIdentifier=none"], "it has no subjectKeyIdentifier"),
        (["basicConstraints=CA:TRUE", usage, identifier], "its basicConstraints are not critical"),
        ([constraints, "nsComment=none", identifier], "it has no keyUsage with keyCertSign"),
    ] {
        let lab = root(&extensions);
        let log = Log::begin();
        leaf(&lab);
        assert_eq!(log.warnings(&["ca.crt", fault, "All others accept it"]).len(), 1, "{fault}");
        drop(log);
        let verify = ["verify", "-CAfile", "ca.crt", "-untrusted", "issuing.crt", "leaf.crt"];
        assert!(openssl(&lab.config.dir, &verify).0, "{fault}: others accept it");
        let strict = [&verify[..1], &["-x509_strict"], &verify[1..]].concat();
        assert!(!openssl(&lab.config.dir, &strict).0, "{fault}: strict ones do not");
        let text = shown(&lab, false);
        for words in [fault, "Python 3.13", "-x509_strict", "All others accept it"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let json: serde_json::Value = serde_json::from_str(&shown(&lab, true)).unwrap();
        assert_eq!(json["root"]["strict_faults"], serde_json::json!([fault]));
        let config = format!("ca: {{dir: '{}'}}\n", lab.config.dir.display());
        std::fs::write(lab.path("pullthrough.yaml"), config).unwrap();
        let check = program(&lab.config.dir).arg("check").output().unwrap();
        let text = String::from_utf8(check.stdout).unwrap();
        assert!(check.status.success() && text.contains(fault) && text.contains("All others accept it"), "{text}");
    }
}

//! `pullthrough ca`: what its words say, and that the root's key is never lost on its way out.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;

use pullthrough::cli::Print;
use pullthrough::cli::ca::{CaCommand, run};

use crate::ca::support::{Lab, permitted};

const QUAY: &[&str] = &["quay.io", "10.0.0.1"];

fn say(lab: &Lab, command: &CaCommand, patterns: &[&str]) -> anyhow::Result<String> {
    let mut out = Vec::new();
    run(command, &lab.config, &permitted(patterns), &mut out)?;
    Ok(String::from_utf8(out)?)
}

fn show(json: bool) -> CaCommand {
    CaCommand::Show { print: Print { json } }
}

fn seal() -> CaCommand {
    CaCommand::Seal { out: None }
}

#[test]
fn init_makes_a_ca_once_and_names_its_fingerprint() {
    let lab = Lab::new();
    let first = say(&lab, &CaCommand::Init, QUAY).unwrap();
    assert!(first.contains("created a CA") && first.contains(lab.open(QUAY).fingerprint()), "{first}");
    let before = lab.contents();
    assert!(say(&lab, &CaCommand::Init, QUAY).unwrap().contains("already exists"));
    assert!(lab.contents() == before);
}

#[test]
fn show_and_seal_make_nothing() {
    let lab = Lab::new();
    for command in [show(false), show(true), seal()] {
        let error = say(&lab, &command, QUAY).unwrap_err();
        assert!(error.to_string().contains("pullthrough ca init"), "{error}");
        assert!(!lab.config.dir.exists());
    }
}

#[test]
fn show_tells_what_is_covered_and_what_is_not() {
    let lab = Lab::new();
    let fingerprint = lab.open(QUAY).fingerprint().to_owned();
    let text = say(&lab, &show(false), &["quay.io", "ghcr.io"]).unwrap();
    for words in [&*fingerprint, "quay.io and its subdomains", "10.0.0.1/32", "not covered  ghcr.io", "on this machine"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    fs::remove_file(lab.path("ca.key")).unwrap();
    let json = say(&lab, &show(true), &["quay.io", "ghcr.io"]).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["root"]["fingerprint_sha256"], *fingerprint);
    assert_eq!(json["sealed"], true);
    assert_eq!(json["issuing"]["domains"], serde_json::json!(["quay.io"]));
    assert_eq!(json["issuing"]["networks"], serde_json::json!(["10.0.0.1/32"]));
    assert_eq!(json["issuing"]["not_covered"], serde_json::json!(["ghcr.io"]));
}

#[test]
fn seal_prints_the_key_once_and_what_it_printed_unseals() {
    let lab = Lab::new();
    lab.open(QUAY);
    let key = lab.read("ca.key");
    let text = say(&lab, &seal(), QUAY).unwrap();
    assert!(text.contains(&key));
    assert!(!lab.path("ca.key").exists());
    assert!(lab.open(QUAY).sealed());

    let again = say(&lab, &seal(), QUAY).unwrap();
    assert!(again.contains("already sealed") && !again.contains("PRIVATE KEY"), "{again}");

    fs::write(lab.path("ca.key"), &text).unwrap();
    fs::set_permissions(lab.path("ca.key"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!lab.open(&["ghcr.io"]).sealed());
}

#[test]
fn seal_covers_the_present_configuration_first() {
    let lab = Lab::new();
    lab.open(&["quay.io"]);
    say(&lab, &seal(), &["quay.io", "ghcr.io"]).unwrap();
    assert!(lab.open(&[]).covers(&"ghcr.io".parse().unwrap()));
}

#[test]
fn seal_to_a_file_is_private_and_overwrites_nothing() {
    let lab = Lab::new();
    lab.open(QUAY);
    let key = lab.read("ca.key");
    let file = lab.config.dir.parent().unwrap().join("root.key");
    fs::write(&file, "precious").unwrap();
    let command = CaCommand::Seal { out: Some(file.clone()) };
    say(&lab, &command, QUAY).unwrap_err();
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert!(lab.path("ca.key").exists());

    fs::remove_file(&file).unwrap();
    let text = say(&lab, &command, QUAY).unwrap();
    assert!(!text.contains("PRIVATE KEY"), "{text}");
    assert_eq!(fs::read_to_string(&file).unwrap(), key);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!lab.path("ca.key").exists());
}

/// Takes so many bytes and then breaks, as a pipe whose reader left.
struct Broken(usize);

impl Write for Broken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.0 == 0 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

#[test]
fn a_key_that_did_not_get_out_stays() {
    let lab = Lab::new();
    lab.open(QUAY);
    let key = lab.read("ca.key");
    for bytes in [0, 10, 300] {
        run(&seal(), &lab.config, &permitted(QUAY), &mut Broken(bytes)).unwrap_err();
        assert_eq!(lab.read("ca.key"), key);
    }
}

//! The CA's folder: modes, damage, interrupted starts, two processes at once; nothing is ever overwritten by guess.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use pullthrough::ca::Error;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};

use crate::ca::support::{Lab, days, host};

const QUAY: &[&str] = &["quay.io"];

fn made() -> Lab {
    let lab = Lab::new();
    lab.open(QUAY);
    lab
}

/// Opens a damaged folder: the error, once it is shown that nothing was changed.
fn refused(lab: &Lab, patterns: &[&str]) -> Error {
    let before = lab.contents();
    let error = lab.try_open(patterns).err().expect("a damaged folder was opened");
    assert!(lab.contents() == before, "the folder was changed: {error}");
    error
}

fn write(lab: &Lab, name: &str, text: &str, mode: u32) {
    fs::write(lab.path(name), text).unwrap();
    fs::set_permissions(lab.path(name), Permissions::from_mode(mode)).unwrap();
}

fn remove(lab: &Lab, name: &str) {
    fs::remove_file(lab.path(name)).unwrap();
}

#[test]
fn keys_are_their_owners_and_certificates_everybodys() {
    let lab = made();
    let mode = |name: &str| fs::metadata(lab.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode("ca.key"), mode("issuing.key")], [0o600, 0o600]);
    assert_eq!([mode("ca.crt"), mode("issuing.crt")], [0o644, 0o644]);
    let names: Vec<_> = lab.contents().into_iter().map(|(path, _)| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["ca.crt", "ca.key", "issuing.crt", "issuing.key"]);
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    for (name, mode) in [("ca.key", 0o644), ("ca.key", 0o640), ("issuing.key", 0o604), ("issuing.key", 0o620)] {
        let lab = made();
        fs::set_permissions(lab.path(name), Permissions::from_mode(mode)).unwrap();
        let error = refused(&lab, QUAY);
        assert!(matches!(error, Error::Exposed { mode: seen, .. } if seen == mode), "{name} {mode:o}: {error:?}");
        assert!(error.to_string().contains("chmod 600"));
    }
}

#[test]
fn half_a_pair_is_refused_and_the_missing_file_named() {
    for missing in ["ca.crt", "issuing.crt", "issuing.key"] {
        let lab = made();
        remove(&lab, missing);
        let error = refused(&lab, QUAY);
        assert!(matches!(error, Error::Half { .. }), "{missing}: {error:?}");
        assert!(error.to_string().contains(missing), "{error}");
    }
}

#[test]
fn a_lost_issuing_pair_is_made_again_while_the_roots_key_is_there() {
    let lab = made();
    remove(&lab, "issuing.crt");
    remove(&lab, "issuing.key");
    assert!(lab.open(QUAY).covers(&host("quay.io")));

    remove(&lab, "issuing.crt");
    remove(&lab, "issuing.key");
    remove(&lab, "ca.key");
    assert!(matches!(refused(&lab, QUAY), Error::NoRootKey(_)));
}

#[test]
fn issuing_files_without_a_root_do_not_become_a_new_ca() {
    let lab = made();
    remove(&lab, "ca.crt");
    remove(&lab, "ca.key");
    assert!(matches!(refused(&lab, QUAY), Error::NoRoot(_)));
}

#[test]
fn keys_of_another_certificate_are_refused() {
    for name in ["ca.key", "issuing.key"] {
        let (lab, other) = (made(), made());
        write(&lab, name, &other.read(name), 0o600);
        assert!(matches!(refused(&lab, QUAY), Error::Mismatch { .. }), "{name}");
    }
}

#[test]
fn an_issuing_pair_of_another_root_is_refused_whatever_is_permitted() {
    for patterns in [QUAY, &["ghcr.io"]] {
        let (lab, other) = (made(), made());
        write(&lab, "issuing.crt", &other.read("issuing.crt"), 0o644);
        write(&lab, "issuing.key", &other.read("issuing.key"), 0o600);
        assert!(matches!(refused(&lab, patterns), Error::Foreign { .. }), "{patterns:?}");
    }
}

#[test]
fn what_is_no_certificate_and_no_key_is_refused() {
    let lab = made();
    let (certificate, key) = (lab.read("ca.crt"), lab.read("ca.key"));
    let garbage = ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key];
    for name in ["ca.crt", "issuing.crt"] {
        let lab = made();
        for text in garbage.iter().copied().chain([format!("{certificate}{key}").as_str()]) {
            write(&lab, name, text, 0o644);
            assert!(matches!(refused(&lab, QUAY), Error::BadCertificate(_)), "{name}: {text}");
        }
    }
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIBpjBABgkqhkiG9w0BBQ0w\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for name in ["ca.key", "issuing.key"] {
        let lab = made();
        for text in ["", "garbage", &certificate, encrypted] {
            write(&lab, name, text, 0o600);
            assert!(matches!(refused(&lab, QUAY), Error::BadKey(_)), "{name}: {text}");
        }
        fs::write(lab.path(name), [0xff, 0xfe]).unwrap();
        assert!(matches!(refused(&lab, QUAY), Error::BadKey(_)), "{name}: not text");
    }
}

#[test]
fn a_certificate_that_is_no_ca_is_refused() {
    let lab = Lab::new();
    fs::create_dir(&lab.config.dir).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["quay.io".to_owned()]).unwrap();
    write(&lab, "ca.crt", &params.self_signed(&key).unwrap().pem(), 0o644);
    write(&lab, "ca.key", &key.serialize_pem(), 0o600);
    assert!(matches!(refused(&lab, QUAY), Error::NotCa(_)));
}

#[test]
fn a_root_under_which_no_leaf_would_verify_is_refused_before_anything_is_minted() {
    let own_root = |adjust: fn(&mut CertificateParams)| {
        let lab = Lab::new();
        fs::create_dir(&lab.config.dir).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        adjust(&mut params);
        write(&lab, "ca.crt", &params.self_signed(&key).unwrap().pem(), 0o644);
        write(&lab, "ca.key", &key.serialize_pem(), 0o600);
        lab
    };
    let usable = own_root(|params| params.distinguished_name.push(DnType::CommonName, "a root of the company"));
    assert!(usable.open(QUAY).covers(&host("quay.io")));
    let shallow = own_root(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    assert!(matches!(refused(&shallow, QUAY), Error::Shallow(_)));
}

#[test]
fn an_issuing_certificate_without_constraints_is_not_used() {
    let lab = made();
    let root = KeyPair::from_pem(&lab.read("ca.key")).unwrap();
    let root = rcgen::Issuer::from_ca_cert_pem(&lab.read("ca.crt"), root).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    write(&lab, "issuing.crt", &params.signed_by(&key, &root).unwrap().pem(), 0o644);
    write(&lab, "issuing.key", &key.serialize_pem(), 0o600);
    let root_key = lab.read("ca.key");
    remove(&lab, "ca.key");
    assert!(matches!(refused(&lab, QUAY), Error::Unconstrained(_)));
    write(&lab, "ca.key", &root_key, 0o600);
    assert!(!lab.open(QUAY).covers(&host("ghcr.io")), "minted again with them");
}

#[test]
fn expired_certificates_and_wrong_clocks_are_told_apart() {
    let lab = made();
    let now = SystemTime::now();
    let before = lab.contents();
    let early = lab.open_at(QUAY, now - days(2)).err();
    assert!(matches!(early, Some(Error::NotYetValid { .. })), "{early:?}");
    let late = lab.open_at(QUAY, now + days(3651)).err();
    assert!(matches!(&late, Some(Error::Expired { path, .. }) if path.ends_with("ca.crt")), "{late:?}");
    remove(&lab, "ca.key");
    let sealed = lab.open_at(QUAY, now + days(5 * 365 + 1)).err();
    assert!(matches!(&sealed, Some(Error::Expired { path, .. }) if path.ends_with("issuing.crt")), "{sealed:?}");
    assert!(sealed.unwrap().to_string().contains("put ca.key back"));
    write(&lab, "ca.key", &String::from_utf8(before[1].1.clone()).unwrap(), 0o600);
    assert!(lab.contents() == before);
    lab.open_at(QUAY, now + days(5 * 365 + 1)).unwrap();
}

#[test]
fn no_ca_is_made_by_a_clock_that_was_never_set() {
    let lab = Lab::new();
    let unset = lab.open_at(QUAY, SystemTime::UNIX_EPOCH + Duration::from_secs(60)).err();
    assert!(matches!(unset, Some(Error::Clock(_))), "{unset:?}");
    assert!(!lab.path("ca.key").exists());
}

/// Every state that a crash can leave, by cutting the writer's steps off one by one.
#[test]
fn an_interrupted_replacement_is_finished_or_undone_by_the_next_start() {
    let (old, new) = (made(), made());
    fs::copy(old.path("ca.crt"), new.path("ca.crt")).unwrap();
    fs::copy(old.path("ca.key"), new.path("ca.key")).unwrap();
    remove(&new, "issuing.crt");
    remove(&new, "issuing.key");
    new.open(QUAY);
    let (certificate, key) = (new.read("issuing.crt"), new.read("issuing.key"));
    let former = (old.read("issuing.crt"), old.read("issuing.key"));
    let pair = |lab: &Lab| (lab.read("issuing.crt"), lab.read("issuing.key"));

    let staged: [&[(&str, &str)]; 3] = [
        &[("issuing.key.new", "cut sho")],
        &[("issuing.key.new", &key), ("issuing.crt.new", "")],
        &[("issuing.key.new", &key), ("issuing.crt.new", &certificate)],
    ];
    for files in staged {
        files.iter().for_each(|(name, text)| write(&old, name, text, 0o600));
        old.open(QUAY);
        assert!(pair(&old) == former, "undone");
        assert_eq!(old.contents().len(), 4);
    }
    write(&old, "issuing.key", &key, 0o600);
    write(&old, "issuing.crt.new", &certificate, 0o644);
    old.open(QUAY);
    assert!(pair(&old) == (certificate, key), "finished");
    assert_eq!(old.contents().len(), 4);
}

#[test]
fn an_interrupted_first_start_is_completed_with_the_key_that_is_there() {
    let done = made();
    let lab = Lab::new();
    fs::create_dir(&lab.config.dir).unwrap();
    write(&lab, "ca.key", &done.read("ca.key"), 0o600);
    write(&lab, "ca.crt.new", &done.read("ca.crt"), 0o644);
    let authority = lab.open(QUAY);
    assert_eq!(authority.root_pem(), done.read("ca.crt"));
    assert_eq!(lab.contents().len(), 4);

    let lab = Lab::new();
    fs::create_dir(&lab.config.dir).unwrap();
    write(&lab, "ca.key.new", &done.read("ca.key"), 0o600);
    assert_ne!(lab.open(QUAY).root_pem(), done.read("ca.crt"), "made anew: nobody ever saw that one");
}

#[test]
fn a_staged_certificate_that_fits_no_key_is_left_alone() {
    let (lab, other) = (made(), made());
    for text in [other.read("issuing.crt"), "garbage".to_owned()] {
        write(&lab, "issuing.crt.new", &text, 0o644);
        assert!(matches!(refused(&lab, QUAY), Error::Leftover(_)), "{text}");
    }
}

#[test]
fn starts_at_the_same_time_agree_on_one_ca() {
    for _ in 0..5 {
        let lab = Lab::new();
        let together = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            let start = || {
                together.wait();
                lab.open(QUAY).fingerprint().to_owned()
            };
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            let seen: Vec<_> = starts.into_iter().map(|one| one.join().unwrap()).collect();
            assert!(seen.iter().all(|fingerprint| *fingerprint == seen[0]), "{seen:?}");
        });
        lab.open(QUAY);
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let mut lab = Lab::new();
    fs::write(&lab.config.dir, "a file").unwrap();
    lab.config.dir = lab.config.dir.join("ca");
    let error = lab.try_open(QUAY).err().unwrap();
    assert!(matches!(&error, Error::Io { doing: "create", .. }), "{error:?}");
}

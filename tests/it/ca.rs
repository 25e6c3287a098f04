//! The CA in use: what its certificates say, what they are accepted for, when they are minted again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, SystemTime};

use pullthrough::ca::{CertificateAuthority, Error};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, HandshakeKind, ProtocolVersion};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer, X509Certificate};

mod cli;
mod clients;
mod folder;
mod roots;
pub(crate) mod support;

use support::{Lab, client, days, handshake, host, period, permitted};

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&TLS13, &TLS12];

fn parsed<T>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).unwrap();
    look(&pem.parse_x509().unwrap())
}

fn leaf<T>(authority: &CertificateAuthority, name: &str, look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let server = authority.server_config(&host(name)).unwrap();
    let (client, _) = handshake(&client(authority.root_pem(), BOTH, &[]), &server, name).unwrap();
    let chain = client.peer_certificates().unwrap();
    assert_eq!(chain.len(), 2, "leaf and issuing certificate, not the root");
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    look(&leaf)
}

fn seconds(moment: SystemTime) -> i64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

#[test]
fn the_root_may_sign_one_authority_below_it_and_lives_ten_years() {
    let (lab, now) = (Lab::new(), SystemTime::now());
    lab.open_at(&["quay.io"], now).unwrap();
    parsed(&lab.read("ca.crt"), |root| {
        let constraints = root.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(1));
        let usage = root.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && !usage.value.digital_signature());
        assert_eq!(root.subject(), root.issuer());
        assert!(root.subject().to_string().contains("CN=pullthrough CA ("), "{}", root.subject());
        assert_eq!(root.validity().not_before.timestamp(), seconds(now - days(1)));
        assert_eq!(root.validity().not_after.timestamp(), seconds(now + days(3650)));
        assert!(root.name_constraints().unwrap().is_none(), "Java ignores those of a trusted root");
    });
}

#[test]
fn the_issuing_certificate_is_limited_to_what_is_permitted() {
    let lab = Lab::new();
    lab.open(&["quay.io", "*.pkg.dev", "10.1.2.3"]);
    parsed(&lab.read("issuing.crt"), |issuing| {
        let constraints = issuing.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(0));
        let usage = issuing.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign());
        let purposes = issuing.extended_key_usage().unwrap().unwrap().value;
        assert!(purposes.server_auth && !purposes.client_auth && !purposes.any);
        let names = issuing.name_constraints().unwrap().unwrap();
        assert!(names.critical);
        let bases = |trees: &Option<Vec<x509_parser::extensions::GeneralSubtree<'_>>>| -> Vec<String> {
            trees.iter().flatten().map(|tree| tree.base.to_string()).collect()
        };
        assert_eq!(bases(&names.value.permitted_subtrees).len(), 4);
        let permitted = names.value.permitted_subtrees.as_ref().unwrap();
        assert!(matches!(permitted[0].base, GeneralName::DNSName("pkg.dev")));
        assert!(matches!(permitted[1].base, GeneralName::DNSName("quay.io")));
        assert!(matches!(permitted[2].base, GeneralName::IPAddress(&[10, 1, 2, 3, 255, 255, 255, 255])));
        assert!(
            matches!(permitted[3].base, GeneralName::IPAddress(bytes) if bytes == [0xff; 32]),
            "a stand-in for IPv6"
        );
        assert!(names.value.excluded_subtrees.is_none());
    });
}

#[test]
fn addresses_are_excluded_where_none_is_permitted() {
    let lab = Lab::new();
    lab.open(&["quay.io"]);
    parsed(&lab.read("issuing.crt"), |issuing| {
        let excluded = issuing.name_constraints().unwrap().unwrap().value.excluded_subtrees.clone().unwrap();
        let bases: Vec<_> = excluded.iter().map(|tree| tree.base.clone()).collect();
        assert!(
            matches!(bases[..], [GeneralName::IPAddress(&[0, 0, 0, 0, 0, 0, 0, 0]), GeneralName::IPAddress(v6)] if v6 == [0; 32])
        );
    });
}

#[test]
fn identifiers_chain_from_leaf_to_root() {
    let lab = Lab::new();
    let authority = lab.open(&["quay.io"]);
    let ids = |certificate: &X509Certificate<'_>| {
        let (mut own, mut above) = (Vec::new(), Vec::new());
        for extension in certificate.iter_extensions() {
            match extension.parsed_extension() {
                x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => own = id.0.to_vec(),
                x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => {
                    above = id.key_identifier.as_ref().unwrap().0.to_vec();
                }
                _ => {}
            }
        }
        (own, above)
    };
    let (root, _) = parsed(&lab.read("ca.crt"), ids);
    let (issuing, above_issuing) = parsed(&lab.read("issuing.crt"), ids);
    let (own, above_leaf) = leaf(&authority, "quay.io", ids);
    assert!(!root.is_empty() && !own.is_empty());
    assert_eq!(above_issuing, root);
    assert_eq!(above_leaf, issuing);
}

#[test]
fn a_leaf_is_for_one_host_short_lived_and_backdated_a_day() {
    let (lab, now) = (Lab::new(), SystemTime::now());
    let authority = lab.open_at(&["quay.io", "10.1.2.3", "2001:db8::1"], now).unwrap();
    leaf(&authority, "cdn.quay.io", |leaf| {
        let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert!(matches!(names[..], [GeneralName::DNSName("cdn.quay.io")]));
        assert!(!leaf.is_ca());
        assert!(leaf.extended_key_usage().unwrap().unwrap().value.server_auth);
        assert!(leaf.key_usage().unwrap().unwrap().value.digital_signature());
        assert_eq!(leaf.validity().not_before.timestamp(), seconds(now - days(1)));
        assert_eq!(leaf.validity().not_after.timestamp(), seconds(now + days(7)));
        assert_eq!(leaf.subject().iter_common_name().count(), 0);
    });
    for (name, octets) in [
        ("10.1.2.3", vec![10, 1, 2, 3]),
        ("2001:db8::1", "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec()),
    ] {
        leaf(&authority, name, |leaf| {
            let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
            assert!(matches!(names[..], [GeneralName::IPAddress(bytes)] if bytes == octets), "{name}");
        });
    }
}

#[test]
fn each_leaf_has_a_key_of_its_own() {
    let authority = Lab::new();
    let authority = authority.open(&["quay.io", "ghcr.io"]);
    let key = |name| leaf(&authority, name, |leaf| leaf.public_key().raw.to_vec());
    assert_ne!(key("quay.io"), key("ghcr.io"));
    assert_eq!(key("quay.io"), key("quay.io"));
}

#[test]
fn both_versions_and_both_protocols_are_spoken_and_sessions_resume() {
    let lab = Lab::new();
    let authority = lab.open(&["quay.io"]);
    let server = authority.server_config(&host("quay.io")).unwrap();
    let versions = [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)];
    for (version, spoken) in versions {
        for offered in ["h2", "http/1.1"] {
            let client = client(authority.root_pem(), &[version], &[offered]);
            let (first, _) = handshake(&client, &server, "quay.io").unwrap();
            assert_eq!(first.protocol_version(), Some(spoken));
            assert_eq!(first.alpn_protocol(), Some(offered.as_bytes()));
            let (second, _) = handshake(&client, &server, "quay.io").unwrap();
            assert_eq!(second.handshake_kind(), Some(HandshakeKind::Resumed), "{spoken:?}");
        }
    }
}

#[test]
fn a_stolen_issuing_key_signs_for_nothing_else() {
    let lab = Lab::new();
    let authority = lab.open(&["quay.io", "10.1.2.3"]);
    let client = client(authority.root_pem(), BOTH, &[]);
    handshake(&client, &lab.forge("quay.io"), "quay.io").unwrap();
    for name in ["evil.example", "evilquay.io", "10.1.2.4", "::1"] {
        let refused = handshake(&client, &lab.forge(name), name).unwrap_err();
        assert!(format!("{refused:?}").contains("NameConstraintViolation"), "{name}: {refused:?}");
    }
}

#[test]
fn callers_at_the_same_time_mint_one_leaf() {
    let lab = Lab::new();
    let authority = lab.open(&["quay.io"]);
    for round in 1..=100 {
        let name = host(&format!("r{round}.quay.io"));
        let together = Barrier::new(8);
        std::thread::scope(|scope| {
            let ask = || {
                together.wait();
                authority.server_config(&name).unwrap()
            };
            let asked: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            let configs: Vec<_> = asked.into_iter().map(|one| one.join().unwrap()).collect();
            assert!(configs.iter().all(|config| Arc::ptr_eq(config, &configs[0])));
        });
        assert_eq!(authority.leaves_minted(), round);
    }
}

#[test]
fn a_leaf_is_minted_again_before_it_expires_and_when_the_clock_was_set_back() {
    let mut lab = Lab::new();
    lab.config.leaf_lifetime = period(days(3));
    let start = SystemTime::now();
    let ahead = Arc::new(AtomicU64::new(days(100).as_secs()));
    let clock = {
        let ahead = ahead.clone();
        move || start + Duration::from_secs(ahead.load(Ordering::Relaxed))
    };
    lab.open(&["quay.io"]);
    let authority = CertificateAuthority::open_with_clock(&lab.config, &permitted(&["quay.io"]), clock).unwrap();
    let minted_at = |day: u64| {
        ahead.store(days(day).as_secs(), Ordering::Relaxed);
        authority.server_config(&host("quay.io")).unwrap();
        authority.leaves_minted()
    };
    assert_eq!(minted_at(100), 1);
    assert_eq!(minted_at(101), 1);
    assert_eq!(minted_at(102), 2);
    assert_eq!(minted_at(90), 3);
}

#[test]
fn a_leaf_does_not_outlive_the_issuing_certificate() {
    let mut lab = Lab::new();
    lab.config.leaf_lifetime = period(Duration::MAX);
    let authority = lab.open(&["quay.io"]);
    let issuing = parsed(&lab.read("issuing.crt"), |issuing| issuing.validity().not_after.timestamp());
    assert_eq!(leaf(&authority, "quay.io", |leaf| leaf.validity().not_after.timestamp()), issuing);
    assert_eq!(seconds(authority.expiry()), issuing);
}

#[test]
fn what_is_not_covered_is_not_signed() {
    let lab = Lab::new();
    let authority = lab.open(&["quay.io"]);
    for name in ["ghcr.io", "127.0.0.1", "evilquay.io"] {
        assert!(!authority.covers(&host(name)));
        assert!(matches!(authority.server_config(&host(name)), Err(Error::NotCovered(_))), "{name}");
    }
    assert_eq!(authority.leaves_minted(), 0);
}

#[test]
fn the_issuing_certificate_is_minted_again_when_registries_change_and_not_otherwise() {
    let lab = Lab::new();
    let root = lab.open(&["quay.io"]).root_pem().to_owned();
    let (certificate, key) = (lab.read("issuing.crt"), lab.read("issuing.key"));
    lab.open(&["quay.io", "cdn.quay.io"]);
    assert_eq!(lab.read("issuing.crt"), certificate, "the same constraints");

    let wider = lab.open(&["quay.io", "ghcr.io"]);
    assert_ne!(lab.read("issuing.crt"), certificate);
    assert_ne!(lab.read("issuing.key"), key, "a stolen key gains nothing");
    assert!(wider.covers(&host("ghcr.io")));
    assert_eq!(wider.root_pem(), root);

    let narrower = lab.open(&["ghcr.io"]);
    assert!(!narrower.covers(&host("quay.io")));
    assert_eq!(narrower.lacks(&permitted(&["quay.io", "ghcr.io"])), ["quay.io"]);
}

#[test]
fn the_issuing_certificate_is_minted_again_in_its_last_year() {
    let (lab, now) = (Lab::new(), SystemTime::now());
    lab.open_at(&["quay.io"], now).unwrap();
    let first = lab.read("issuing.crt");
    lab.open_at(&["quay.io"], now + days(3 * 365)).unwrap();
    assert_eq!(lab.read("issuing.crt"), first);
    for years in [4, 9] {
        let authority = lab.open_at(&["quay.io"], now + days(years * 365 + 1)).unwrap();
        assert!(authority.expiry() > now + days((years + 1) * 365 - 10), "{years}");
    }
    let last = lab.read("issuing.crt");
    lab.open_at(&["quay.io"], now + days(3640)).unwrap();
    assert_eq!(lab.read("issuing.crt"), last, "none would live longer than the root");
}

#[test]
fn a_sealed_ca_keeps_signing_for_what_it_covers_and_says_what_it_does_not() {
    let lab = Lab::new();
    assert!(!lab.open(&["quay.io"]).sealed());
    std::fs::remove_file(lab.path("ca.key")).unwrap();
    let before = lab.contents();
    let wanted = ["quay.io", "ghcr.io", "10.0.0.1"];
    let authority = lab.open(&wanted);
    assert!(authority.sealed());
    assert!(authority.covers(&host("quay.io")));
    assert!(!authority.covers(&host("ghcr.io")));
    assert_eq!(authority.lacks(&permitted(&wanted)), ["ghcr.io", "10.0.0.1/32"]);
    leaf(&authority, "quay.io", |_| {});
    assert_eq!(lab.contents(), before);
}

#[test]
fn another_root_is_not_trusted_by_accident() {
    let (one, other) = (Lab::new(), Lab::new());
    let (one, other) = (one.open(&["quay.io"]), other.open(&["quay.io"]));
    assert_ne!(one.fingerprint(), other.fingerprint());
    let subject = |pem: &str| parsed(pem, |root| root.subject().to_string());
    assert_ne!(subject(one.root_pem()), subject(other.root_pem()), "two in one trust store stay two");
    let server = other.server_config(&host("quay.io")).unwrap();
    let refused = handshake(&client(one.root_pem(), BOTH, &[]), &server, "quay.io").unwrap_err();
    assert_eq!(refused, rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
}

#[test]
fn a_leaf_lifetime_below_an_hour_is_refused() {
    let mut lab = Lab::new();
    lab.config.leaf_lifetime = period(Duration::from_secs(3599));
    assert!(matches!(lab.try_open(&["quay.io"]), Err(Error::LeafLifetime)));
}

#[test]
fn no_number_of_hosts_fills_the_memory() {
    let authority = Lab::new().open(&["*.example.com"]);
    let ask_all = || {
        for number in 0..2000 {
            authority.server_config(&host(&format!("h{number}.example.com"))).unwrap();
        }
        authority.leaves_minted()
    };
    assert_eq!(ask_all(), 2000);
    assert!(ask_all() > 2500, "more than 1024 were kept: {}", authority.leaves_minted());
}

//! Which certificates an upstream may present, besides those of known CAs: its own, if the operator named it.

use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use super::*;
use crate::support::lab::OwnCertificate;

const QUAY: &[&str] = &["-addext", "subjectAltName=DNS:quay.io"];

fn presenting(certificate: &'static OwnCertificate) -> Registry {
    Registry::with(Setup { certificate: Some(Certificate::Own(certificate)), ..Setup::named("quay.io") })
}

/// What comes of a request to a registry that presents `presented`, where `trusted` is its `ca_file`.
async fn asked(presented: &'static OwnCertificate, trusted: Option<&Path>) -> Result<u16, Error> {
    let registry = presenting(presented);
    let config = EndpointConfig { ca_file: trusted.map(Into::into), ..endpoint_config(&registry) };
    let upstream = Upstream::new(&Config::default(), std::slice::from_ref(&config), AddressRules::default()).unwrap();
    let answer = upstream.send(&Endpoint::parse(&config).unwrap(), exchange("/v2/")).await;
    assert_eq!(registry.count("*") == 0, answer.is_err());
    answer.map(|answer| answer.status().as_u16())
}

async fn accepted(own: &'static OwnCertificate) -> bool {
    asked(own, Some(&own.certificate)).await.is_ok_and(|status| status == 200)
}

/// What is said of a certificate that is not accepted although it is its own `ca_file`.
async fn refused(own: &'static OwnCertificate) -> String {
    let error = asked(own, Some(&own.certificate)).await.unwrap_err();
    assert!(matches!(error, Error::Certificate { .. }), "{error:?}");
    format!("{error}: {}", std::error::Error::source(&error).unwrap())
}

/// One with other dates, or another purpose, than `openssl req -x509` gives.
fn by_rcgen(folder: &Path, name: &str, change: impl FnOnce(&mut CertificateParams)) -> &'static OwnCertificate {
    let mut params = CertificateParams::new(["quay.io".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let (certificate, key_file) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    std::fs::write(&certificate, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    OwnCertificate::of_files(certificate, key_file)
}

/// A configuration of openssl that adds nothing of its own.
fn bare(folder: &Path) -> String {
    let path = folder.join("bare.cnf");
    std::fs::write(&path, "[req]\ndistinguished_name = dn\n[dn]\n").unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_registrys_own_certificate_by_openssl_is_accepted_where_it_is_the_ca_file() {
    let folder = tempfile::tempdir().unwrap();
    let plain = OwnCertificate::by_openssl(folder.path(), "plain", QUAY);
    assert!(accepted(plain).await);
    let error = asked(plain, None).await.unwrap_err();
    assert!(matches!(error, Error::UnknownIssuer { .. }) && error.to_string().contains("ca_file"), "{error:?}");

    let config = bare(folder.path());
    for (name, constraints) in [("none", None), ("no-ca", Some("basicConstraints=critical,CA:FALSE"))] {
        let extension = constraints.map_or(vec![], |constraints| vec!["-addext", constraints]);
        let more = [&["-config", &config], QUAY, &extension].concat();
        assert!(accepted(OwnCertificate::by_openssl(folder.path(), name, &more)).await, "{name}");
    }
    let p384 = [&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1"], QUAY].concat();
    assert!(accepted(OwnCertificate::by_openssl(folder.path(), "p384", &p384)).await);
}

#[tokio::test]
async fn a_pull_from_such_a_registry_works_and_is_cached() {
    let folder = tempfile::tempdir().unwrap();
    let registry = presenting(OwnCertificate::by_openssl(folder.path(), "plain", QUAY));
    let image = registry.push_image("team/app", "1", &[vec![7; 10_000]]);
    let proxy = Plan::new().registry(&registry, "").start().await;
    let path = format!("/v2/team/app/blobs/{}", image.layers[0]);
    for _ in 0..2 {
        let answer = proxy.client().get("quay.io:443", &path).await;
        assert_eq!((answer.status, answer.bytes().len()), (StatusCode::OK, 10_000));
        proxy.stored(&image.layers[0]).await;
    }
    assert_eq!(registry.count("GET */blobs/*"), 1);
}

#[tokio::test]
async fn names_dates_and_purpose_of_an_own_certificate_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let other = ["-addext", "subjectAltName=DNS:other.example"];
    let other = refused(OwnCertificate::by_openssl(folder.path(), "other", &other)).await;
    assert!(other.contains("only valid for") && other.contains("other.example"), "{other}");
    let nameless = refused(OwnCertificate::by_openssl(folder.path(), "nameless", &[])).await;
    assert!(nameless.contains("subjectAltName"), "{nameless}");
    let now = time::OffsetDateTime::now_utc();
    let day = time::Duration::days(1);
    let over =
        by_rcgen(folder.path(), "over", |params| (params.not_before, params.not_after) = (now - day * 9, now - day));
    assert!(refused(over).await.contains("expired"));
    let early =
        by_rcgen(folder.path(), "early", |params| (params.not_before, params.not_after) = (now + day, now + day * 9));
    assert!(refused(early).await.contains("not valid before"));
    let client = by_rcgen(folder.path(), "client", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert!(refused(client).await.contains("serverAuth"));
    let server = by_rcgen(folder.path(), "server", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert!(accepted(server).await);
}

#[tokio::test]
async fn a_certificate_of_version_1_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let run = |arguments: &[&str]| {
        Command::new("openssl").current_dir(folder.path()).args(arguments).output().unwrap().status.success()
    };
    let request = ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=quay.io", "-keyout", "v1.key"];
    assert!(run(&[&request[..], &["-out", "v1.csr"]].concat()));
    let of_today = ["req", "-x509", "-x509v1", "-key", "v1.key", "-subj", "/CN=quay.io", "-out", "v1.crt"];
    let of_before_3_2 = ["x509", "-req", "-in", "v1.csr", "-signkey", "v1.key", "-out", "v1.crt"];
    assert!(run(&of_today) || run(&of_before_3_2));
    let told = refused(OwnCertificate::of_files(file("v1.crt"), file("v1.key"))).await;
    assert!(told.contains("version 1") && told.contains("subjectAltName"), "{told}");
}

#[tokio::test]
async fn another_certificate_with_the_same_names_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let own = OwnCertificate::by_openssl(folder.path(), "own", QUAY);
    let impostor = OwnCertificate::by_openssl(folder.path(), "impostor", QUAY);
    let error = asked(impostor, Some(&own.certificate)).await.unwrap_err();
    assert!(error.is_certificate(), "{error:?}");
    // Nor does the certificate help whoever lacks its key.
    let thief = OwnCertificate::of_files(own.certificate.clone(), impostor.key.clone());
    let error = asked(thief, Some(&own.certificate)).await.unwrap_err();
    assert!(error.is_certificate(), "{error:?}");
}

#[tokio::test]
async fn an_own_certificate_that_is_no_ca_issues_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (config, no_ca) = (bare(folder.path()), ["-addext", "basicConstraints=critical,CA:FALSE"]);
    let own = OwnCertificate::by_openssl(folder.path(), "own", &[&["-config", &config], QUAY, &no_ca[..]].concat());
    let issuer = rcgen::Issuer::from_ca_cert_pem(
        &std::fs::read_to_string(&own.certificate).unwrap(),
        KeyPair::from_pem(&std::fs::read_to_string(&own.key).unwrap()).unwrap(),
    );
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["quay.io".to_owned()]).unwrap().signed_by(&key, &issuer.unwrap()).unwrap();
    let (certificate, key_file) = (folder.path().join("leaf.crt"), folder.path().join("leaf.key"));
    std::fs::write(&certificate, leaf.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let issued = OwnCertificate::of_files(certificate, key_file);
    assert!(asked(issued, Some(&own.certificate)).await.unwrap_err().is_certificate());
    assert!(accepted(issued).await, "it is itself in the ca_file");
}

#[tokio::test]
async fn an_own_certificate_is_trusted_at_its_own_endpoint_only() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["-addext", "subjectAltName=DNS:quay.io,DNS:auth.quay.io"];
    let own = OwnCertificate::by_openssl(folder.path(), "own", &names);
    let registry = presenting(own);
    let setup = Setup { certificate: Some(Certificate::Own(own)), ..Setup::named("auth.quay.io") };
    let service = Registry::with(setup);
    let unnamed = EndpointConfig { ca_file: None, ..endpoint_config(&service) };
    let configs = [endpoint_config(&registry), unnamed];
    let upstream = Upstream::new(&Config::default(), &configs, AddressRules::default()).unwrap();
    let [first, second] = configs.map(|config| Endpoint::parse(&config).unwrap());
    assert_eq!(upstream.send(&first, exchange("/v2/")).await.unwrap().status(), 200);
    assert!(upstream.send(&second, exchange("/v2/")).await.unwrap_err().is_certificate());
    // A token service of this kind is named in `upstream.hosts`.
    let upstream = super::upstream(&hosts(&[&service]), &[]);
    let host = Authority::parse(&format!("auth.quay.io:{}", service.address().port()), 443).unwrap();
    assert_eq!(upstream.send(&Endpoint::of_host(&host), exchange("/v2/")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_parent_proxy_may_present_its_own_certificate_too() {
    let folder = tempfile::tempdir().unwrap();
    let own = OwnCertificate::by_openssl(folder.path(), "parent", &["-addext", "subjectAltName=IP:127.0.0.1"]);
    let registry = Registry::start("quay.io");
    let parent = Parent::with_certificate("127.0.0.1", Certificate::Own(own)).await.knows(&registry);
    for (ca_file, expected) in [(own.certificate.to_str().unwrap(), true), ("", false)] {
        let ca = if ca_file.is_empty() { String::new() } else { format!(", ca_file: '{ca_file}'") };
        let mut config: Config = serde_yaml::from_str(&format!("proxy: {{url: '{}'{ca}}}", parent.url())).unwrap();
        let reach = HostConfig { ca_file: Some(registry.ca_file()), ..HostConfig::default() };
        config.hosts.insert(format!("quay.io:{}", registry.address().port()), reach);
        let upstream = Upstream::new(&config, &[], AddressRules::default()).unwrap();
        let endpoint = Endpoint::parse(&EndpointConfig::of_url(registry.url())).unwrap();
        assert_eq!(upstream.send(&endpoint, exchange("/v2/")).await.is_ok(), expected);
    }
    assert_eq!(registry.count("*"), 1);
}

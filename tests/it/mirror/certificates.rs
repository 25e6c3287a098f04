//! The mirror's TLS: leaves of the CA for its names, or the operator's own certificate, exchanged without a restart.

use super::Lab;
use crate::support::lab::OwnCertificate;
use crate::support::{Log, eventually, until};

#[tokio::test]
async fn the_ca_signs_for_the_mirrors_names_and_for_no_registry_here() {
    let (lab, log) = (Lab::new().await, Log::begin());
    let client = lab.proxy.mirror_client();
    for name in ["hub.example.org", "all.example.org", "m.example.org", "localhost"] {
        let answer = client.session(&format!("{name}:443")).await.get("/healthz").await;
        assert_eq!(answer.status, 200, "{name}");
    }
    for name in ["quay.io", "docker.io", "other.example.org", "other.example.org"] {
        assert!(client.tls(&format!("{name}:443")).await.is_err(), "{name}");
    }
    assert_eq!(lab.quay.connections(), 0);
    // A name that the CA does not sign is a failure of its own, with a line in the log.
    let counted = "pullthrough_client_handshake_failures_total{reason=\"unsigned\"}";
    until("both are counted", async || lab.proxy.metric(counted).await >= 2.0).await;
    let told = log.warnings(&["other.example.org", "mirror.names"]);
    assert_eq!(told.len(), 1, "once a minute: {told:?}");
}

#[tokio::test]
async fn the_operators_certificate_is_served_and_exchanged_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let names = "subjectAltName=DNS:any.example.org,DNS:hub.example.org";
    let names = ["-addext", names, "-addext", "basicConstraints=critical,CA:FALSE"];
    let made = |name: &str| OwnCertificate::by_openssl(folder.path(), name, &names);
    let (one, two) = (made("one"), made("two"));
    let (certificate, key) = (folder.path().join("m.crt"), folder.path().join("m.key"));
    let install = |own: &OwnCertificate| {
        std::fs::copy(&own.certificate, &certificate).unwrap();
        std::fs::copy(&own.key, &key).unwrap();
    };
    install(one);
    let entry = format!("tls: {{cert_file: '{}', key_file: '{}'}}", certificate.display(), key.display());
    let hub = crate::support::Registry::start("docker.io");
    let plan = || crate::support::Plan::new().registry(&hub, "").mirror(&entry);
    let proxy = plan().start().await;
    let served = async |own: &OwnCertificate| {
        let client = crate::support::client::Client::direct(proxy.mirror()).trusting(&own.certificate);
        client.tls("any.example.org:443").await.is_ok()
    };
    let log = Log::begin();
    assert!(served(one).await && !served(two).await);
    let told = || log.warnings(&["does not trust the certificate in mirror.tls", "--ca-file"]).len();
    eventually("the cure is told", || told() == 1).await;
    install(two);
    proxy.reload(plan()).await;
    assert!(served(two).await && !served(one).await);
    // A key of another pair, and no key at all: the old one stays.
    for broken in [std::fs::read(&one.key).unwrap(), b"no key".to_vec()] {
        std::fs::write(&key, broken).unwrap();
        proxy.reload(plan()).await;
        assert!(served(two).await);
        assert_eq!(proxy.metric("pullthrough_config_last_reload_successful").await, 0.0);
    }
}

#[tokio::test]
async fn a_client_that_names_the_mirror_by_its_address_gets_a_leaf_for_that() {
    let hub = crate::support::Registry::start("docker.io");
    let plan = crate::support::Plan::new().registry(&hub, "").doors("mirror: '0.0.0.0:0'");
    let proxy = plan.start().await;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], proxy.mirror().port()));
    let client = crate::support::client::Client::direct(address).trusting(&proxy.ca_file());
    assert_eq!(client.session("127.0.0.1:443").await.get("/healthz").await.status, 200);
    assert!(client.tls("127.0.0.2:443").await.is_err(), "it is no address of this machine's interfaces");
}

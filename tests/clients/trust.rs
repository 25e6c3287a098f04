//! A client that does not trust the CA: it gets nothing, and the operator is told what to do.

use std::time::Duration;

use crate::client::Kind;
use crate::lab::{Lab, Shape, eventually};
use crate::proxy::Proxy;

#[test]
fn a_client_without_the_ca_fails_and_the_log_names_it_with_the_cure() {
    let lab = Lab::new();
    let image = lab.publish(&["quay.io/lab/app:1"], Shape::Single, 1, 1_000);
    let proxy = Proxy::start(&lab);
    let before = lab.quay.site.seen();
    for kind in Kind::ALL {
        let said = kind.fresh(&lab, &proxy.way_without_trust()).pull("quay.io/lab/app:1").expect_err("no trust");
        assert!(said.contains("x509"), "{kind:?}: {said}");
    }
    assert_eq!(lab.quay.site.seen(), before, "a client that trusts nothing reached the registry");
    eventually("the log has the cure", Duration::from_secs(10), || {
        let log = proxy.log();
        log.lines().any(|line| line.contains("127.0.0.1") && line.contains("trust") && line.contains("ca.crt"))
    });
    let metrics = proxy.metrics();
    assert!(metrics.contains("pullthrough_client_handshake_failures_total{reason=\"untrusted\"}"), "{metrics}");
    assert_eq!(Kind::Skopeo.fresh(&lab, &proxy.way()).pull("quay.io/lab/app:1"), Ok(image.id));
}

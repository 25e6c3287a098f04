//! The conformance suite of the OCI distribution-spec: no case is worse through us than at the registry alone, by CONNECT and by each
//! of the mirror's names; and what it reads, it reads with the registry gone.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

use serde_json::json;

use super::{PULL, program};
use crate::client::Way;
use crate::lab::{Lab, Process, Shape, command, run};
use crate::proxy::{Proxy, free};

/// How often each case passed, by its name: several have the same.
type Passed = BTreeMap<String, usize>;

/// Runs it against `registry`; `repository` is where it may push.
fn conformance(lab: &Lab, way: &Way, registry: &str, repository: &str, settings: &[(&str, String)]) -> Passed {
    let home = lab.folder("conformance");
    let mut suite = program("conformance", &home, way);
    let tls = if registry.contains("quay.io") { "enabled" } else { "disabled" };
    suite.env("OCI_REGISTRY", registry).env("OCI_TLS", tls).env("OCI_VERSION", "1.1");
    suite.env("OCI_REPO1", format!("{repository}/one")).env("OCI_REPO2", format!("{repository}/two"));
    suite.env("OCI_RESULTS_DIR", home.join("results"));
    suite.envs(settings.iter().map(|(name, value)| (*name, value)));
    let said = run(&mut suite, PULL).unwrap_or_else(|said| said); // its exit status is that of the registry alone, too
    let mut all = Passed::new();
    for line in said.lines().map(str::trim).filter(|line| line.starts_with("OCI Conformance Test/")) {
        if let Some((name, ended)) = line.rsplit_once(": ") {
            *all.entry(name.to_owned()).or_default() += usize::from(ended == "Pass");
        }
    }
    assert!(!all.is_empty(), "{said}");
    all
}

/// The suite does not send `ns`, as containerd does: nginx adds it on the way.
fn with_ns(lab: &Lab, listen: SocketAddr, door: SocketAddr) -> Process {
    let dir = lab.folder("ns");
    let temporary: String =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {kind};\n")).concat();
    let text = format!(
        "daemon off;\nuser root;\npid nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\
         server {{\nlisten {listen};\nclient_max_body_size 0;\nif ($arg_ns = '') {{ set $args $args&ns=quay.io; }}\n\
         location / {{\nproxy_pass http://{door};\nproxy_http_version 1.1;\nproxy_request_buffering off;\n\
         proxy_redirect off;\nproxy_set_header Host $http_host;\n}}\n}}\n}}\n"
    );
    fs::write(dir.join("nginx.conf"), text).unwrap();
    let mut nginx = command("nginx", &dir);
    nginx.arg("-p").arg(&dir).arg("-c").arg(dir.join("nginx.conf")).args(["-e", "stderr"]);
    let mut process = Process::spawn("nginx", &mut nginx, &dir.join("log"));
    process.ready(PULL, || std::net::TcpStream::connect(listen).is_ok());
    process
}

/// Panics with each case that passes more often at the registry alone than here.
fn none_is_worse(alone: &Passed, here: &Passed, by: &str) {
    let worse: Vec<_> = alone.iter().filter(|(name, passed)| here.get(*name) < Some(*passed)).collect();
    assert!(worse.is_empty(), "{by}: {} of {} cases: {worse:#?}", worse.len(), alone.len());
}

#[test]
fn no_case_is_worse_than_at_the_registry_alone_by_connect_and_by_each_name_and_reads_survive_the_registry() {
    let lab = Lab::new();
    let image = lab.publish(&["quay.io/lab/read:1"], Shape::Index, 1, 10_000);
    let door = free();
    let proxy = Proxy::with(&lab, |config| {
        config["listen"]["mirror"] = json!(door);
        config["mirror"] = json!({ "default": "quay.io", "names": { "localhost": "quay.io", "/all": "quay.io/lab" } });
        config["registries"]["quay.io"]["push"] = "allow".into();
    });
    let road = Way::by_proxy(lab.road(), lab.ca_file());
    let nowhere = Way::by_proxy("http://127.0.0.1:9", lab.ca_file());
    let naming = free();
    let _nginx = with_ns(&lab, naming, door);
    let alone = conformance(&lab, &road, "quay.io", "lab/alone", &[]);
    let passed = alone.values().sum::<usize>();
    assert!(passed > 500, "{passed} cases pass at the registry alone");
    let (port, host) = (door.port(), door.to_string());
    let places = [
        ("CONNECT", proxy.way(), "quay.io".to_owned(), "lab/connect"),
        ("host", nowhere.clone(), format!("localhost:{port}"), "lab/host"),
        ("path", nowhere.clone(), host.clone(), "quay.io/lab/path"),
        ("name", nowhere.clone(), host.clone(), "all/name"),
        ("default", nowhere.clone(), host, "lab/default"),
        ("ns", nowhere.clone(), naming.to_string(), "lab/ns"),
        ("proxy port", nowhere, proxy.listen.to_string(), "quay.io/lab/port"),
    ];
    for (by, way, registry, repository) in &places {
        none_is_worse(&alone, &conformance(&lab, way, registry, repository, &[]), by);
    }
    // What is read: cached by the first round, and read again with the registry stopped.
    let parts = image.parts();
    let reads = [
        ("OCI_API_PUSH", "false".to_owned()),
        ("OCI_API_BLOBS_DELETE", "false".to_owned()),
        ("OCI_API_MANIFESTS_DELETE", "false".to_owned()),
        ("OCI_API_TAGS_DELETE", "false".to_owned()),
        ("OCI_RO_DATA_TAGS", "1".to_owned()),
        ("OCI_RO_DATA_MANIFESTS", parts.manifests.join(" ")),
        ("OCI_RO_DATA_BLOBS", parts.blobs.join(" ")),
    ];
    let read = |way: &Way, registry: &str, repository: &str| {
        let settings = [&reads[..], &[("OCI_REPO1", repository.to_owned())]].concat();
        conformance(&lab, way, registry, repository, &settings)
    };
    let mut read_alone = read(&road, "quay.io", "lab/read");
    read_alone.retain(|name, _| name.contains("/read-only/")); // what is not there has no answer without the registry
    assert!(read_alone.values().sum::<usize>() > 8, "{read_alone:#?}");
    let read_at = [
        ("CONNECT", "lab/read"),
        ("host", "lab/read"),
        ("path", "quay.io/lab/read"),
        ("name", "all/read"),
        ("default", "lab/read"),
        ("ns", "lab/read"),
    ];
    for when in ["up", "gone"] {
        for ((by, way, registry, _), (_, repository)) in places.iter().zip(read_at) {
            none_is_worse(&read_alone, &read(way, registry, repository), &format!("{by}, the registry {when}"));
        }
        lab.stop_all();
    }
}

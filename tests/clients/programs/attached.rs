//! Tools that list tags and look for what is attached to an image: the same answers through the proxy as directly, with the
//! registry there and with it stopped.
//!
//! distribution 2 has no referrers endpoint, so that all of them fall back to tags, as with most registries there are.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::client::{Way, installed};
use crate::lab::{Lab, Shape, command, run};
use crate::proxy::Proxy;

const PATIENCE: Duration = Duration::from_secs(60);
const IMAGE: &str = "quay.io/lab/app:1";
const REPOSITORY: &str = "quay.io/lab/app";

/// A question, and the end of the name of a tool that Debian has not: `tests/run` installs them where it can.
const QUESTIONS: [&[&str]; 9] = [
    &["skopeo", "list-tags", "docker://quay.io/lab/app"],
    &["crane", "ls", REPOSITORY],
    &["regctl", "tag", "ls", REPOSITORY],
    &["regctl", "artifact", "tree", IMAGE],
    &["regctl", "artifact", "list", IMAGE],
    &["oras", "repo", "tags", REPOSITORY],
    &["oras", "discover", "--format", "json", IMAGE],
    &["cosign", "triangulate", IMAGE],
    &["cosign", "verify", "--key", "cosign.pub", "--insecure-ignore-tlog=true", IMAGE],
];

/// One of these tools, with `home` for its state; `None` where it is not on this machine.
fn tool(home: &Path, way: &Way, name: &str) -> Option<Command> {
    let mut tool = command(&installed(name)?.to_string_lossy(), home);
    tool.env("HTTPS_PROXY", &way.proxy).env("SSL_CERT_FILE", &way.trust).env("COSIGN_PASSWORD", "lab");
    tool.env("DOCKER_CONFIG", home).env("TUF_ROOT", home.join("tuf"));
    Some(tool)
}

/// What it says to a question.
fn ask(home: &Path, way: &Way, question: &[&str]) -> Option<Result<String, String>> {
    let (name, arguments) = question.split_first().unwrap();
    Some(run(tool(home, way, name)?.args(arguments), PATIENCE))
}

/// What every one of the questions is answered, by the tools that are here.
fn all(home: &Path, way: &Way) -> Vec<(String, String)> {
    let asked = QUESTIONS.iter().filter_map(|question| {
        let said = ask(home, way, question)?;
        Some((question.join(" "), said.unwrap_or_else(|said| panic!("{}: {said}", question.join(" ")))))
    });
    asked.collect()
}

#[test]
fn tags_signatures_and_artifacts_are_found_through_the_proxy_as_directly_also_with_the_registry_stopped() {
    let lab = Lab::new();
    lab.publish(&[IMAGE, "quay.io/lab/app:2"], Shape::Single, 1, 10_000);
    let home = lab.folder("attached");
    let direct = Way { proxy: lab.road().to_owned(), trust: lab.ca_file().to_owned() };
    std::fs::write(home.join("sbom.json"), "{}").unwrap();
    for attach in [
        &["cosign", "generate-key-pair"][..],
        &["cosign", "sign", "--yes", "--key", "cosign.key", "--tlog-upload=false", IMAGE],
        &["oras", "attach", "--artifact-type", "application/vnd.lab.sbom", IMAGE, "sbom.json:application/json"],
    ] {
        let done = ask(&home, &direct, attach);
        assert!(done.as_ref().is_none_or(Result::is_ok), "{attach:?}: {done:?}");
    }
    let proxy = Proxy::with(&lab, |config| config["registries"]["quay.io"]["tags"]["fresh_for"] = "60s".into());
    let expected = all(&home, &direct);
    assert!(expected.iter().any(|(question, said)| question.starts_with("skopeo") && said.contains("\"2\"")));
    let way = proxy.way();
    assert_eq!(all(&home, &way), expected, "through the proxy");
    if let Some(verified) = ask(&home, &way, QUESTIONS[8]) {
        // What it knows: the tag of the image, of its signatures, and that there is no list of referrers.
        lab.forget();
        assert_eq!((verified.is_ok(), ask(&home, &way, QUESTIONS[8]).unwrap().is_ok()), (true, true));
        let asked: Vec<_> =
            lab.quay.site.seen().into_iter().map(|seen| seen.path).filter(|path| path != "/v2/").collect();
        assert!(asked.is_empty(), "a second check within seconds asks upstream nothing: {asked:?}");
    }
    lab.stop_all();
    assert_eq!(all(&home, &way), expected, "with the registry stopped\n{}", proxy.log());
    let missing: Vec<_> =
        ["crane", "regctl", "oras", "cosign"].into_iter().filter(|name| installed(name).is_none()).collect();
    assert!(missing.is_empty(), "NOT TRIED, as they are not on this machine: {missing:?}");
}

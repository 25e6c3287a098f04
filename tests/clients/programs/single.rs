//! Clients that are one command: crane, regctl, oras, helm and cosign.

use std::fs;
use std::path::Path;

use super::{NAMES, PULL, Scene, program};
use crate::client::{Client, Crane, Way};
use crate::lab::run;

#[test]
fn crane_pulls_through_the_proxy_and_with_the_registries_gone_by_the_mirrors_names() {
    let scene = Scene::new();
    let pull = |way: &Way, name: &str| Crane::fresh(&scene.lab, way, &[]).pull(name);
    for name in NAMES {
        assert_eq!(pull(&scene.way(), name).as_ref(), Ok(&scene.image.id), "{name}");
    }
    scene.lab.stop_all();
    for name in NAMES {
        assert_eq!(pull(&scene.nowhere(), &scene.mirrored(name)).as_ref(), Ok(&scene.image.id), "{name}");
    }
}

#[test]
fn regctl_copies_through_the_proxy_and_with_the_registries_gone_by_the_mirrors_names() {
    let scene = Scene::new();
    let copy = |way: &Way, name: &str| {
        let home = scene.lab.folder("regctl");
        let door = scene.door.to_string();
        run(program("regctl", &home, way).args(["registry", "set", "--tls", "disabled", &door]), PULL)?;
        run(program("regctl", &home, way).args(["image", "copy", name, "ocidir://copy:1"]), PULL)
    };
    for name in NAMES {
        copy(&scene.way(), name).unwrap();
        let home = scene.lab.folder("regctl");
        let listed = run(program("regctl", &home, &scene.way()).args(["tag", "ls", name.trim_end_matches(":1")]), PULL);
        assert_eq!(listed.as_deref().map(str::trim), Ok("1"), "{name}");
    }
    scene.lab.stop_all();
    for name in NAMES {
        copy(&scene.nowhere(), &scene.mirrored(name)).unwrap();
    }
}

#[test]
fn oras_copies_through_the_proxy_and_with_the_registries_gone_by_the_mirrors_names() {
    let scene = Scene::new();
    let copy = |way: &Way, plain: &[&str], name: &str| {
        let home = scene.lab.folder("oras");
        let mut oras = program("oras", &home, way);
        run(oras.arg("cp").args(plain).args([name, "--to-oci-layout", "copy:1"]), PULL)
    };
    for name in NAMES {
        copy(&scene.way(), &[], name).unwrap();
    }
    scene.lab.stop_all();
    for name in NAMES {
        copy(&scene.nowhere(), &["--from-plain-http"], &scene.mirrored(name)).unwrap();
    }
}

#[test]
fn helm_pulls_a_chart_through_the_proxy_and_with_the_registries_gone_by_the_mirrors_names() {
    let scene = Scene::new();
    let helm = |way: &Way, home: &Path, arguments: &[&str]| run(program("helm", home, way).args(arguments), PULL);
    let home = scene.lab.folder("helm");
    let road = Way::by_proxy(scene.lab.road(), scene.lab.ca_file());
    for arguments in
        [&["create", "chart"][..], &["package", "chart"], &["push", "chart-0.1.0.tgz", "oci://quay.io/lab"]]
    {
        helm(&road, &home, arguments).unwrap();
    }
    let pushed = fs::read(home.join("chart-0.1.0.tgz")).unwrap();
    let pull = |way: &Way, arguments: &[&str]| {
        let home = scene.lab.folder("helm");
        helm(way, &home, &[&["pull", "--version", "0.1.0"], arguments].concat()).unwrap();
        assert!(fs::read(home.join("chart-0.1.0.tgz")).unwrap() == pushed, "another chart");
    };
    pull(&scene.way(), &["oci://quay.io/lab/chart"]);
    scene.lab.stop_all();
    pull(&scene.nowhere(), &["--plain-http", &format!("oci://{}", scene.mirrored("quay.io/lab/chart"))]);
}

#[test]
fn cosign_verifies_through_the_proxy_and_with_the_registries_gone_by_the_mirrors_names() {
    let scene = Scene::new();
    let home = scene.lab.folder("cosign");
    let cosign = |way: &Way, arguments: &[&str]| {
        let mut cosign = program("cosign", &home, way);
        run(cosign.env("COSIGN_PASSWORD", "").args(arguments), PULL)
    };
    let road = Way::by_proxy(scene.lab.road(), scene.lab.ca_file());
    let image = format!("quay.io/lab/app@{}", scene.image.digest);
    cosign(&road, &["generate-key-pair"]).unwrap();
    cosign(&road, &["sign", "--yes", "--tlog-upload=false", "--key", "cosign.key", &image]).unwrap();
    let verify = |way: &Way, arguments: &[&str]| {
        let all = [&["verify", "--insecure-ignore-tlog=true", "--key", "cosign.pub"], arguments].concat();
        let said = cosign(way, &all).unwrap();
        assert!(said.contains(&scene.image.digest), "{said}");
    };
    verify(&scene.way(), &[&image]);
    scene.lab.stop_all();
    verify(&scene.nowhere(), &["--allow-http-registry", &scene.mirrored(&image)]);
}

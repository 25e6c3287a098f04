//! The proxy killed and ended, and registries cut off, while clients pull.

use std::time::Duration;

use crate::chance::Chance;
use crate::client::{Curl, Kind, Skopeo};
use crate::lab::{EXAMPLE, Image, Lab, Process, Shape, digest, eventually};
use crate::proxy::Proxy;

/// Bytes of the large layer of each image.
const LAYER: u64 = 4_000_000;

#[test]
fn fifty_kills_leave_only_whole_blobs_and_a_cache_that_serves() {
    let lab = Lab::new();
    let mut chance = Chance::new(2);
    let mut images: Vec<(String, Image)> = Vec::new();
    let mut proxy = Proxy::start(&lab);
    let (mut midway, mut whole) = (0, 0);
    for round in 0..50 {
        if images.len() == whole {
            let name = format!("quay.io/lab/app:{round}");
            let image = lab.publish(&[&name], Shape::Single, round, LAYER as usize);
            images.push((name, image));
        }
        let (name, _) = &images[whole];
        lab.quay.site.pace(20_000_000);
        let goal = lab.quay.site.sent() + chance.below(LAYER + LAYER / 4);
        let mut pull = pulling(&lab, &proxy, name);
        let mut ended = None;
        eventually("the pull has come so far, or ended", Duration::from_secs(60), || {
            ended = pull.ended(Duration::ZERO);
            ended.is_some() || lab.quay.site.sent() >= goal
        });
        proxy.kill();
        match ended {
            Some(status) => {
                assert!(status.success(), "round {round}: {}", pull.log());
                whole += 1;
            }
            None => midway += 1,
        }
        drop(pull);
        proxy.verify_blobs();
        proxy.again();
    }
    assert!(midway >= 10, "only {midway} of 50 kills came during a pull");
    lab.quay.site.pace(0);
    let client = Kind::Skopeo.fresh(&lab, &proxy.way());
    for (name, image) in &images {
        assert_eq!(client.pull(name).as_ref(), Ok(&image.id), "{name}");
    }
    assert!(proxy.verify_blobs() >= images.len() * 4);
}

#[test]
fn a_registry_and_a_cdn_that_break_off_are_resumed_unseen() {
    let lab = Lab::new();
    let mut chance = Chance::new(3);
    let direct = "quay.io/lab/app:1".to_owned();
    let redirected = format!("{EXAMPLE}/lab/app:1");
    let image = lab.publish(&[&direct, &redirected], Shape::Single, 1, LAYER as usize);
    let cdn = lab.example.cdn.as_ref().unwrap();
    for (name, site) in [(direct, &lab.quay.site), (redirected, cdn)] {
        let proxy = Proxy::start(&lab);
        site.pace(4_000_000);
        let from = site.sent();
        let home = Skopeo::home(&lab);
        let mut copy = Skopeo::copy(&home, &proxy.way(), &name, &home.join("to"));
        let mut pull = Process::spawn("skopeo", &mut copy, &home.join("log"));
        let mut cuts: Vec<u64> = (0..5).map(|_| chance.below(LAYER)).collect();
        cuts.sort_unstable();
        for cut in cuts {
            eventually("so much has been sent", Duration::from_secs(60), || site.sent() >= from + cut);
            site.cut();
        }
        let status = pull.ended(Duration::from_secs(60)).expect("the pull ends");
        assert!(status.success(), "{name}: {}\n{}", pull.log(), proxy.log());
        let hex = image.large.trim_start_matches("sha256:");
        let opened = site.seen().into_iter().filter(|seen| seen.method == "GET" && seen.path.contains(hex)).count();
        assert!(opened >= 3, "{name}: the cuts missed it, {opened} requests");
        assert!(proxy.verify_blobs() >= 4);
    }
}

/// Skopeo, in the midst of a pull.
fn pulling(lab: &Lab, proxy: &Proxy, image: &str) -> Process {
    let home = Skopeo::home(lab);
    let mut copy = Skopeo::copy(&home, &proxy.way(), image, &home.join("to"));
    Process::spawn("skopeo", &mut copy, &home.join("log"))
}

#[test]
fn terminating_lets_a_blob_in_flight_finish() {
    let lab = Lab::new();
    let image = lab.publish(&["quay.io/lab/app:1"], Shape::Single, 1, LAYER as usize);
    let mut proxy = Proxy::start(&lab);
    lab.quay.site.pace(2_000_000);
    let before = lab.quay.site.sent();
    let home = lab.folder("curl");
    let mut curl = Curl::new(&home, &proxy.way(), &format!("https://quay.io/v2/lab/app/blobs/{}", image.large));
    eventually("the blob is on its way", Duration::from_secs(30), || lab.quay.site.sent() > before + LAYER / 4);
    proxy.terminate();
    assert_eq!(curl.body(Duration::from_secs(60)).map(|body| digest(&body)), Ok(image.large));
    let status = proxy.ended(Duration::from_secs(30)).expect("the proxy ends after the last answer");
    assert!(status.success(), "{status}\n{}", proxy.log());
}

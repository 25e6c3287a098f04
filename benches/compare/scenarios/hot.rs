//! What the cache has, asked for again on open connections: blobs and manifests.

use super::{REPOSITORY, Scene, blob, complain, manifest};
use crate::client::Protocol;
use crate::load::{Load, Sample};
use crate::peers::Peer;
use crate::table::{Better, Table};

pub(super) async fn run(scene: &Scene<'_>, table: &mut Table) {
    let streams: &[usize] = if scene.lab.options.quick { &[1, 4, 64] } else { &[1, 4, 16, 64] };
    for (size, each) in &scene.blobs {
        for streams in streams {
            let what = format!("hot blob {size}, h1, {streams} streams");
            blobs(scene, table, &what, &Load::http1(*streams, blob(REPOSITORY, each))).await;
        }
        if *size == "1 GB" || scene.lab.options.quick && *size == "1 MB" {
            continue; // nothing that the other sizes do not say
        }
        for (name, frame) in [("16 KiB", 16 << 10), ("1 MiB", 1 << 20)] {
            for (connections, streams) in [(4, 1), (1, 4)] {
                let protocol = Protocol::Http2 { frame };
                let load = Load { protocol, connections, streams, path: blob(REPOSITORY, each), anew: false };
                let what = format!("hot blob {size}, h2 {name} frames, {connections} x {streams} streams");
                blobs(scene, table, &what, &load).await;
            }
        }
    }
    for (name, reference) in [("digest", scene.image.manifest.digest.to_string()), ("tag", scene.image.tag.clone())] {
        let what = format!("hot manifest by {name}, h1, 16 connections");
        manifests(scene, table, &what, &Load::http1(16, manifest(&reference))).await;
    }
    let protocol = Protocol::Http2 { frame: 16 << 10 };
    for (connections, streams) in [(4, 4), (16, 1)] {
        let path = manifest(&scene.image.manifest.digest.to_string());
        let load = Load { protocol, connections, streams, path, anew: false };
        let what = format!("hot manifest by digest, h2, {connections} x {streams} streams");
        manifests(scene, table, &what, &load).await;
    }
}

/// What the rows of mirrors over plain HTTP begin with.
pub(super) const MIRROR: &str = "mirror, plain HTTP, hot blob";

/// Mirrors over plain HTTP, where the kernel may copy files by itself.
pub(super) async fn mirrors(scene: &Scene<'_>, table: &mut Table) {
    for (size, each) in &scene.blobs {
        for streams in [1, 4, 16] {
            let what = format!("{MIRROR} {size}, {streams} streams");
            let load = Load::http1(streams, blob(REPOSITORY, each));
            self::each(scene, MIRROR, &load, |peer, sample| {
                let name = peer.kind.name();
                table.note(&what, "MB/s", Better::Higher, &name, sample.megabytes_per_second());
                table.note(&what, "CPU s/GB", Better::Lower, &name, sample.cpu_per_gigabyte());
            })
            .await;
        }
    }
}

async fn blobs(scene: &Scene<'_>, table: &mut Table, what: &str, load: &Load) {
    each(scene, what, load, |peer, sample| {
        let name = peer.kind.name();
        table.note(what, "MB/s", Better::Higher, &name, sample.megabytes_per_second());
        table.note(what, "CPU s/GB", Better::Lower, &name, sample.cpu_per_gigabyte());
        if what.contains("50 MB") && what.contains(" 4 streams") {
            table.note(what, "clients' own CPU s/GB", Better::Neither, &name, sample.own_cpu_per_gigabyte());
        }
    })
    .await;
}

async fn manifests(scene: &Scene<'_>, table: &mut Table, what: &str, load: &Load) {
    each(scene, what, load, |peer, sample| {
        let name = peer.kind.name();
        table.note(what, "requests/s", Better::Higher, &name, sample.requests_per_second());
        table.note(what, "CPU ms/request", Better::Lower, &name, sample.cpu_per_request());
        table.note(what, "p99 ms", Better::Lower, &name, sample.percentile(0.99));
    })
    .await;
}

/// Runs the load against every peer that can speak it.
async fn each(scene: &Scene<'_>, what: &str, load: &Load, mut note: impl FnMut(&Peer, &Sample)) {
    if !scene.lab.options.wants(what) {
        return;
    }
    let needs_http2 = load.protocol != Protocol::Http1;
    for peer in scene.turns().filter(|peer| !needs_http2 || peer.kind.has_http2()) {
        match load.run(peer, scene.lab.options.window).await {
            Ok(sample) => note(peer, &sample),
            Err(error) => complain(what, peer, &error),
        }
    }
}

//! New connections: TCP, CONNECT where that is the way, TLS with and without resumption, one manifest; and CONNECT
//! alone, which the peers without one are spared.

use std::time::Instant;

use super::{Scene, complain, manifest};
use crate::load::Load;
use crate::table::{Better, Table};

pub(super) async fn run(scene: &Scene<'_>, table: &mut Table) {
    for resumed in [false, true] {
        let what = format!("new connection and manifest, {} resumption", if resumed { "with" } else { "without" });
        if !scene.lab.options.wants(&what) {
            continue;
        }
        let load = Load { anew: true, ..Load::http1(4, manifest(&scene.image.manifest.digest.to_string())) };
        for peer in scene.turns() {
            let name = peer.kind.name();
            let target = if resumed { peer.target.clone() } else { peer.target.without_resumption() };
            match load.run_at(&target, scene.lab.options.window, || peer.program.cpu()).await {
                Ok(sample) => {
                    table.note(&what, "connections/s", Better::Higher, &name, sample.requests_per_second());
                    table.note(&what, "CPU ms each", Better::Lower, &name, sample.cpu_per_request());
                    table.note(&what, "p50 ms", Better::Lower, &name, sample.percentile(0.5));
                }
                Err(error) => complain(&what, peer, &error),
            }
        }
    }
    alone(scene, table).await;
}

async fn alone(scene: &Scene<'_>, table: &mut Table) {
    let what = "new connection, CONNECT and nothing else";
    if !scene.lab.options.wants(what) {
        return;
    }
    for peer in scene.turns().filter(|peer| peer.target.is_proxy()) {
        let (started, before, mut count) = (Instant::now(), peer.program.cpu(), 0);
        while started.elapsed() < scene.lab.options.window {
            let four = futures_util::future::try_join_all((0..4).map(|_| peer.target.reach()));
            match four.await {
                Ok(opened) => count += opened.len(),
                Err(error) => return complain(what, peer, &error),
            }
        }
        let cost = (peer.program.cpu() - before) * 1e3 / count as f64;
        table.note(what, "CPU ms each", Better::Lower, &peer.kind.name(), cost);
    }
}

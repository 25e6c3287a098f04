//! New connections: TCP, CONNECT where that is the way, TLS with and without resumption, one manifest.

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
}

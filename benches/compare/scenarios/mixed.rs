//! 50 clients pull one image of a real shape at the same time, first cold, then hot.

use std::time::{Duration, Instant};

use http::Method;
use tokio::task::JoinSet;

use super::{REPOSITORY, Scene, blob, complain, manifest};
use crate::client::{Protocol, Target};
use crate::content::Image;
use crate::load::percentile;
use crate::peers::Peer;
use crate::table::{Better, Table};

/// Twelve layers in bytes, as an application's image has them: one base, a runtime, many small ones.
pub(super) const LAYERS: [u64; 12] =
    [12_000_000, 200, 3_500_000, 32, 850_000, 6_200_000, 1_100, 120_000, 2_400_000, 480, 64_000, 1_700_000];
const CLIENTS: usize = 50;
/// Layers that one client fetches at a time (Docker's and containerd's default).
const LANES: usize = 3;

pub(super) async fn run(scene: &Scene<'_>, table: &mut Table) {
    let what = "image of 12 layers, 27 MB, 50 clients";
    if !scene.lab.options.wants(what) {
        return;
    }
    for peer in scene.turns() {
        let image = scene.lab.origin.content.image(&LAYERS);
        for state in ["cold", "hot"] {
            let before = peer.program.cpu();
            match everybody(peer, &image).await {
                Ok((elapsed, times)) => {
                    let (what, name) = (format!("{what}, {state}"), peer.kind.name());
                    table.note(&what, "ms until all are done", Better::Lower, &name, elapsed.as_secs_f64() * 1e3);
                    table.note(&what, "ms a pull, median", Better::Lower, &name, percentile(times, 0.5));
                    table.note(&what, "CPU s", Better::Lower, &name, peer.program.cpu() - before);
                }
                Err(error) => complain(what, peer, &error),
            }
        }
        let downloads: f64 = image.layers.iter().map(|layer| scene.lab.origin.downloads(layer)).sum();
        table.note(what, "downloads a layer", Better::Lower, &peer.kind.name(), downloads / LAYERS.len() as f64);
    }
}

async fn everybody(peer: &Peer, image: &Image) -> anyhow::Result<(Duration, Vec<Duration>)> {
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (target, image) = (peer.target.clone(), image.clone());
        clients.spawn(async move { tokio::time::timeout(Duration::from_secs(60), pull(target, image)).await? });
    }
    let mut times = Vec::new();
    while let Some(time) = clients.join_next().await {
        times.push(time??);
    }
    Ok((started.elapsed(), times))
}

/// As containerd does it: HEAD of the tag, index, manifest, config, then the layers three at a time.
async fn pull(target: Target, image: Image) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let mut first = target.open(Protocol::Http1).await?;
    drop(first.send(Method::HEAD, &manifest(&image.tag)).await?);
    let index = manifest(&image.index.digest.to_string());
    for path in [index, manifest(&image.manifest.digest.to_string()), blob(REPOSITORY, &image.config)] {
        if !first.is_usable().await {
            first = target.open(Protocol::Http1).await?;
        }
        first.fetch(&path, |_| ()).await?;
    }
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let paths: Vec<String> =
            image.layers.iter().skip(lane).step_by(LANES).map(|layer| blob(REPOSITORY, layer)).collect();
        let target = target.clone();
        lanes.spawn(async move {
            let mut connection = target.open(Protocol::Http1).await?;
            for path in paths {
                if !connection.is_usable().await {
                    connection = target.open(Protocol::Http1).await?;
                }
                connection.fetch(&path, |_| ()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = lanes.join_next().await {
        done??;
    }
    Ok(started.elapsed())
}

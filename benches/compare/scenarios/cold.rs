//! What the cache lacks: one client and 64 of them, from a fast origin and from one that is slow on each connection.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Scene, blob, complain};
use crate::client::{Protocol, Served, Target, Via};
use crate::load::percentile;
use crate::peers::Peer;
use crate::table::{Better, Table};

const CROWD: usize = 64;

pub(super) async fn run(scene: &Scene<'_>, table: &mut Table) {
    let quick = scene.lab.options.quick;
    for (name, repository, length) in [
        ("unbound origin", "fast/app", if quick { 50_000_000 } else { 200_000_000 }),
        ("1 Gbit/s a connection", "gigabit/app", if quick { 50_000_000 } else { 200_000_000 }),
        ("20 MB/s a connection", "slow/app", if quick { 20_000_000 } else { 50_000_000 }),
    ] {
        one(scene, table, &format!("cold blob, {name}, 1 client"), repository, length).await;
    }
    let length = if quick { 10_000_000 } else { 30_000_000 };
    let what = |away: &str| format!("cold blob, 20 MB/s a connection{away}, {CROWD} clients");
    crowd(scene, table, &what(""), "slow/app", length).await;
    crowd(scene, table, &what(", 30 ms away"), "far/app", length).await;
}

async fn one(scene: &Scene<'_>, table: &mut Table, what: &str, repository: &str, length: u64) {
    if !scene.lab.options.wants(what) {
        return;
    }
    for peer in scene.turns() {
        let cold = scene.lab.origin.content.blob(length);
        let before = peer.program.cpu();
        match fetch(&peer.target, &blob(repository, &cold)).await {
            Ok(served) => {
                let name = peer.kind.name();
                note(table, what, &name, &served);
                let cost = (peer.program.cpu() - before) / (length as f64 / 1e9);
                table.note(what, "CPU s/GB", Better::Lower, &name, cost);
                let downloads = scene.lab.origin.downloads(&cold);
                table.note(what, "upstream downloads", Better::Neither, &name, downloads);
            }
            Err(error) => complain(what, peer, &error),
        }
    }
    let origin = &scene.lab.origin;
    let direct = Target::new(origin.address, Via::Straight, scene.lab.authority(), &scene.lab.certificates.ca);
    if let Ok(target) = direct
        && let Ok(served) = fetch(&target, &blob(repository, &origin.content.blob(length))).await
    {
        note(table, what, "no cache", &served);
    }
}

fn note(table: &mut Table, what: &str, column: &str, served: &Served) {
    table.note(what, "ms to the last byte", Better::Lower, column, served.whole.as_secs_f64() * 1e3);
    table.note(what, "ms to the first byte", Better::Lower, column, served.first_byte.as_secs_f64() * 1e3);
}

async fn fetch(target: &Target, path: &str) -> anyhow::Result<Served> {
    let mut connection = target.open(Protocol::Http1).await?;
    connection.fetch(path, |_| ()).await
}

async fn crowd(scene: &Scene<'_>, table: &mut Table, what: &str, repository: &str, length: u64) {
    if !scene.lab.options.wants(what) {
        return;
    }
    for peer in scene.turns() {
        // The single client of the same moment, to compare with.
        let alone = scene.lab.origin.content.blob(length);
        let single = match fetch(&peer.target, &blob(repository, &alone)).await {
            Ok(served) => served.first_byte.as_secs_f64() * 1e3,
            Err(error) => {
                complain(what, peer, &error);
                continue;
            }
        };
        let cold = scene.lab.origin.content.blob(length);
        match all_at_once(peer, &blob(repository, &cold)).await {
            Ok((elapsed, served)) => {
                let name = peer.kind.name();
                let first = percentile(served.iter().map(|served| served.first_byte).collect(), 0.5);
                let last = percentile(served.iter().map(|served| served.first_byte).collect(), 1.0);
                let downloads = scene.lab.origin.downloads(&cold);
                table.note(what, "upstream downloads", Better::Lower, &name, downloads);
                table.note(what, "ms to the first byte, single client", Better::Lower, &name, single);
                table.note(what, "ms to the first byte, median", Better::Lower, &name, first);
                table.note(what, "ms to the first byte, slowest", Better::Lower, &name, last);
                table.note(what, "ms until all have all", Better::Lower, &name, elapsed.as_secs_f64() * 1e3);
            }
            Err(error) => complain(what, peer, &error),
        }
        // What the crowd alone costs on this machine: no upstream is waited for now.
        if let Ok((_, served)) = all_at_once(peer, &blob(repository, &cold)).await {
            let first = percentile(served.iter().map(|served| served.first_byte).collect(), 0.5);
            let unit = "ms to the first byte, median, of what is cached";
            table.note(what, unit, Better::Lower, &peer.kind.name(), first);
        }
    }
}

/// All clients are connected before the first one asks.
async fn all_at_once(peer: &Peer, path: &str) -> anyhow::Result<(Duration, Vec<Served>)> {
    let mut connections = Vec::new();
    for _ in 0..CROWD {
        connections.push(peer.target.open(Protocol::Http1).await?);
    }
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for mut connection in connections {
        let path = path.to_owned();
        clients.spawn(async move {
            let served = connection.fetch(&path, |_| ());
            tokio::time::timeout(Duration::from_secs(60), served).await?
        });
    }
    let mut all = Vec::new();
    while let Some(served) = clients.join_next().await {
        all.push(served??);
    }
    Ok((started.elapsed(), all))
}

//! Memory of a fresh instance: at rest, with idle connections, with many pulls of which half are slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use http_body_util::BodyExt;
use tokio::task::JoinSet;

use super::{REPOSITORY, blob};
use crate::client::{Protocol, Target};
use crate::content::Blob;
use crate::lab::Lab;
use crate::peers::{Kind, Peer};
use crate::table::{Better, Table};

const MIB: f64 = 1_048_576.0;

pub(super) async fn run(lab: &Lab, kinds: &[Kind], content: &Blob, table: &mut Table) {
    if !lab.options.wants("memory") {
        return;
    }
    for kind in kinds {
        let measured = async {
            let peer = kind.start(lab).await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
            table.note("memory at rest", "MiB", Better::Lower, &kind.name(), peer.program.resident() as f64 / MIB);
            idle(lab, &peer, content, table).await
        };
        if let Err(error) = measured.await {
            eprintln!("  memory, idle: {}: {error:#}", kind.name());
        }
        let measured = async { busy(lab, &kind.start(lab).await?, content, table).await };
        if let Err(error) = measured.await {
            eprintln!("  memory, busy: {}: {error:#}", kind.name());
        }
    }
}

async fn idle(lab: &Lab, peer: &Peer, content: &Blob, table: &mut Table) -> anyhow::Result<()> {
    let count = if lab.options.quick { 500 } else { 5_000 };
    let path = blob(REPOSITORY, content);
    peer.target.open(Protocol::Http1).await?.fetch(&path, |_| ()).await?;
    let before = peer.program.resident();
    let mut open = Vec::new();
    for _ in 0..count {
        let mut connection = peer.target.open(Protocol::Http1).await?;
        drop(connection.send(Method::HEAD, &path).await?);
        open.push(connection);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let each = peer.program.resident().saturating_sub(before) as f64 / 1024.0 / count as f64;
    table.note("memory of an idle connection", "KiB", Better::Lower, &peer.kind.name(), each);
    drop(open);
    Ok(())
}

async fn busy(lab: &Lab, peer: &Peer, content: &Blob, table: &mut Table) -> anyhow::Result<()> {
    let (count, time) = if lab.options.quick { (200, 1500) } else { (1000, 5000) };
    let path = blob(REPOSITORY, content);
    peer.target.open(Protocol::Http1).await?.fetch(&path, |_| ()).await?;
    let target = peer.target.with_receive_buffer(256 << 10);
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for index in 0..count {
        clients.spawn(read(target.clone(), path.clone(), index % 2 == 0, stop.clone()));
    }
    let (mut most, started) = (0, Instant::now());
    while started.elapsed() < Duration::from_millis(time) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        most = most.max(peer.program.resident());
    }
    stop.store(true, Ordering::Relaxed);
    let mut broken = 0;
    while let Some(ended) = clients.join_next().await {
        broken += usize::from(ended?.is_err());
    }
    let what = format!("memory with {count} pulls, half of them slow");
    table.note(&what, "MiB, peak", Better::Lower, &peer.kind.name(), most as f64 / MIB);
    table.note(&what, "broken pulls", Better::Neither, &peer.kind.name(), broken as f64);
    Ok(())
}

/// Reads again and again until told to stop; a slow one takes a piece every 200 ms.
async fn read(target: Target, path: String, slow: bool, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let mut connection = target.open(Protocol::Http1).await?;
        let mut body = connection.send(Method::GET, &path).await?.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            if slow {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    Ok(())
}

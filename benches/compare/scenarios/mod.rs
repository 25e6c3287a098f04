//! What is measured. Each scenario takes the running peers in turn and notes its figures in the table.

mod churn;
mod cold;
mod hot;
mod memory;
mod mixed;

use super::content::{Blob, Image};
use super::lab::Lab;
use super::options::Options;
use super::peers::{Kind, Peer};
use super::table::Table;

/// The repository that everything hot is in.
const REPOSITORY: &str = "bench/app";

/// What all scenarios share: the peers, and content that they have seen.
pub(super) struct Scene<'a> {
    lab: &'a Lab,
    peers: Vec<Peer>,
    blobs: Vec<(&'static str, Blob)>,
    image: Image,
    round: usize,
}

/// Runs everything that the options want.
pub(super) async fn run(lab: &Lab, options: &Options, table: &mut Table) -> anyhow::Result<()> {
    let mut scene = Scene::set(lab, Kind::all(lab), table).await?;
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        scene.round = round;
        hot::run(&scene, table).await;
        churn::run(&scene, table).await;
        mixed::run(&scene, table).await;
        cold::run(&scene, table).await;
    }
    let kinds: Vec<Kind> = scene.peers.iter().map(|peer| peer.kind.clone()).collect();
    let blob = scene.blobs[1].1;
    drop(scene);
    memory::run(lab, &kinds, &blob, table).await;
    if lab.options.wants(hot::MIRROR) {
        let mut scene = Scene::set(lab, Kind::mirrors(lab), table).await?;
        for round in 0..options.rounds {
            scene.round = round;
            hot::mirrors(&scene, table).await;
        }
    }
    Ok(())
}

impl<'a> Scene<'a> {
    /// Starts every peer that is here and lets it see the content once.
    async fn set(lab: &'a Lab, kinds: Vec<Kind>, table: &mut Table) -> anyhow::Result<Self> {
        let content = &lab.origin.content;
        let sizes = [("1 MB", 1_000_000), ("50 MB", 50_000_000), ("1 GB", 1_000_000_000)];
        let sizes = if lab.options.quick { &sizes[..2] } else { &sizes[..] };
        let blobs = sizes.iter().map(|(name, length)| (*name, content.blob(*length))).collect();
        let image = content.image(&mixed::LAYERS);
        let mut scene = Self { lab, peers: Vec::new(), blobs, image, round: 0 };
        for kind in kinds {
            if !kind.is_there() {
                table.absent(kind.name());
                continue;
            }
            let started = kind.start(lab).await;
            match started {
                Ok(peer) => match scene.warm(&peer).await {
                    Ok(()) => scene.peers.push(peer),
                    Err(error) => eprintln!("{} is left out: {error:#}", kind.name()),
                },
                Err(error) => eprintln!("{} is left out: {error:#}", kind.name()),
            }
        }
        Ok(scene)
    }

    /// The peers, each round with another one first.
    fn turns(&self) -> impl Iterator<Item = &Peer> {
        let count = self.peers.len();
        (0..count).map(move |at| &self.peers[(at + self.round) % count])
    }

    async fn warm(&self, peer: &Peer) -> anyhow::Result<()> {
        let mut connection = peer.target.open(super::client::Protocol::Http1).await?;
        for path in self.hot_paths() {
            // Twice: some store on the first and read on the second.
            for _ in 0..2 {
                if !connection.is_usable().await {
                    connection = peer.target.open(super::client::Protocol::Http1).await?;
                }
                connection.fetch(&path, |_| ()).await?;
            }
        }
        Ok(())
    }

    fn hot_paths(&self) -> Vec<String> {
        let mut paths = vec![manifest(&self.image.tag), manifest(&self.image.manifest.digest.to_string())];
        paths.extend(self.blobs.iter().map(|(_, each)| blob(REPOSITORY, each)));
        paths
    }
}

/// A manifest's path.
pub(super) fn manifest(reference: &str) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}

/// A blob's path.
pub(super) fn blob(repository: &str, blob: &Blob) -> String {
    format!("/v2/{repository}/blobs/{}", blob.digest)
}

/// Says what went wrong with one figure; the others are measured all the same.
fn complain(what: &str, peer: &Peer, error: &anyhow::Error) {
    eprintln!("  {what}: {}: {error:#}", peer.kind.name());
}

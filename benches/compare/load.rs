//! Clients in a loop for a while: what they got, how long each answer took, and what that cost the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::client::{Connection, Protocol, Target};
use super::peers::Peer;

/// How many clients, and what each does.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) protocol: Protocol,
    pub(crate) connections: usize,
    /// Requests at a time on each connection; more than one needs HTTP/2.
    pub(crate) streams: usize,
    pub(crate) path: String,
    /// Whether each request has a connection of its own.
    pub(crate) anew: bool,
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) seconds: f64,
    pub(crate) bytes: u64,
    pub(crate) requests: u64,
    /// CPU seconds of the server.
    pub(crate) cpu: f64,
    /// CPU seconds of this process: clients and origin.
    pub(crate) own_cpu: f64,
    latencies: Vec<Duration>,
}

#[derive(Default)]
struct Tally {
    bytes: AtomicU64,
    requests: AtomicU64,
}

impl Tally {
    fn read(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.requests.load(Ordering::Relaxed))
    }
}

impl Load {
    /// Streams over HTTP/1.1, a connection each.
    pub(crate) fn http1(connections: usize, path: String) -> Self {
        Self { protocol: Protocol::Http1, connections, streams: 1, path, anew: false }
    }

    /// Runs it against `peer` for `window`. What is under way then is broken off.
    pub(crate) async fn run(&self, peer: &Peer, window: Duration) -> anyhow::Result<Sample> {
        self.run_at(&peer.target, window, || peer.program.cpu()).await
    }

    /// The same by another way of asking, where `cpu` tells the server's CPU seconds so far.
    pub(crate) async fn run_at(
        &self,
        target: &Target,
        window: Duration,
        cpu: impl Fn() -> f64,
    ) -> anyhow::Result<Sample> {
        let tally = Arc::new(Tally::default());
        let mut opened = Vec::new();
        for _ in 0..self.connections {
            let first = target.open(self.protocol).await?;
            for _ in 1..self.streams {
                opened.extend(first.share());
            }
            opened.push(first);
        }
        // What a server allocates once for each connection is not the cost of what follows.
        let ramp = window / 3;
        let from = Instant::now() + ramp;
        let mut clients = JoinSet::new();
        for connection in opened {
            clients.spawn(repeat(self.clone(), target.clone(), connection, tally.clone(), from, from + window));
        }
        tokio::time::sleep_until(from.into()).await;
        let started = Instant::now();
        let before = (cpu(), super::process::own_cpu());
        let (bytes, requests) = tally.read();
        let mut latencies = Vec::new();
        let mut failed = None;
        while let Some(done) = clients.join_next().await {
            match done? {
                Ok(some) => latencies.extend(some),
                Err(error) => failed = Some(error),
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        let sample = Sample {
            seconds,
            bytes: tally.read().0 - bytes,
            requests: tally.read().1 - requests,
            cpu: cpu() - before.0,
            own_cpu: super::process::own_cpu() - before.1,
            latencies,
        };
        failed.map_or(Ok(sample), Err)
    }
}

async fn repeat(
    load: Load,
    target: Target,
    mut connection: Connection,
    tally: Arc<Tally>,
    from: Instant,
    until: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    let asking = async {
        loop {
            let started = Instant::now();
            // A server may close after so many requests, as nginx does.
            if load.anew || !connection.is_usable().await {
                connection = target.open(load.protocol).await?;
            }
            connection.fetch(&load.path, |bytes| _ = tally.bytes.fetch_add(bytes, Ordering::Relaxed)).await?;
            tally.requests.fetch_add(1, Ordering::Relaxed);
            if started >= from {
                latencies.push(started.elapsed());
            }
        }
    };
    let ended: Result<anyhow::Result<std::convert::Infallible>, _> =
        tokio::time::timeout_at(until.into(), asking).await;
    match ended {
        Err(_) => Ok(latencies),
        Ok(Ok(never)) => match never {},
        Ok(Err(error)) => Err(error),
    }
}

impl Sample {
    /// Megabytes (10^6) a second.
    pub(crate) fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.seconds
    }

    /// CPU seconds of the server for 10^9 bytes.
    pub(crate) fn cpu_per_gigabyte(&self) -> f64 {
        self.cpu / (self.bytes as f64 / 1e9)
    }

    /// CPU seconds of this process for 10^9 bytes.
    pub(crate) fn own_cpu_per_gigabyte(&self) -> f64 {
        self.own_cpu / (self.bytes as f64 / 1e9)
    }

    /// Answers a second.
    pub(crate) fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// CPU milliseconds of the server for one answer.
    pub(crate) fn cpu_per_request(&self) -> f64 {
        self.cpu * 1e3 / self.requests as f64
    }

    /// Milliseconds within which that share of the answers came whole.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        percentile(self.latencies.clone(), share)
    }
}

/// Milliseconds at that share of `times`.
pub(crate) fn percentile(mut times: Vec<Duration>, share: f64) -> f64 {
    times.sort_unstable();
    let index = (times.len().saturating_sub(1) as f64 * share).round() as usize;
    times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

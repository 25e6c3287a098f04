//! Gives up streams whose clients take nothing of them.
//!
//! hyper does not ask a body for more while its stream has no window, so no timer within the body would do: one task
//! looks at all connections of HTTP/2 now and then. A stream is ended by ending the task that answers it, which resets
//! it. One whose end was handed over already is out of reach: then its connection takes no new streams, and is closed
//! once nobody else moves on it.
//!
//! The danger is to end a slow reader. Bytes that wait may wait for the stream's own window, for the connection's or
//! for the network; only the first is a client that takes nothing.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::clients::{Clients, Shared};
use super::{Line, Stream};
use crate::cache;

/// So much of each stream passes before a stream that could have moved moves: what h2 holds of one.
const TURN: u64 = 1 << 20;
/// On a connection that moves, but slowly, its turn may be long in coming; not so long.
const LONG: u32 = 10;
/// In the time that a client has, it is looked at so often.
const LOOKS: u32 = 12;

/// What is known of a stream of which some bytes wait.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Since it took something.
    idle: Duration,
    /// Since anybody on its connection did.
    line_idle: Duration,
    /// Whether nothing can be written to the connection at the moment.
    blocked: bool,
    /// A stream that was opened after it took something last has taken something since.
    overtaken: bool,
    /// Bytes of others that have passed since, for each stream of which some wait.
    passed: u64,
}

impl Seen {
    fn is_stalled(self, stall: Duration) -> bool {
        if self.idle < stall {
            return false;
        }
        // A peer that takes nothing from its socket is the system's to judge, which sees each byte that goes.
        let nobody_moves = self.line_idle >= stall && !self.blocked;
        // Who waits for the connection's window, or for the network, waits in a queue: later ones come after it.
        nobody_moves || self.overtaken || self.passed >= TURN || self.idle >= stall * LONG
    }
}

/// Looks until the clients are gone.
pub(in crate::proxy) async fn keep_sweeping(clients: Weak<Clients>) {
    let stall = |clients: &Clients| clients.shared().limits.load().stall;
    let Some(pause) = clients.upgrade().map(|clients| stall(&clients) / LOOKS) else { return };
    let (mut looked, mut now) = (Instant::now(), Duration::ZERO);
    loop {
        tokio::time::sleep(pause).await;
        let Some(clients) = clients.upgrade() else { return };
        // A process that was stopped for a while, or had no processor, has not seen what its clients did.
        now += looked.elapsed().min(pause * 2);
        looked = Instant::now();
        // Whoever took something since the last look is taken to have done so at that look.
        sweep(clients.shared(), now, stall(&clients) + pause * 2);
        cache::trim_buffers();
    }
}

/// One look, at this time.
fn sweep(shared: &Shared, now: Duration, stall: Duration) {
    shared.now.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    let lines: Vec<Arc<Line>> = {
        let mut lines = shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|line| line.strong_count() > 0);
        lines.iter().filter_map(Weak::upgrade).collect()
    };
    lines.iter().for_each(|line| look(line, now, stall));
}

fn look(line: &Line, now: Duration, stall: Duration) {
    let streams = line.streams();
    let waiting = streams.iter().filter(|stream| stream.under_way() > 0).count().max(1);
    let (mut given_up, mut moving) = (0, 0);
    for stream in &streams {
        let Some(place) = &stream.of else { continue };
        if place.is_given_up.load(Ordering::Relaxed) {
            continue;
        }
        if seen(stream, line, waiting, now).is_some_and(|seen| seen.is_stalled(stall)) {
            place.is_given_up.store(true, Ordering::Relaxed);
            given_up += 1;
            match place.task.get().filter(|task| !task.is_finished()) {
                Some(task) => task.abort(),
                None => line.ending.cancel(),
            }
        } else {
            moving += 1;
        }
    }
    if line.ending.is_cancelled() && moving == 0 {
        line.over.cancel();
    }
    let (count, said) = &line.client.shared.given_up;
    count.fetch_add(given_up, Ordering::Relaxed);
    if given_up > 0 && said.is_due() {
        warn!(
            client = %line.client.address, streams = given_up, seconds = stall.as_secs(),
            "gave up answers that a client has asked for and takes nothing of"
        );
    }
}

/// `None` where nothing waits for the client: its answer waits for us.
fn seen(stream: &Stream, line: &Line, waiting: usize, now: Duration) -> Option<Seen> {
    let place = stream.of.as_ref().filter(|_| stream.under_way() > 0)?;
    let passed = line.passed().saturating_sub(place.passed.load(Ordering::Relaxed));
    Some(Seen {
        idle: stream.idle(now),
        line_idle: line.idle(now),
        blocked: line.is_blocked(),
        overtaken: line.newest() > place.opened.load(Ordering::Relaxed),
        passed: passed / waiting as u64,
    })
}

//! Gives up streams whose clients take nothing of them.
//!
//! hyper does not ask a body for more while its stream has no window, so no timer within the body would do: one task
//! looks at all connections of HTTP/2 now and then. A stream is ended by ending the task that answers it, which resets
//! it. One whose end was handed over already is out of reach: then its connection takes no new streams, and is closed
//! once nobody else moves on it.
//!
//! The danger is to end a slow reader. Bytes that wait may wait for the stream's own window, for the connection's or
//! for the network; only the first is a client that takes nothing.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::connection::{Connection, ConnectionOrder};
use super::limiter::Limiter;
use super::stream::Stream;
use crate::cache;

/// So many bytes of each other stream pass before a stream that can move does: h2 holds as much of one.
const TURN: u64 = 1 << 20;
/// On a connection that moves, but slowly, its turn may be long in coming; not so long.
const LONG: u32 = 10;
/// In the time that a client has, it is looked at so often.
const LOOKS: u32 = 12;

/// The state of a stream of which some bytes wait.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Since it took something.
    idle: Duration,
    /// Since anybody on its connection did.
    connection_idle: Duration,
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
        let nobody_moves = self.connection_idle >= stall && !self.blocked;
        // A stream that waits for the connection's window or the network is in a queue: later ones come after it.
        nobody_moves || self.overtaken || self.passed >= TURN || self.idle >= stall * LONG
    }
}

/// Looks until the clients are gone.
pub(crate) async fn keep_sweeping(clients: Weak<Limiter>) {
    let stall = |clients: &Limiter| clients.totals().limits.load().stall;
    let Some(pause) = clients.upgrade().map(|clients| stall(&clients) / LOOKS) else { return };
    let (mut looked, mut now) = (Instant::now(), Duration::ZERO);
    loop {
        tokio::time::sleep(pause).await;
        let Some(clients) = clients.upgrade() else { return };
        // A process that was stopped for a while, or had no processor, has not seen what its clients did.
        now += looked.elapsed().min(pause * 2);
        looked = Instant::now();
        // A client that took something since the last sweep counts as having done so at that sweep.
        sweep(&clients, now, stall(&clients) + pause * 2);
        cache::trim_buffers();
    }
}

/// One look, at this time.
fn sweep(clients: &Limiter, now: Duration, stall: Duration) {
    clients.totals().now.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    clients.connections().iter().for_each(|connection| look(connection, now, stall));
}

fn look(connection: &Connection, now: Duration, stall: Duration) {
    let streams = connection.streams();
    let waiting = streams.iter().filter(|stream| stream.under_way() > 0).count().max(1);
    let (mut given_up, mut moving) = (0, connection.traffic.alone());
    for stream in &streams {
        let Some(place) = &stream.of else { continue };
        if place.is_given_up.load(Ordering::Relaxed) {
            continue;
        }
        if seen(stream, connection, waiting, now).is_some_and(|seen| seen.is_stalled(stall)) {
            given_up += 1;
            if !stream.give_up() {
                connection.tell(ConnectionOrder::Finish);
            }
        } else {
            moving += 1;
        }
    }
    if connection.is_told(ConnectionOrder::Finish) && moving == 0 {
        connection.tell(ConnectionOrder::Close);
    }
    let (count, said) = &connection.traffic.client.totals.given_up;
    count.fetch_add(given_up, Ordering::Relaxed);
    if given_up > 0 && said.is_due() {
        warn!(
            client = %connection.traffic.client.address, streams = given_up, seconds = stall.as_secs(),
            "gave up answers that a client requested and does not read"
        );
    }
}

/// `None` where nothing waits for the client: its answer waits for us.
fn seen(stream: &Stream, connection: &Connection, waiting: usize, now: Duration) -> Option<Seen> {
    let place = stream.of.as_ref().filter(|_| stream.under_way() > 0)?;
    let traffic = &connection.traffic;
    let passed = traffic.passed().saturating_sub(place.passed.load(Ordering::Relaxed));
    Some(Seen {
        idle: stream.idle(now),
        connection_idle: traffic.idle(now),
        blocked: connection.is_blocked(),
        overtaken: traffic.newest() > place.opened.load(Ordering::Relaxed),
        passed: passed / waiting as u64,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use bytes::{Buf, Bytes};
    use futures_util::FutureExt;
    use hyper::rt::Executor;

    use super::*;
    use crate::proxy::limit::Tasks;
    use crate::proxy::limit::limiter::tests::limits;
    use crate::proxy::limit::stream::Piece;

    const STALL: Duration = Duration::from_secs(60);

    #[test]
    fn only_a_client_that_takes_nothing_of_a_stream_is_given_up() {
        let seen = Seen { idle: STALL, connection_idle: STALL, blocked: false, overtaken: false, passed: 0 };
        let moving = Seen { connection_idle: Duration::ZERO, ..seen };
        let table = [
            ("nobody on the connection takes anything", seen, true),
            ("it took something less than a minute ago", Seen { idle: STALL / 2, ..seen }, false),
            ("the socket takes nothing, which the system judges", Seen { blocked: true, ..seen }, false),
            ("another one moves, for which it may wait", moving, false),
            ("a later one moves, which comes after it", Seen { overtaken: true, ..moving }, true),
            ("all others had their turns", Seen { passed: TURN, ..moving }, true),
            ("all others had their turns, over a slow network", Seen { passed: TURN, blocked: true, ..moving }, true),
            ("another one moves, but for so long", Seen { idle: STALL * LONG, ..moving }, true),
        ];
        for (what, seen, expected) in table {
            assert_eq!(seen.is_stalled(STALL), expected, "{what}");
        }
    }

    /// A connection, and how often it was looked at.
    struct Lab {
        clients: Arc<Limiter>,
        connection: Arc<Connection>,
        blocked: Arc<AtomicBool>,
        now: Duration,
    }

    impl Lab {
        fn new() -> Self {
            let clients = Limiter::new(limits());
            let blocked = Arc::new(AtomicBool::new(false));
            let connection = clients.connection(clients.of([10, 0, 0, 1].into()), blocked.clone());
            Self { clients, connection, blocked, now: Duration::ZERO }
        }

        /// A stream with a piece under way, whose task never ends by itself.
        fn open(&self) -> (Arc<Stream>, Piece) {
            let stream = self.connection.open();
            Tasks(self.connection.clone()).execute(std::future::pending());
            let piece = stream.piece(Bytes::from(vec![0; 100_000]));
            (stream, piece)
        }

        fn pass(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
            sweep(&self.clients, self.now, STALL);
        }

        fn given_up(&self) -> u64 {
            self.clients.totals().given_up.0.load(Ordering::Relaxed)
        }
    }

    async fn is_ended(stream: &Stream) -> bool {
        tokio::task::yield_now().await;
        stream.of.as_ref().unwrap().is_answered.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn a_stream_beside_one_that_moves_is_ended_once_a_later_one_moves() {
        let mut lab = Lab::new();
        let ((still, _piece), (slow, mut moving)) = (lab.open(), lab.open());
        for _ in 0..20 {
            lab.pass(10);
            moving.advance(10);
        }
        assert_eq!((lab.given_up(), is_ended(&still).await), (1, true), "the second was opened later");
        assert!(!is_ended(&slow).await);
        let (first, mut small) = lab.open();
        small.advance(10);
        lab.pass(10);
        assert!(!is_ended(&first).await && !lab.connection.is_told(ConnectionOrder::Finish));
    }

    #[tokio::test]
    async fn the_first_of_several_may_move_for_long_before_the_others_count_as_still() {
        let mut lab = Lab::new();
        let ((_slow, mut moving), (still, _piece)) = (lab.open(), lab.open());
        lab.blocked.store(true, Ordering::Relaxed);
        for seconds in (0..600).step_by(10) {
            assert!(!is_ended(&still).await, "after {seconds} s");
            lab.pass(10);
            moving.advance(10);
        }
        assert!(is_ended(&still).await, "after ten minutes in any case");
    }

    #[tokio::test]
    async fn what_waits_for_us_and_what_its_client_takes_slowly_stays() {
        let mut lab = Lab::new();
        let ((waits, piece), (slow, mut moving)) = (lab.open(), lab.open());
        drop(piece);
        for _ in 0..100 {
            lab.pass(59);
            moving.advance(1);
        }
        assert!(!is_ended(&waits).await && !is_ended(&slow).await);
        lab.blocked.store(true, Ordering::Relaxed);
        lab.pass(120);
        assert!(!is_ended(&slow).await, "the socket takes nothing: the system sees whether its peer does");
    }

    #[tokio::test]
    async fn a_connection_with_an_answer_out_of_reach_ends_with_the_last_one_that_moves() {
        let mut lab = Lab::new();
        let stream = lab.connection.open();
        Tasks(lab.connection.clone()).execute(std::future::ready(()).map(drop));
        tokio::task::yield_now().await;
        let _piece = stream.piece(Bytes::from_static(b"a manifest"));
        let (other, mut moving) = lab.open();
        lab.pass(10);
        moving.advance(10);
        lab.pass(55);
        assert!(
            lab.connection.is_told(ConnectionOrder::Finish) && !lab.connection.is_told(ConnectionOrder::Close),
            "another one moves"
        );
        assert!(other.give_up(), "as its task ends when the client has all of it");
        assert!(is_ended(&other).await);
        drop((other, moving));
        lab.pass(10);
        assert!(lab.connection.is_told(ConnectionOrder::Close));
        assert_eq!(lab.given_up(), 1, "once");
    }
}

//! Caps what comes from upstreams, and shares it fairly between the clients.
//!
//! A bucket holds the bytes that may come now. While it holds some, nobody waits; once it is empty, each body's next
//! piece waits, and the client that has had the least goes first (start-time fair queueing, by bytes). So one client
//! with thirty layers and one with a single layer get half each. What a fill brings counts for the client that
//! began it.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::host::{TaskGroup, network};
use crate::wire::{Body, BodyError};

/// Pieces larger than this are handed on in parts, so that shares are even within a moment.
const PIECE: usize = 64 << 10;
/// How much of a second's bytes may come at once after a silence.
const BURST: f64 = 0.1;
/// The pump looks this often at most; a timer cannot do better than a millisecond.
const LEAST_WAIT: Duration = Duration::from_millis(1);

/// The cap, and who waits under it. A clone is the same cap.
#[derive(Clone)]
pub(crate) struct Bandwidth(Arc<Inner>);

struct Inner {
    /// Bytes a second.
    rate: f64,
    state: Mutex<State>,
    tasks: TaskGroup,
}

struct State {
    /// Bytes that may come now; less than nothing after a piece that was larger than what there was.
    bucket: f64,
    filled: Instant,
    clients: HashMap<IpAddr, Client>,
    /// What the client that was served last has had: a newcomer starts here, not at nothing.
    reached: u64,
    pumping: bool,
}

#[derive(Default)]
struct Client {
    had: u64,
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

impl Bandwidth {
    /// A cap of `rate` bytes a second.
    pub(crate) fn new(rate: u64, tasks: TaskGroup) -> Self {
        let rate = rate as f64;
        let state =
            State { bucket: rate * BURST, filled: Instant::now(), clients: HashMap::new(), reached: 0, pumping: false };
        Self(Arc::new(Inner { rate, state: Mutex::new(state), tasks }))
    }

    /// `body` under the cap, for `client`: a machine with a network of IPv6 has one share, whatever address it takes.
    pub(crate) fn cap(&self, client: IpAddr, body: Body) -> Capped {
        let client = network(client);
        Capped { bandwidth: self.clone(), client, body, held: None, leave: None }
    }

    /// Asks for `bytes`; `None` if they may come at once. Who drops the receiver has not had them.
    fn ask(&self, client: IpAddr, bytes: u64) -> Option<oneshot::Receiver<()>> {
        let mut state = self.state();
        state.fill(self.0.rate);
        let nobody_waits = state.clients.is_empty();
        if nobody_waits && state.bucket > 0.0 {
            state.bucket -= bytes as f64;
            return None;
        }
        let reached = state.reached;
        let entry = state.clients.entry(client).or_insert_with(|| Client { had: reached, ..Client::default() });
        let (leave, left) = oneshot::channel();
        entry.waiting.push_back((bytes, leave));
        if !std::mem::replace(&mut state.pumping, true) {
            // To its end also at a stop: answers that a drain waits for wait for it.
            self.0.tasks.spawn(self.clone().pump());
        }
        Some(left)
    }

    /// Serves those who wait until nobody does.
    async fn pump(self) {
        loop {
            let wait = {
                let mut state = self.state();
                state.fill(self.0.rate);
                while state.bucket > 0.0 && state.serve() {}
                if state.clients.is_empty() {
                    state.pumping = false;
                    return;
                }
                Duration::from_secs_f64((-state.bucket).max(0.0) / self.0.rate)
            };
            tokio::time::sleep(wait.max(LEAST_WAIT)).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fill(&mut self, rate: f64) {
        let now = Instant::now();
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * rate;
        (self.bucket, self.filled) = ((self.bucket + gained).min(rate * BURST), now);
    }

    /// Lets one piece of the client that has had the least come; false where nobody waits. A client that has
    /// had all it asked for is forgotten; when it asks again it starts where the last one was.
    fn serve(&mut self) -> bool {
        self.clients.retain(|_, client| {
            client.waiting.retain(|(_, leave)| !leave.is_closed());
            !client.waiting.is_empty()
        });
        let Some(client) = self.clients.values_mut().min_by_key(|client| client.had) else { return false };
        let Some((bytes, leave)) = client.waiting.pop_front() else { return false };
        if leave.send(()).is_ok() {
            self.reached = self.reached.max(client.had);
            client.had = client.had.saturating_add(bytes);
            self.bucket -= bytes as f64;
        }
        true
    }
}

/// A body whose pieces come as the cap lets them.
pub(crate) struct Capped {
    bandwidth: Bandwidth,
    client: IpAddr,
    body: Body,
    held: Option<Frame<Bytes>>,
    leave: Option<oneshot::Receiver<()>>,
}

impl HttpBody for Capped {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.held.is_none() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => this.held = Some(frame),
                end => return Poll::Ready(end),
            }
            this.leave = this.held.as_ref().and_then(piece).and_then(|bytes| this.bandwidth.ask(this.client, bytes));
        } else if this.leave.is_none() {
            this.leave = this.held.as_ref().and_then(piece).and_then(|bytes| this.bandwidth.ask(this.client, bytes));
        }
        if let Some(leave) = &mut this.leave {
            let _ = ready!(Pin::new(leave).poll(cx)); // a pump that is gone holds nobody
            this.leave = None;
        }
        let Some(frame) = this.held.take() else { return Poll::Ready(None) };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(mut data) if data.len() > PIECE => {
                let first = data.split_to(PIECE);
                this.held = Some(Frame::data(data));
                Frame::data(first)
            }
            Ok(data) => Frame::data(data),
            Err(trailers) => trailers,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.body.is_end_stream()
    }

    /// What is held was taken from the body already.
    fn size_hint(&self) -> SizeHint {
        let held = self.held.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        let inner = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(held));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint
    }
}

/// How much of a frame is asked for next; `None` where it has no data.
fn piece(frame: &Frame<Bytes>) -> Option<u64> {
    frame.data_ref().map(|data| data.len().min(PIECE) as u64)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::time::sleep;

    use super::*;

    const RATE: u64 = 1_000_000;

    /// From 200 on, addresses of one machine with IPv6.
    fn client(number: u8) -> IpAddr {
        let ipv6 = |last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
        if number < 200 { [10, 0, 0, number].into() } else { ipv6(number.into()) }
    }

    /// Reads bodies of 100 MB for clients, one for each number, for so long; what each body had.
    async fn had(clients: &[u8], seconds: u64) -> Vec<u64> {
        let bandwidth = Bandwidth::new(RATE, TaskGroup::new());
        let readers: Vec<_> = clients
            .iter()
            .map(|number| {
                let mut body = bandwidth.cap(client(*number), Body::full(vec![0; 100_000_000]));
                let had = Arc::new(Mutex::new(0));
                let counted = had.clone();
                let reader = tokio::spawn(async move {
                    while let Some(Ok(frame)) = body.frame().await {
                        *counted.lock().unwrap() += frame.data_ref().map_or(0, Bytes::len) as u64;
                    }
                });
                (reader, had)
            })
            .collect();
        sleep(Duration::from_secs(seconds)).await;
        readers
            .into_iter()
            .map(|(reader, had)| {
                reader.abort();
                *had.lock().unwrap()
            })
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_comes_than_the_cap_lets() {
        for clients in [&[1][..], &[1, 2, 3]] {
            let all: u64 = had(clients, 20).await.iter().sum();
            let most = RATE * 20 + RATE / 10 + 2 * PIECE as u64;
            assert!((RATE * 19..=most).contains(&all), "{clients:?}: {all}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_has_one_share_whatever_addresses_of_its_network_it_takes() {
        let had = had(&[200, 201, 202, 203, 1], 60).await;
        let (machine, other): (u64, u64) = (had[..4].iter().sum(), had[4]);
        assert!(machine.abs_diff(other) <= RATE, "{machine} and {other}");
    }

    #[tokio::test(start_paused = true)]
    async fn clients_share_alike_however_many_bodies_they_have() {
        let had = had(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 2], 60).await;
        let (many, one): (u64, u64) = (had[..9].iter().sum(), had[9]);
        assert!(many.abs_diff(one) < RATE, "{many} and {one}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_leaves_holds_nobody_and_one_alone_has_everything() {
        let bandwidth = Bandwidth::new(RATE, TaskGroup::new());
        let mut leaving = bandwidth.cap(client(1), Body::full(vec![0; 10_000_000]));
        while tokio::time::timeout(Duration::from_millis(1), leaving.frame()).await.is_ok() {}
        drop(leaving);
        let start = Instant::now();
        let body = bandwidth.cap(client(2), Body::full(vec![0; 5_000_000]));
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 5_000_000);
        assert!(start.elapsed() <= Duration::from_secs(6), "{:?}", start.elapsed());
    }
}

//! Ends a connection without losing its last answer: our side ends, and what the client still sends is read for a while.
//!
//! A socket that is closed while bytes in it are unread is reset by the system (RFC 9112, 9.6). A client that still sends
//! then sees a broken pipe in place of what it was told: the refusal of a push whose body nobody waited for, a challenge, an
//! alert of TLS, the end of a tunnel. The same holds for a stream of HTTP/2, and for a Unix socket.
//!
//! Threat: clients that never stop sending. Bound: so long without a byte, so long and so much in all, and so many at a
//! time, of which the earliest of the client that has most goes first. They count as connections of their clients; a drain
//! does not wait for them.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::host::TaskGroup;
use crate::proxy::limit::Limiter;

/// How long nothing may come.
const SILENCE: Duration = Duration::from_secs(2);
/// How long it is read on.
const LONGEST: Duration = Duration::from_secs(30);
/// How much is read.
const MOST: u64 = 1 << 30;
const BUFFER: usize = 16 << 10;

/// Reads on in what one client sends at the end. Small, as it moves with each connection.
#[derive(Clone)]
pub(crate) struct Lingerer(Arc<Shared>);

struct Shared {
    limiter: Arc<Limiter>,
    background: TaskGroup,
    drain: CancellationToken,
    client: IpAddr,
}

/// A connection that lingers when it is dropped, unless its client has ended it.
pub(crate) struct Lingering<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    stream: Option<S>,
    lingerer: Option<Lingerer>,
}

impl Lingerer {
    /// For connections of `client`. A `drain` ends what would hold up others.
    pub(crate) fn new(limiter: Arc<Limiter>, background: TaskGroup, drain: CancellationToken, client: IpAddr) -> Self {
        Self(Arc::new(Shared { limiter, background, drain, client }))
    }

    /// Reads on in the body of a stream of HTTP/2, which is reset behind its answer if it does not end.
    pub(crate) fn read_on<B>(&self, mut body: B)
    where
        B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Send,
    {
        let drain = self.0.drain.clone(); // its connection waits for its streams
        self.run(async move {
            let reading = async {
                let mut read = 0;
                while let Ok(Some(Ok(frame))) = timeout(SILENCE, body.frame()).await
                    && read < MOST
                {
                    read += frame.data_ref().map_or(0, |data| data.len() as u64);
                }
            };
            let _ = drain.run_until_cancelled(reading).await; // it is dropped in any case
        });
    }

    fn run(&self, reading: impl Future<Output = ()> + Send + 'static) {
        if Handle::try_current().is_err() {
            return; // the process ends
        }
        let place = self.0.limiter.linger(self.0.client);
        let left = place.left().clone();
        self.0.background.spawn_until_stop(async move {
            let _ = left.run_until_cancelled(timeout(LONGEST, reading)).await;
            drop(place);
        });
    }
}

impl<S> Lingering<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Without a lingerer it does not linger.
    pub(crate) fn new(stream: S, lingerer: Option<Lingerer>) -> Self {
        Self { stream: Some(stream), lingerer }
    }

    /// Does `poll` with the stream. One that has failed does not linger.
    fn with<T>(&mut self, poll: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let polled = poll(Pin::new(stream));
        if matches!(polled, Poll::Ready(Err(_))) {
            self.lingerer = None;
        }
        polled
    }
}

/// Ends our side, and reads until the client ends its own.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let (mut buffer, mut read) = (vec![0; BUFFER], 0);
    while let Ok(Ok(length @ 1..)) = timeout(SILENCE, stream.read(&mut buffer)).await
        && read < MOST
    {
        read += length as u64;
    }
}

impl<S> Drop for Lingering<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn drop(&mut self) {
        if let (Some(stream), Some(lingerer)) = (self.stream.take(), self.lingerer.take()) {
            lingerer.run(linger(stream));
        }
    }
}

impl<S> AsyncRead for Lingering<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (this, before) = (self.get_mut(), buf.remaining());
        let polled = this.with(|stream| stream.poll_read(cx, buf));
        if polled.is_ready() && before > 0 && buf.remaining() == before {
            this.lingerer = None; // it has ended
        }
        polled
    }
}

impl<S> AsyncWrite for Lingering<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().with(|stream| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().with(|stream| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().with(|stream| stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio::io::DuplexStream;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::proxy::limit::limiter::tests::{HERE, THERE, limits};
    use crate::wire::{ClientSocket, Guarded};

    struct Lab {
        limiter: Arc<Limiter>,
        background: TaskGroup,
        drain: CancellationToken,
    }

    impl Lab {
        fn new() -> Self {
            Self { limiter: Limiter::new(limits()), background: TaskGroup::new(), drain: CancellationToken::new() }
        }

        fn lingerer(&self, client: [u8; 4]) -> Lingerer {
            Lingerer::new(self.limiter.clone(), self.background.clone(), self.drain.clone(), client.into())
        }

        /// The client's end, ours, and what tells whether ours is open.
        fn open(
            &self,
            client: [u8; 4],
        ) -> (DuplexStream, impl AsyncRead + AsyncWrite + Unpin + Send, CancellationToken) {
            let (theirs, ours) = tokio::io::duplex(1 << 10);
            let closed = CancellationToken::new();
            let guard = closed.clone().drop_guard();
            (theirs, Lingering::new(Guarded::new(ours, guard), Some(self.lingerer(client))), closed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_reaches_a_client_that_sends_all_before_it_reads() {
        let lab = Lab::new();
        let (mut theirs, mut ours, closed) = lab.open(HERE);
        ours.write_all(b"no").await.unwrap();
        drop(ours);
        theirs.write_all(&[0; 100_000]).await.unwrap();
        let mut answer = Vec::new();
        theirs.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"no");
        assert!(!closed.is_cancelled(), "it still counts");
        let begun = Instant::now();
        drop(theirs);
        closed.cancelled().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    /// More than the system holds of what is sent and not read.
    #[tokio::test]
    async fn no_socket_is_reset_under_a_client_that_sends() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let theirs = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let tcp = [ClientSocket::Tcp(theirs), ClientSocket::Tcp(listener.accept().await.unwrap().0)];
        let (theirs, ours) = tokio::net::UnixStream::pair().unwrap();
        let lab = Lab::new();
        for [mut theirs, ours] in [tcp, [ClientSocket::Unix(theirs), ClientSocket::Unix(ours)]] {
            let mut ours = Lingering::new(ours, Some(lab.lingerer(HERE)));
            ours.write_all(b"no").await.unwrap();
            drop(ours);
            for _ in 0..24 {
                theirs.write_all(&vec![0; 1 << 20]).await.unwrap();
            }
            let mut answer = Vec::new();
            theirs.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"no");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_or_never_stops_is_left() {
        let lab = Lab::new();
        for (pause, expected) in [(SILENCE * 2, SILENCE), (SILENCE / 2, LONGEST)] {
            let (mut theirs, ours, closed) = lab.open(HERE);
            let begun = Instant::now();
            drop(ours);
            let sending = async {
                loop {
                    sleep(pause).await;
                    let _ = theirs.write_all(b"x").await;
                }
            };
            tokio::select! { () = sending => {} () = closed.cancelled() => {} }
            assert_eq!(begun.elapsed(), expected, "{pause:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_its_client_has_ended_does_not_linger() {
        let lab = Lab::new();
        let (mut theirs, mut ours, closed) = lab.open(HERE);
        theirs.shutdown().await.unwrap();
        assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 0);
        drop(ours);
        assert!(closed.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_with_many_takes_no_place_of_another_and_a_stop_ends_all() {
        let lab = Lab::new();
        let (_theirs, ours, other) = lab.open(THERE);
        drop(ours);
        let (kept, closed): (Vec<_>, Vec<_>) = (0..1000)
            .map(|_| {
                let (theirs, ours, closed) = lab.open(HERE);
                drop(ours);
                (theirs, closed)
            })
            .unzip();
        let open = || closed.iter().filter(|closed| !closed.is_cancelled()).count();
        while open() > 255 {
            tokio::task::yield_now().await;
        }
        assert_eq!((open(), other.is_cancelled()), (255, false));
        let begun = Instant::now();
        lab.background.stop().await;
        assert!(open() == 0 && other.is_cancelled() && begun.elapsed() == Duration::ZERO);
        drop(kept);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_read_on_until_it_ends_is_silent_or_a_drain_begins() {
        let body = |guard| {
            let piece = || Ok::<_, io::Error>(Frame::data(Bytes::from_static(b"x")));
            let come = futures_util::stream::repeat_with(piece).take(100);
            StreamBody::new(come.chain(futures_util::stream::pending()).inspect(move |_| {
                let _held = &guard;
            }))
        };
        for (drains, expected) in [(false, SILENCE), (true, Duration::ZERO)] {
            let (lab, closed) = (Lab::new(), CancellationToken::new());
            let begun = Instant::now();
            lab.lingerer(HERE).read_on(body(closed.clone().drop_guard()));
            if drains {
                lab.drain.cancel();
            }
            closed.cancelled().await;
            assert_eq!(begun.elapsed(), expected);
        }
    }
}

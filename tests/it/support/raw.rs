//! An upstream that writes bytes of the test's choice: TLS by the lab, and behind it whatever is no HTTP server's habit.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::lab::{self, Certificate};

/// What is done on each connection, once a request, or HTTP/2's preface, has begun to come.
#[derive(Clone, Debug)]
pub(crate) enum Play {
    /// This, and then the end of the connection.
    Once(Vec<u8>),
    /// Each connection the next one, and the end of the connection; the last one again and again.
    InTurn(Vec<Vec<u8>>),
    /// This, and then nothing more.
    Still(Vec<u8>),
    /// The first, then the second again and again, as fast as it is taken.
    Flood(Vec<u8>, Vec<u8>),
    /// The first, then the second again and again, a byte each twentieth of a second.
    Drip(Vec<u8>, Vec<u8>),
}

impl Play {
    /// What the connection with this number gets.
    fn of(self, number: usize) -> Self {
        match self {
            Self::InTurn(mut all) => Self::Once(all.swap_remove(number.min(all.len() - 1))),
            play => play,
        }
    }
}

/// A server on a thread of its own, until it is dropped.
pub(crate) struct Raw {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Raw {
    /// `protocol` is what it says by ALPN.
    pub(crate) fn start(name: &str, protocol: &'static [u8], play: Play) -> Self {
        let tls = TlsAcceptor::from(lab::server_config(&[name.to_owned()], Certificate::Good, &[protocol], false));
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, open): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let (counts, (stop, stopped)) = ((accepted.clone(), open.clone()), oneshot::channel());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                let serving = async {
                    loop {
                        let Ok((stream, _)) = listener.accept().await else { continue };
                        let number = counts.0.fetch_add(1, Ordering::SeqCst);
                        let open = Open::new(&counts.1);
                        let (tls, play) = (tls.clone(), play.clone().of(number));
                        tokio::spawn(async move {
                            let _open = open;
                            let _ = stream.set_nodelay(true); // else a reset may overtake what was written
                            if let Ok(stream) = tls.accept(stream).await {
                                perform(stream, play).await;
                            }
                        });
                    }
                };
                tokio::select! { () = serving => {} _ = stopped => {} }
            });
        });
        Self { address, accepted, open, running: Some((stop, thread)) }
    }

    /// The entry of the registry that it is.
    pub(crate) fn entry(&self, name: &str, more: &str) -> String {
        let ca = lab::ca_file();
        let endpoint = format!("{{url: 'https://{name}', address: '{}', ca_file: '{}'}}", self.address, ca.display());
        format!("'{name}': {{endpoints: [{endpoint}]{more}}}")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// How many are open now.
    pub(crate) fn open_connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn perform(mut stream: TlsStream<TcpStream>, play: Play) {
    let mut read = [0; 4096];
    if !stream.read(&mut read).await.is_ok_and(|read| read > 0) {
        return;
    }
    let (mut from, mut to) = tokio::io::split(stream);
    let reading = async {
        let mut read = [0; 4096];
        while from.read(&mut read).await.is_ok_and(|read| read > 0) {}
    };
    tokio::select! {
        () = write(&mut to, play) => {}
        () = reading => {}
    }
}

/// Ends when it was written, or cannot be.
async fn write(to: &mut (impl AsyncWrite + Unpin), play: Play) {
    let _ = match play {
        Play::Once(bytes) => sent(to, &bytes).await,
        Play::InTurn(_) => Ok(()), // there is none any more
        Play::Still(bytes) => match sent(to, &bytes).await {
            Ok(()) => std::future::pending().await,
            broken => broken,
        },
        Play::Flood(first, again) => {
            let again = again.repeat((64 << 10) / again.len() + 1);
            let mut written = sent(to, &first).await;
            while written.is_ok() {
                written = sent(to, &again).await;
                tokio::task::yield_now().await;
            }
            written
        }
        Play::Drip(first, again) => {
            let mut written = sent(to, &first).await;
            for byte in again.iter().cycle() {
                if written.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                written = sent(to, &[*byte]).await;
            }
            written
        }
    };
}

async fn sent(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

//! A relay in front of a server: a NAT that can forget the connections that go through it, and tell nobody.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::lab;

/// Passes bytes on between its clients and one server, on a thread of its own, until it is dropped.
pub(crate) struct Relay {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    forgotten: Arc<AtomicUsize>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Relay {
    pub(crate) fn to(server: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, forgotten): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let (counts, (stop, stopped)) = ((accepted.clone(), forgotten.clone()), oneshot::channel());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                let relaying = async {
                    loop {
                        let Ok((client, _)) = listener.accept().await else { continue };
                        let number = counts.0.fetch_add(1, Ordering::SeqCst);
                        tokio::spawn(relay(client, server, number, Arc::clone(&counts.1)));
                    }
                };
                tokio::select! { () = relaying => {} _ = stopped => {} }
            });
        });
        Self { address, accepted, forgotten, running: Some((stop, thread)) }
    }

    /// From now on, what is sent on the connections that there are vanishes. New ones are as they were.
    pub(crate) fn forget(&self) {
        self.forgotten.store(self.connections(), Ordering::SeqCst);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// How its server is reached: an entry of `upstream.hosts`.
    pub(crate) fn host(&self, name: &str) -> String {
        format!("'{name}': {{address: '{}', ca_file: '{}'}}", self.address, lab::ca_file().display())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

async fn relay(client: TcpStream, server: SocketAddr, number: usize, forgotten: Arc<AtomicUsize>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
    let ((client_reads, client_writes), (server_reads, server_writes)) = (client.into_split(), server.into_split());
    let is_forgotten = || forgotten.load(Ordering::SeqCst) > number;
    tokio::join!(pass(client_reads, server_writes, is_forgotten), pass(server_reads, client_writes, is_forgotten));
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, is_forgotten: impl Fn() -> bool) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut bytes).await.unwrap_or(0);
        let is_forgotten = is_forgotten();
        if read == 0 {
            if is_forgotten {
                std::future::pending::<()>().await; // not even the end is told
            }
            return;
        }
        if !is_forgotten && to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

//! The hostile server: one listener for all cells' registries, on a thread of its own, that writes bytes as it likes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::elsewhere;
use super::honest::Asked;
use super::http2;
use super::site::{Phase, Site, Sites};
use super::steps::{Next, Step, play};
use crate::support::lab::{self, Certificate};

/// What all hosts are under.
pub(super) const DOMAIN: &str = "h.example";

/// A running server; it ends when this is dropped.
pub(super) struct Upstream {
    address: SocketAddr,
    running: Option<(oneshot::Sender<()>, std::thread::JoinHandle<()>)>,
}

impl Upstream {
    /// Answers for these registries, by HTTP/1.1, or by HTTP/2 alone.
    pub(super) fn start(sites: Sites, h2: bool) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let names = [format!("*.{DOMAIN}"), "127.0.0.1".to_owned(), "localhost".to_owned()];
        let alpn: &[&[u8]] = if h2 { &[b"h2"] } else { &[b"http/1.1"] };
        let tls = TlsAcceptor::from(lab::server_config(&names, Certificate::Good, alpn, false));
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                tokio::select! {
                    () = accept(TcpListener::from_std(listener).unwrap(), tls, Arc::new(sites), h2) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, running: Some((stop, thread)) }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, sites: Arc<Sites>, h2: bool) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let (tls, sites) = (tls.clone(), Arc::clone(&sites));
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let host = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
            let site = sites.get(&host).cloned();
            match site.filter(|_| h2) {
                Some(site) => http2::serve(stream, site).await,
                None => serve(stream, &sites).await,
            }
        });
    }
}

/// HTTP/1.1, request by request.
async fn serve(mut stream: TlsStream<TcpStream>, sites: &Sites) {
    let mut read = Vec::new();
    while let Some(asked) = request(&mut stream, &mut read).await {
        let next = match sites.get(&asked.host) {
            None => play(&mut stream, &elsewhere::answer(sites, &asked)).await,
            Some(site) => answer(&mut stream, site, &asked).await,
        };
        match next {
            Next::Serve => {}
            Next::Close => return,
            Next::Reset => return reset(&stream),
        }
    }
}

async fn answer(stream: &mut TlsStream<TcpStream>, site: &Site, asked: &Asked) -> Next {
    site.see(asked);
    let answer = site.answer(asked);
    if site.phase() != Phase::Attack {
        let next = play(stream, &[Step::Say(answer.message(asked))]).await;
        site.answered();
        return next;
    }
    let steps = site.kind.steps(site, asked, answer);
    let is_flood = steps.iter().any(|step| matches!(step, Step::Flood(_)));
    tokio::select! {
        next = play(stream, &steps) => next,
        () = site.healed(), if is_flood => Next::Close,
    }
}

fn reset(stream: &TlsStream<TcpStream>) {
    let _ = socket2::SockRef::from(stream.get_ref().0).set_linger(Some(Duration::ZERO));
}

/// The next request with its body, which is not kept; `None` where no more come.
async fn request(stream: &mut TlsStream<TcpStream>, read: &mut Vec<u8>) -> Option<Asked> {
    let end = until(stream, read, b"\r\n\r\n").await?;
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    read.drain(..end);
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let mut asked = Asked { method: words.next()?.to_owned(), ..Asked::default() };
    asked.path = words.next()?.split('?').next()?.to_owned();
    let mut length = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name.to_ascii_lowercase().as_str() {
            "host" => value.clone_into(&mut asked.host),
            "user-agent" => value.clone_into(&mut asked.agent),
            "range" => asked.range = Some(value.to_owned()),
            "authorization" => asked.authorization = Some(value.to_owned()),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    while read.len() < length {
        (stream.read_buf(read).await.ok()? > 0).then_some(())?;
    }
    read.drain(..length);
    Some(asked)
}

async fn until(stream: &mut TlsStream<TcpStream>, read: &mut Vec<u8>, end: &[u8]) -> Option<usize> {
    loop {
        if let Some(at) = read.windows(end.len()).position(|window| window == end) {
            return Some(at + end.len());
        }
        (stream.read_buf(read).await.ok()? > 0).then_some(())?;
    }
}

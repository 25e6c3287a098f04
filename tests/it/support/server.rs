//! The server inside a registry: accepts, counts and serves connections, remembers what was asked.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::{HeaderMap, Version};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::answer::answer;
use super::content::Content;
use super::script::{Act, Line, matches};
use super::token::Tokens;

/// One request, as it was seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) version: Version,
    /// The name asked for: `:authority` or Host.
    pub(crate) authority: String,
    /// The answer's status, once there is one.
    pub(crate) status: Option<u16>,
}

/// What the server's thread and the test share.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) content: Arc<Mutex<Content>>,
    pub(super) tokens: Mutex<Option<Tokens>>,
    pub(super) uploaded: AtomicU64,
    pub(super) trailed: AtomicUsize,
    pub(super) script: Mutex<Script>,
    pub(super) seen: Mutex<Vec<Seen>>,
    pub(super) accepted: AtomicUsize,
    pub(super) open: AtomicUsize,
    pub(super) hanging: AtomicBool,
}

#[derive(Default)]
pub(super) struct Script {
    lines: Vec<(Line, String, Act, Option<usize>)>,
    next: usize,
}

impl Shared {
    /// Writes a request down; its place is for [`Shared::answered`].
    pub(super) fn see(&self, seen: Seen) -> usize {
        let mut list = self.seen.lock().unwrap();
        list.push(seen);
        list.len() - 1
    }

    pub(super) fn answered(&self, place: usize, status: u16) {
        if let Some(seen) = self.seen.lock().unwrap().get_mut(place) {
            seen.status = Some(status);
        }
    }

    /// What the script has for a request; lines that are for a number of times are used up by it.
    pub(super) fn acts(&self, method: &str, path: &str) -> Vec<Act> {
        self.script.lock().unwrap().take(method, path)
    }
}

impl Script {
    pub(super) fn add(&mut self, pattern: &str, act: Act, times: Option<usize>) -> Line {
        self.next += 1;
        let line = Line(self.next);
        self.lines.push((line, pattern.to_owned(), act, times));
        line
    }

    pub(super) fn remove(&mut self, line: Line) {
        self.lines.retain(|(one, ..)| *one != line);
    }

    fn take(&mut self, method: &str, path: &str) -> Vec<Act> {
        let mut acts = Vec::new();
        for (_, pattern, act, left) in &mut self.lines {
            if *left == Some(0) || !matches(pattern, method, path) {
                continue;
            }
            *left = left.map(|left| left - 1);
            acts.push(act.clone());
        }
        acts
    }
}

pub(super) async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, streams: Option<u32>, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(connected(stream, tls.clone(), streams, Arc::clone(&shared)));
    }
}

async fn connected(stream: TcpStream, tls: Option<TlsAcceptor>, streams: Option<u32>, shared: Arc<Shared>) {
    let _open = Open::new(&shared);
    if shared.hanging.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(stream, streams, &shared).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, streams, &shared).await;
            }
        }
    }
}

async fn serve<S>(stream: S, streams: Option<u32>, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| answer(Arc::clone(shared), request));
    // A connection that breaks is often what the test is about.
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(streams.or(Some(200)));
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

/// Counts a connection as open.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

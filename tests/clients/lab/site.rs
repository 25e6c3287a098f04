//! A site of the lab's small internet: TLS for a real name on a loopback address, in front of a real program.
//!
//! It passes every request on, remembers it, and can be slow, strange ([`Quirk`]) or gone. What a test claims about the cache is an
//! equality on what sites remember.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, HOST};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::authority::Authority;
use super::ports;
use super::token::TokenService;

/// A body of any origin.
pub(crate) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// What answers behind the TLS.
pub(crate) enum Origin {
    /// A program that speaks HTTP on a Unix socket.
    Socket(PathBuf),
    /// The lab's token service.
    Token(TokenService),
}

/// How a strange site differs from the program behind it.
pub(crate) trait Quirk: Send + Sync {
    /// What the program is asked instead.
    fn ask(&self, _: &mut Parts) {}

    /// The site's own answer, in place of the program's.
    fn instead(&self, _: &Parts) -> Option<Response<Body>> {
        None
    }

    /// The program's answer as the site sends it.
    fn change(&self, head: &Parts, answer: Response<Body>) -> Response<Body>;
}

/// How many streams an HTTP/2 connection to a site may have.
const STREAMS: u32 = 200;

/// One request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The site's name.
    pub(crate) host: String,
    pub(crate) method: Method,
    pub(crate) path: String,
}

/// Panics where something was asked for twice, or nothing at all.
pub(crate) fn once_each(seen: &[Seen]) {
    assert!(!seen.is_empty(), "nothing was asked for");
    for (index, one) in seen.iter().enumerate() {
        assert!(!seen[..index].contains(one), "twice: {one:?} in {seen:#?}");
    }
}

struct Shared {
    name: String,
    origin: Origin,
    tls: TlsAcceptor,
    seen: Mutex<Vec<Seen>>,
    told: Mutex<String>,
    pace: AtomicU64, // bytes a second of each answer; 0: as fast as it goes
    sent: AtomicU64, // body bytes
    cut: Notify,     // rung when connections are to break
    quirk: Mutex<Option<Arc<dyn Quirk>>>,
    streams: AtomicU32, // of each HTTP/2 connection from now on
}

impl Shared {
    fn tell(&self, text: &str) {
        self.told.lock().unwrap().push_str(text);
    }
}

/// A site; dropping it takes it off the net.
pub(crate) struct Site {
    /// Where it is reached.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Handle,
    serving: Mutex<Option<JoinHandle<()>>>,
}

impl Site {
    /// Puts `name` on the net at `ip`, on a port of the system's choice.
    pub(crate) fn new(runtime: &Handle, authority: &Authority, name: &str, ip: IpAddr, origin: Origin) -> Self {
        let shared = Shared {
            name: name.to_owned(),
            origin,
            tls: TlsAcceptor::from(authority.server(name)),
            seen: Mutex::default(),
            told: Mutex::default(),
            pace: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            cut: Notify::new(),
            quirk: Mutex::default(),
            streams: AtomicU32::new(STREAMS),
        };
        let address = ports::free(ip);
        let site = Self { address, shared: Arc::new(shared), runtime: runtime.clone(), serving: Mutex::default() };
        site.start();
        site
    }

    /// Comes back after [`Site::stop`], at the same address.
    pub(crate) fn start(&self) {
        let listener = ports::listen(&self.runtime, self.address);
        let task = self.runtime.spawn(serve(listener, Arc::clone(&self.shared)));
        *self.serving.lock().unwrap() = Some(task);
    }

    /// Goes off the net: open connections break, new ones are refused.
    pub(crate) fn stop(&self) {
        let Some(task) = self.serving.lock().unwrap().take() else { return };
        task.abort();
        let _ = self.runtime.block_on(task); // until the listener is closed
    }

    /// Breaks the open connections, and goes on taking new ones.
    pub(crate) fn cut(&self) {
        self.shared.cut.notify_one();
    }

    /// Answers strangely from now on, or plainly again.
    pub(crate) fn behave(&self, quirk: Option<Arc<dyn Quirk>>) {
        *self.shared.quirk.lock().unwrap() = quirk;
    }

    /// Allows so many streams on each new HTTP/2 connection; none: as many as ever.
    pub(crate) fn allow_streams(&self, streams: Option<u32>) {
        self.shared.streams.store(streams.unwrap_or(STREAMS), Ordering::Relaxed);
    }

    /// From now on takes connections and says nothing on them; [`Site::stop`] ends that, too.
    pub(crate) fn fall_silent(&self) {
        self.stop();
        let listener = ports::listen(&self.runtime, self.address);
        let task = self.runtime.spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
            }
        });
        *self.serving.lock().unwrap() = Some(task);
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.shared.name
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Everything that requests have told it: their first lines, every header, and the forms of a token service.
    pub(crate) fn told(&self) -> String {
        self.shared.told.lock().unwrap().clone()
    }

    /// Forgets every request so far, and what it was told: a site that stands for hours would grow with them.
    pub(crate) fn forget(&self) {
        self.shared.seen.lock().unwrap().clear();
        self.shared.told.lock().unwrap().clear();
    }

    /// Sends each answer at so many bytes a second from now on; 0 ends that.
    pub(crate) fn pace(&self, bytes_per_second: u64) {
        self.shared.pace.store(bytes_per_second, Ordering::Relaxed);
    }

    /// How many bytes of bodies it has sent.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new(); // dropped with this task: every connection breaks
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                connections.spawn(connection(stream, Arc::clone(&shared)));
                while connections.try_join_next().is_some() {}
            }
            () = shared.cut.notified() => connections = JoinSet::new(),
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = shared.tls.clone().accept(stream).await else { return };
    let streams = shared.streams.load(Ordering::Relaxed);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, shared).await) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http2().max_concurrent_streams(streams);
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Response<Body> {
    let seen =
        Seen { host: shared.name.clone(), method: request.method().clone(), path: request.uri().path().to_owned() };
    shared.seen.lock().unwrap().push(seen);
    shared.tell(&format!("{} {}\n", request.method(), request.uri()));
    for (name, value) in request.headers() {
        shared.tell(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    let quirk = shared.quirk.lock().unwrap().clone();
    let (head, body) = request.into_parts();
    if let Some(answer) = quirk.as_ref().and_then(|quirk| quirk.instead(&head)) {
        return answer.map(|body| paced(body, shared));
    }
    let answer = match &shared.origin {
        Origin::Token(service) => {
            let form = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            shared.tell(&format!("{}\n", String::from_utf8_lossy(&form)));
            service.answer(&head, &form)
        }
        Origin::Socket(path) => match forward(asked(&head, body, quirk.as_deref()), path).await {
            Ok(answer) => answer.map(BodyExt::boxed_unsync),
            Err(error) => plain(StatusCode::BAD_GATEWAY, format!("lab: {error}")),
        },
    };
    let answer = match quirk {
        Some(quirk) => quirk.change(&head, answer),
        None => answer,
    };
    answer.map(|body| paced(body, shared))
}

/// The request as the program sees it.
fn asked(head: &Parts, body: Incoming, quirk: Option<&dyn Quirk>) -> Request<Incoming> {
    let mut head = head.clone();
    if let Some(quirk) = quirk {
        quirk.ask(&mut head);
    }
    Request::from_parts(head, body)
}

/// An answer of the lab itself.
pub(crate) fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let body = body.into();
    let length = body.len().into();
    let mut answer = Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
    answer.headers_mut().insert(CONTENT_LENGTH, length);
    *answer.status_mut() = status;
    answer
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Passes a request on as HTTP/1.1, telling the program the name that the client used.
async fn forward(mut request: Request<Incoming>, socket: &PathBuf) -> Result<Response<Incoming>, Failure> {
    if let Some(authority) = request.uri().authority().cloned() {
        request.headers_mut().insert(HOST, authority.as_str().parse()?);
    }
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
    *request.uri_mut() = target.parse::<Uri>()?;
    *request.version_mut() = hyper::Version::HTTP_11;
    request.headers_mut().insert("x-forwarded-proto", "https".parse()?);
    let stream = TokioIo::new(UnixStream::connect(socket).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    tokio::spawn(connection);
    let mut answer = sender.send_request(request).await?;
    for name in ["connection", "keep-alive", "transfer-encoding"] {
        answer.headers_mut().remove(name); // of this hop; HTTP/2 forbids them
    }
    Ok(answer)
}

/// Counts what is sent, and holds it back to the site's pace, 16 KiB at a time.
fn paced(body: Body, shared: Arc<Shared>) -> Body {
    let frames = futures_util::stream::unfold((body, shared, VecDeque::new()), |(mut body, shared, mut cut)| async {
        if cut.is_empty() {
            match body.frame().await? {
                Ok(frame) => cut.extend(cut_up(frame)),
                Err(error) => return Some((Err(error), (body, shared, cut))),
            }
        }
        let frame: Frame<Bytes> = cut.pop_front()?;
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        if let Some(wait) = (length * 1_000_000).checked_div(shared.pace.load(Ordering::Relaxed)) {
            tokio::time::sleep(Duration::from_micros(wait)).await;
        }
        shared.sent.fetch_add(length, Ordering::Relaxed);
        Some((Ok(frame), (body, shared, cut)))
    });
    BodyExt::boxed_unsync(StreamBody::new(frames.boxed())) // the length is in the headers
}

fn cut_up(frame: Frame<Bytes>) -> Vec<Frame<Bytes>> {
    match frame.into_data() {
        Ok(mut data) => {
            let mut parts = Vec::new();
            while data.len() > 16_384 {
                parts.push(Frame::data(data.split_to(16_384)));
            }
            parts.push(Frame::data(data));
            parts
        }
        Err(frame) => vec![frame],
    }
}

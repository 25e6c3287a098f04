//! The client of the control socket: finds the server of a cache directory, if there is one, and sends it a command.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::address::{Address, NAME};
use super::protocol::{LINE_LIMIT, PREFIX, ReplyLine};
use crate::cache::{Event, Order};

/// A command that could not be sent, or that the server refused.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket belongs to another user.
    #[error("the control socket {} belongs to another user: run this command as that user or as root", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// The socket cannot be used.
    #[error("cannot use the control socket {}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// HTTP failed.
    #[error("the server did not answer on its control socket")]
    Http(#[from] hyper::Error),
    /// The request could not be built.
    #[error("cannot send the command")]
    Order(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server does not know the command: it is another version.
    #[error("{0}; this program is pullthrough {version}: restart the server with it", version = env!("CARGO_PKG_VERSION"))]
    Unsupported(String),
    /// The command failed.
    #[error("{0}")]
    Failed(String),
    /// The server's answer is incomplete.
    #[error("the server stopped before the command was finished: see its log")]
    Cut,
    /// The server said something unknown.
    #[error("cannot understand the answer of the server, which is another version than this program: restart it")]
    Unknown(#[source] serde_json::Error),
}

/// A connection to the server of a cache directory.
pub struct ControlClient {
    stream: UnixStream,
}

impl ControlClient {
    /// Connects to the server of `folder`; `None` if nobody listens. Call within a runtime.
    ///
    /// # Errors
    /// [`ControlError::Denied`] or [`ControlError::Io`].
    pub async fn connect(folder: &Path) -> Result<Option<Self>, ControlError> {
        let path = folder.join(NAME);
        let connected = match Address::of(folder, NAME) {
            Ok(address) => UnixStream::connect(address.path()).await,
            Err(error) => Err(error),
        };
        match connected {
            Ok(stream) => Ok(Some(Self { stream })),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                io::ErrorKind::PermissionDenied => Err(ControlError::Denied { path }),
                _ => Err(ControlError::Io { path, source: error }),
            },
        }
    }

    /// Sends `order`; `tell` gets each event and may stop the command.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn run(self, order: &Order, tell: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<(), ControlError> {
        let body = serde_json::to_vec(order).map_err(|error| ControlError::Order(error.into()))?;
        let request = Request::post(format!("{PREFIX}{}", order.command.as_str()))
            .header(HOST, "localhost")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ControlError::Order(error.into()))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.stream)).await?;
        let driven = tokio::spawn(connection);
        let asked = ask(&mut sender, request, tell).await;
        driven.abort();
        asked
    }
}

async fn ask(
    sender: &mut http1::SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<(), ControlError> {
    let response = sender.send_request(request).await?;
    let is_known = response.status() == StatusCode::OK;
    let mut body = response.into_body();
    let mut text = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ControlError::Cut)?.into_data() else { continue };
        text.extend_from_slice(&data);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line = text.split_to(end + 1);
            match serde_json::from_slice(&line).map_err(ControlError::Unknown)? {
                ReplyLine::Event(event) => {
                    if tell(event).is_break() {
                        return Ok(());
                    }
                }
                ReplyLine::Failed(words) if is_known => return Err(ControlError::Failed(words)),
                ReplyLine::Failed(words) => return Err(ControlError::Unsupported(words)),
                ReplyLine::End => return Ok(()),
            }
        }
        if text.len() > LINE_LIMIT {
            return Err(ControlError::Cut);
        }
    }
    Err(ControlError::Cut)
}

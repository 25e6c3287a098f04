//! HTTP/1.1 as it is read off a connection: the statuses of all answers, and whether each was whole.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// For a cell that should have ended long ago.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// What came on a connection so far.
pub(super) struct Listener {
    stream: Box<dyn Stream>,
    ahead: Vec<u8>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Whole, with this status.
    Whole(u16),
    /// Broken off in its body.
    Cut(u16),
    /// None: the connection ended.
    End,
    /// Nothing that is HTTP.
    Other,
    /// Nothing in time.
    Silence,
}

impl Listener {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, ahead: Vec::new() }
    }

    pub(super) fn into_stream(self) -> Box<dyn Stream> {
        self.stream
    }

    pub(super) fn stream(&mut self) -> &mut Box<dyn Stream> {
        &mut self.stream
    }

    /// The next answer, to a request of this method.
    pub(super) async fn next(&mut self, method: &str) -> Answer {
        tokio::time::timeout(PATIENCE, self.read(method)).await.unwrap_or(Answer::Silence)
    }

    async fn read(&mut self, method: &str) -> Answer {
        let end = loop {
            if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                break end + 4;
            }
            if !self.more().await {
                return if self.ahead.is_empty() { Answer::End } else { Answer::Other };
            }
        };
        let head = String::from_utf8_lossy(&self.ahead[..end]).to_ascii_lowercase();
        self.ahead.drain(..end);
        let status = head.strip_prefix("http/1.").and_then(|rest| rest.split(' ').nth(1)?.parse::<u16>().ok());
        let Some(status) = status else { return Answer::Other };
        let is_tunnel = method == "CONNECT" && status == 200;
        if method == "HEAD" || is_tunnel || matches!(status, 100..=199 | 204 | 304) {
            return Answer::Whole(status);
        }
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(line.trim().to_owned())
        };
        let whole = if field("transfer-encoding").is_some() {
            self.chunks().await
        } else if let Some(length) = field("content-length") {
            self.bytes(length.parse().unwrap()).await.is_some()
        } else {
            while self.more().await {}
            self.ahead.clear();
            true
        };
        if whole { Answer::Whole(status) } else { Answer::Cut(status) }
    }

    async fn chunks(&mut self) -> bool {
        loop {
            let Some(line) = self.line().await else { return false };
            let Ok(size) = usize::from_str_radix(&line, 16) else { return false };
            if self.bytes(size + 2).await.is_none() {
                return false;
            }
            if size == 0 {
                return true;
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n") {
                let line = String::from_utf8_lossy(&self.ahead[..end]).into_owned();
                self.ahead.drain(..end + 2);
                return Some(line);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn bytes(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.ahead.len() < length {
            if !self.more().await {
                return None;
            }
        }
        Some(self.ahead.drain(..length).collect())
    }

    async fn more(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.ahead).await, Ok(read) if read > 0)
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

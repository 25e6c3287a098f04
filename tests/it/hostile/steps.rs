//! What a hostile server does on a connection: bytes, floods, silences and ends, one after the other.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// One thing to do.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Write these bytes.
    Say(Vec<u8>),
    /// Write these bytes again and again, until the other side has had enough.
    Flood(Vec<u8>),
    /// Write these bytes one by one, so long after one another.
    Drip(Vec<u8>, Duration),
    /// Say nothing for so long, for what the other side does meanwhile.
    Pause(Duration),
    /// Say nothing more until the other side closes the connection.
    Hang,
    /// End the connection in good order.
    Close,
    /// End it by a reset.
    Reset,
}

/// Of a flood, in bytes: far more than anybody may read or keep of it. What is behind the first bytes, or the first
/// repetitions, comes at a pace that leaves something of the machine to the other cells.
const FLOOD: usize = 1 << 30;
const FAST: usize = 17 << 20;
const FAST_TIMES: usize = 4000;
const PIECE: usize = 16 << 10;
const PIECE_TIMES: usize = 64;
const PACE: Duration = Duration::from_millis(25);

/// How a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Serve,
    Close,
    Reset,
}

/// Does all of it.
pub(super) async fn play<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, steps: &[Step]) -> Next {
    for step in steps {
        let done = match step {
            Step::Say(bytes) => say(stream, bytes).await,
            Step::Flood(bytes) => flood(stream, bytes).await,
            Step::Drip(bytes, pause) => drip(stream, bytes, *pause).await,
            Step::Pause(pause) => {
                tokio::time::sleep(*pause).await;
                Ok(())
            }
            Step::Hang => until_closed(stream).await,
            Step::Close => {
                let _ = stream.shutdown().await;
                return Next::Close;
            }
            Step::Reset => return Next::Reset,
        };
        if done.is_err() {
            return Next::Close;
        }
    }
    Next::Serve
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn flood<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> std::io::Result<()> {
    let times = (PIECE / bytes.len().max(1)).clamp(1, PIECE_TIMES);
    let piece = bytes.repeat(times);
    for at in 0..FLOOD / piece.len() {
        if at * piece.len() > FAST || at * times > FAST_TIMES {
            tokio::time::sleep(PACE).await;
        }
        say(stream, &piece).await?;
    }
    Ok(())
}

async fn drip<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8], pause: Duration) -> std::io::Result<()> {
    let mut pace = tokio::time::interval(pause);
    for byte in bytes {
        pace.tick().await;
        say(stream, &[*byte]).await?;
    }
    Ok(())
}

/// Reads on, so that the end is seen, and answers nothing.
async fn until_closed<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<()> {
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored).await? > 0 {}
    Err(std::io::ErrorKind::UnexpectedEof.into())
}

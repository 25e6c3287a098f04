//! A body that is sent as the script says: slowly, up to a place, or past a wrong byte.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use http_body::Frame;
use http_body_util::StreamBody;
use pullthrough::wire::Body;

use super::script::{Act, Gate};

const PIECE: u64 = 16 << 10;

/// The state of one body under way.
struct Sending {
    bytes: Bytes,
    sent: u64,
    rate: Option<u64>,
    cut: Option<u64>,
    holds: Vec<(u64, Option<Gate>)>, // none: for ever
}

/// The body of an answer whose content is `bytes`.
pub(super) fn body(bytes: Bytes, acts: &[Act]) -> Body {
    let mut sending = Sending { bytes, sent: 0, rate: None, cut: None, holds: Vec::new() };
    for act in acts {
        match act {
            Act::Throttle(rate) => sending.rate = Some(*rate),
            Act::Cut(at) => sending.cut = Some(*at),
            Act::CutAnywhere(dice) => sending.cut = Some(dice.below(sending.bytes.len() as u64)),
            Act::Hold(at, gate) => sending.holds.push((*at, Some(gate.clone()))),
            Act::Stall(at) => sending.holds.push((*at, None)),
            _ => {}
        }
    }
    sending.holds.sort_by_key(|(at, _)| *at);
    Body::wrap(StreamBody::new(Box::pin(unfold(sending, |mut sending| async move {
        let piece = sending.next().await?;
        Some((piece.map(Frame::data), sending))
    }))))
}

impl Sending {
    async fn next(&mut self) -> Option<Result<Bytes, std::io::Error>> {
        while self.holds.first().is_some_and(|(at, _)| *at <= self.sent) {
            match self.holds.remove(0).1 {
                Some(gate) => gate.passed().await,
                None => std::future::pending().await,
            }
        }
        if self.cut.is_some_and(|cut| cut <= self.sent) {
            flushed().await;
            self.cut = Some(u64::MAX);
            self.bytes = Bytes::new();
            return Some(Err(std::io::Error::other("cut by the script")));
        }
        if self.bytes.is_empty() {
            flushed().await; // an end that belies the length breaks the connection, too
            return None;
        }
        let piece = self.bytes.split_to(self.length());
        self.sent += piece.len() as u64;
        if let Some(rate) = self.rate {
            tokio::time::sleep(Duration::from_secs_f64(piece.len() as f64 / rate as f64)).await;
        }
        Some(Ok(piece))
    }

    fn length(&self) -> usize {
        let mut length = PIECE.min(self.bytes.len() as u64);
        if let Some(rate) = self.rate {
            length = length.min((rate / 50).max(1)); // a piece every 20 ms
        }
        for stop in self.holds.iter().map(|(at, _)| *at).chain(self.cut) {
            length = length.min(stop - self.sent); // stops passed are gone
        }
        length as usize
    }
}

/// Lets what was sent so far leave before the connection breaks.
async fn flushed() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

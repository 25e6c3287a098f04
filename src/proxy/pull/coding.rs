//! Takes a content coding off that nobody asked for: the digest decides which bytes were meant.
//!
//! Everything is asked for as it is (`identity`). Some servers compress it all the same, and HTTP libraries in Go take
//! that off without a word, so that a direct pull succeeds. Others store a compressed layer and say that it is
//! compressed: there the bytes as they came are the content. What is small is tried both ways. Of a larger blob the
//! beginning decides, and how it was sent: who compresses on the way cannot say how long it will be.
//!
//! Threat: a few bytes that unpack to gigabytes. Bound: what is unpacked at once, a manifest's length, and how many times as
//! long as it came a large blob may be.

use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures_util::StreamExt as _;
use futures_util::stream::{iter, once};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use http_body::Frame;
use http_body_util::{BodyExt as _, BodyStream, StreamBody};

use crate::oci::Digest;
use crate::upstream::AnswerRoom;
use crate::wire::{Body, BodyError};

/// A blob up to this length is read before it is judged, and unpacked to this one.
const SMALL: usize = 1 << 20;
const UNPACKED: usize = 15 << 20;
/// So many coded bytes are unpacked at once, which makes at most a thousand times as many.
const STEP: usize = 1 << 10;
/// What a step makes at most (RFC 1951: 258 bytes from two bits), and how room is taken for what comes.
const STEP_MOST: usize = 1032 * STEP;
const CAME_STEP: usize = 64 << 10;
/// More than this, and more than so many times what came, is no layer.
const MOST: u64 = 64 << 20;
const MOST_TIMES: u64 = 100;
/// How layers begin that are compressed: gzip and zstd.
const COMPRESSED: [&[u8]; 2] = [&[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd]];

/// Whether a content is said to be coded by gzip, and by nothing else.
pub(crate) fn is_gzip(headers: &HeaderMap) -> bool {
    let mut said = headers.get_all(CONTENT_ENCODING).iter();
    let (Some(coding), None) = (said.next(), said.next()) else { return false };
    let coding = coding.as_bytes().trim_ascii();
    coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip")
}

/// All of a content without its coding: as it came where its digest says so, or where there is nothing to take off.
pub(crate) fn plain(came: Bytes, wanted: Option<Digest>, limit: usize) -> Bytes {
    let is_wanted = |bytes: &Bytes| wanted.is_none_or(|wanted| Digest::of(wanted.algorithm(), bytes) == wanted);
    if wanted.is_some() && is_wanted(&came) {
        return came;
    }
    unpacked(&came, limit).filter(is_wanted).unwrap_or(came)
}

/// A blob's body: what it turns out to be, whether its coding was taken off on the way, so that no part of it can be
/// asked for.
///
/// What is read here takes its room among the answers of that host.
pub(crate) async fn blob(
    headers: &HeaderMap,
    mut body: Body,
    wanted: &Digest,
    mut room: AnswerRoom<'_>,
) -> (Body, bool) {
    // Nothing of it is taken, which may have to be judged otherwise the next time.
    let broken = |error: BodyError| {
        let broken = once(std::future::ready(Err::<Frame<Bytes>, _>(error)));
        (Body::wrap(StreamBody::new(broken)), false)
    };
    let (mut came, mut held) = (Vec::new(), 0);
    while came.len() <= SMALL {
        match body.frame().await {
            Some(Err(error)) => return broken(error),
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                let needed = (came.len() + data.len()).next_multiple_of(CAME_STEP);
                if needed > held {
                    if let Err(error) = room.grow(needed - held).await {
                        return broken(error);
                    }
                    held = needed;
                }
                came.extend_from_slice(&data);
            }
            None if Digest::of(wanted.algorithm(), &came) == *wanted => return (Body::full(came), false),
            None => match unpacked_within(&came, &mut room).await {
                Err(error) => return broken(error),
                Ok(Some(plain)) if Digest::of(wanted.algorithm(), &plain) == *wanted => {
                    return (Body::full(plain), true);
                }
                Ok(_) => break,
            },
        }
    }
    let is_coded = is_packed_twice(&came) || !headers.contains_key(CONTENT_LENGTH);
    let first = iter([Ok(Frame::data(Bytes::from(came)))]);
    let body = Body::wrap(StreamBody::new(first.chain(BodyStream::new(body))));
    if is_coded { (Body::wrap(Unpacking::new(body)), true) } else { (body, false) }
}

/// Whether what is coded is compressed itself, as a layer is.
fn is_packed_twice(came: &[u8]) -> bool {
    let mut decoder = MultiGzDecoder::new(Vec::new());
    let is_gzip = decoder.write_all(&came[..came.len().min(STEP)]).is_ok() && decoder.flush().is_ok();
    is_gzip && COMPRESSED.iter().any(|magic| decoder.get_ref().starts_with(magic))
}

/// As [`unpacked`], in such room.
async fn unpacked_within(came: &[u8], room: &mut AnswerRoom<'_>) -> Result<Option<Bytes>, BodyError> {
    let (mut decoder, mut held) = (MultiGzDecoder::new(Vec::new()), 0);
    for step in came.chunks(STEP) {
        let needed = (decoder.get_ref().len() + STEP_MOST).min(UNPACKED);
        if needed > held {
            room.grow(needed - held).await?;
            held = needed;
        }
        if decoder.write_all(step).is_err() || decoder.get_ref().len() > UNPACKED {
            return Ok(None);
        }
    }
    Ok(decoder.finish().ok().map(Bytes::from))
}

fn unpacked(came: &[u8], limit: usize) -> Option<Bytes> {
    let mut decoder = MultiGzDecoder::new(Vec::new());
    for step in came.chunks(STEP) {
        decoder.write_all(step).ok()?;
        if decoder.get_ref().len() > limit {
            return None;
        }
    }
    decoder.finish().ok().map(Bytes::from)
}

/// A body whose coding is taken off as it comes.
struct Unpacking {
    body: Body,
    coded: Bytes,
    /// How many bytes came, and how many they were.
    came: u64,
    made: u64,
    /// None once it has ended.
    decoder: Option<MultiGzDecoder<Vec<u8>>>,
}

impl Unpacking {
    fn new(body: Body) -> Self {
        Self { body, coded: Bytes::new(), came: 0, made: 0, decoder: Some(MultiGzDecoder::new(Vec::new())) }
    }

    /// The bytes that came by one step; the last ones at the end.
    fn step(&mut self) -> std::io::Result<Bytes> {
        let Some(decoder) = &mut self.decoder else { return Ok(Bytes::new()) };
        let step = self.coded.split_to(self.coded.len().min(STEP));
        decoder.write_all(&step)?;
        decoder.flush()?;
        let made = std::mem::take(decoder.get_mut());
        (self.came, self.made) = (self.came + step.len() as u64, self.made + made.len() as u64);
        if self.made > MOST && self.made / MOST_TIMES > self.came {
            return Err(std::io::Error::other("it unpacks to many times its length"));
        }
        Ok(made.into())
    }
}

impl http_body::Body for Unpacking {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            if this.decoder.is_none() {
                return Poll::Ready(None);
            }
            while !this.coded.is_empty() {
                match this.step() {
                    Ok(bytes) if bytes.is_empty() => {}
                    Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                    Err(error) => {
                        (this.decoder, this.coded) = (None, Bytes::new());
                        return Poll::Ready(Some(Err(BodyError::new(error))));
                    }
                }
            }
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => this.coded = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let last = this.decoder.take().map_or(Ok(Vec::new()), MultiGzDecoder::finish);
                    return Poll::Ready(match last {
                        Ok(last) if last.is_empty() => None,
                        last => Some(last.map(|last| Frame::data(last.into())).map_err(BodyError::new)),
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http::HeaderValue;

    use super::*;
    use crate::oci::{Algorithm, Authority};
    use crate::upstream::{answer_room, answers_held};

    fn packed(bytes: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().into()
    }

    fn digest(bytes: &[u8]) -> Digest {
        Digest::of(Algorithm::Sha256, bytes)
    }

    fn host() -> Authority {
        Authority::parse("coded.test", 443).unwrap()
    }

    #[tokio::test]
    async fn a_coded_blob_is_read_in_the_room_that_answers_have() {
        let host = host();
        let mut all = answer_room(&host);
        all.grow(17 << 20).await.unwrap();
        assert!(answers_held().0 >= 17 << 20);
        let (plain, coded) = (vec![0; 100_000], packed(&[0; 100_000]));
        let (body, _) = blob(&HeaderMap::new(), Body::full(coded.clone()), &digest(&plain), answer_room(&host)).await;
        assert!(crate::wire::collect(body, 1 << 20).await.is_err(), "none is left for this host");
        drop(all);
        let (body, is_coded) = blob(&HeaderMap::new(), Body::full(coded), &digest(&plain), answer_room(&host)).await;
        assert!(is_coded && crate::wire::collect(body, 1 << 20).await.unwrap() == plain);
    }

    /// Bytes that do not compress.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn only_gzip_alone_is_a_coding_that_is_taken_off() {
        for (said, expected) in [("gzip", true), (" X-GZIP", true), ("br", false), ("gzip, gzip", false), ("", false)] {
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(said))]);
            assert_eq!(is_gzip(&headers), expected, "{said}");
        }
        assert!(!is_gzip(&HeaderMap::new()));
    }

    #[test]
    fn the_digest_says_whether_a_coding_is_taken_off() {
        let (manifest, coded) = (Bytes::from_static(b"{\"schemaVersion\":2}"), packed(b"{\"schemaVersion\":2}"));
        let other = digest(b"other");
        for (came, wanted, expected) in [
            (&coded, Some(digest(&manifest)), &manifest),
            (&coded, Some(digest(&coded)), &coded),
            (&coded, Some(other), &coded),
            (&coded, None, &manifest),
            (&manifest, Some(digest(&manifest)), &manifest),
            (&manifest, None, &manifest),
        ] {
            assert_eq!(plain(came.clone(), wanted, 1000), expected, "{wanted:?}");
        }
        let bomb = packed(&vec![0; 100_000]);
        assert_eq!(plain(bomb.clone(), None, 1000), bomb, "longer than it may be");
    }

    #[tokio::test]
    async fn a_blob_is_what_its_digest_its_beginning_and_its_head_say() {
        let said_length = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("1"))]);
        let (small, large, layer) = (noise(5000), noise(SMALL + 5000), packed(&noise(SMALL + 5000)));
        let unsaid = HeaderMap::new();
        for (name, headers, content, came) in [
            ("small", &said_length, &small[..], packed(&small)),
            ("small, and meant as it is", &unsaid, &packed(&small)[..], packed(&small)),
            ("large, compressed on the way", &unsaid, &large, packed(&large)),
            ("large, stored as it is", &said_length, &packed(&large)[..], packed(&large)),
            ("a layer that is compressed twice", &said_length, &layer[..], packed(&layer)),
        ] {
            let is_coded = came != content;
            let (body, found) = blob(headers, Body::full(came), &digest(content), answer_room(&host())).await;
            assert_eq!(found, is_coded, "{name}");
            assert!(crate::wire::collect(body, 64 << 20).await.unwrap() == content, "{name}");
        }
    }

    #[tokio::test]
    async fn a_blob_that_unpacks_to_many_times_its_length_breaks_off_and_stays_broken() {
        let mut bomb = packed(&noise(SMALL + 5000)).to_vec();
        bomb.extend_from_slice(&packed(&vec![0; 300 << 20]));
        let (mut body, _) =
            blob(&HeaderMap::new(), Body::full(Bytes::from(bomb)), &digest(b"x"), answer_room(&host())).await;
        let (mut made, mut broke) = (0, false);
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => made += frame.data_ref().map_or(0, Bytes::len) as u64,
                Err(_) => broke = true,
            }
        }
        assert!(broke && made <= 2 * MOST_TIMES * SMALL as u64, "{made}");
    }

    #[tokio::test]
    async fn a_coded_body_that_breaks_off_does_not_end_cleanly() {
        let coded = packed(&noise(SMALL + 5000));
        let (body, _) =
            blob(&HeaderMap::new(), Body::full(coded.slice(..SMALL + 2000)), &digest(b"x"), answer_room(&host())).await;
        assert!(crate::wire::collect(body, 64 << 20).await.is_err());
    }
}

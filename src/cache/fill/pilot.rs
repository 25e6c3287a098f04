//! The task that brings a fill home: asks sources until nothing is missing, verifies, commits.
//!
//! A cut, a stall or an expired address is not an error here as long as bytes keep coming: the rest is
//! asked for again. Only a source that gains nothing several times in a row is given up for the next.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use tracing::{debug, error, warn};

use super::fill::{Fill, Lead};
use super::plan::Seat;
use super::writer::Writer;
use crate::cache::{Fault, Retry, Validator, Want};
use crate::oci::{Digest, Hasher};
use crate::store::{Blob, Staged};
use crate::telemetry::Metrics;

/// How often in a row a source may fail without bringing a byte, before and after the first byte came.
const TRIES_AT_FIRST: u32 = 2;
const TRIES_LATER: u32 = 8;
/// Between two such tries; doubled each time up to the limit.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_LIMIT: Duration = Duration::from_secs(5);
/// How much the digest reader takes at once.
const HASH_CHUNK: usize = 256 << 10;

/// The content is not what its name says.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's bytes have the digest {found}, not {wanted}")]
pub(super) struct Mismatch {
    wanted: Digest,
    found: Digest,
}

/// The upstream brought more bytes than it had said.
#[derive(Debug, thiserror::Error)]
#[error("the upstream sent more than the {0} bytes that it announced")]
struct TooMuch(u64);

/// The upstream ended early.
#[derive(Debug, thiserror::Error)]
#[error("the upstream ended at byte {at} of {total}")]
struct TooLittle {
    at: u64,
    total: u64,
}

/// Every source has failed and said nothing that can be passed on.
#[derive(Debug, thiserror::Error)]
#[error("no source is left")]
struct NoSource;

/// Runs a fill to its end. Answers the committed blob, or `None` when it broke.
pub(super) async fn run(fill: Arc<Fill>, metrics: Metrics) -> Option<Blob> {
    let counted = metrics.fill();
    let gathering = async {
        let gathered = gather(&fill, &metrics).await;
        if let Err(fault) = &gathered {
            fill.break_off(fault);
        }
        gathered
    };
    let (gathered, hashed) = tokio::join!(gathering, digest(&fill));
    drop(counted);
    match gathered.and(hashed) {
        Ok((found, length)) if found == *fill.digest() => {
            fill.verify(length);
            commit(fill, length).await
        }
        Ok((found, _)) => {
            let mismatch = Mismatch { wanted: *fill.digest(), found };
            error!(digest = %fill.digest(), "{mismatch}; its readers were cut off and nothing is kept");
            metrics.digest_mismatch();
            fill.break_off(&Fault::new(Retry::Never, mismatch));
            None
        }
        Err(fault) => {
            debug!(digest = %fill.digest(), %fault, "fill ended without content");
            fill.break_off(&fault);
            None
        }
    }
}

async fn commit(fill: Arc<Fill>, length: u64) -> Option<Blob> {
    let staged: Arc<Staged> = fill.staged().clone();
    match tokio::task::spawn_blocking(move || staged.commit(length)).await {
        Ok(Ok(blob)) => Some(blob),
        Ok(Err(cause)) => {
            error!(digest = %fill.digest(), error = %cause, "a verified blob could not be stored; its readers are served");
            None
        }
        Err(_) => None, // the runtime is going down
    }
}

/// Asks one source after another until nothing is missing.
async fn gather(fill: &Fill, metrics: &Metrics) -> Result<(), Fault> {
    let mut validator = None;
    let mut in_vain = 0;
    let mut last = Fault::new(Retry::Never, NoSource);
    while let Some((from, _)) = fill.hole() {
        let Some(lead) = fill.first_lead() else { return Err(last) };
        let before = fill.progress();
        if before > 0 {
            metrics.fill_resumed();
        }
        let Err(fault) = pour(fill, &lead, from, &mut validator).await else { continue };
        in_vain = if fill.progress() > before { 0 } else { in_vain + 1 };
        let tries = if before == 0 { TRIES_AT_FIRST } else { TRIES_LATER };
        if fault.retry == Retry::Never || in_vain >= tries {
            fill.drop_first_lead(&fault);
            in_vain = 0;
        } else {
            warn!(digest = %fill.digest(), at = fill.progress(), %fault, "upstream broke off, asking for the rest");
            if in_vain > 0 {
                tokio::time::sleep((PAUSE * 2_u32.saturating_pow(in_vain - 1)).min(PAUSE_LIMIT)).await;
            }
        }
        last = fault;
    }
    Ok(())
}

/// Opens the source at `from` and lands what it brings, until it ends.
async fn pour(fill: &Fill, lead: &Lead, from: u64, validator: &mut Option<Validator>) -> Result<(), Fault> {
    let flow = lead.caller.source.open(Want { from, if_range: validator.clone() }).await?;
    let contradiction = |cause| Fault::new(Retry::Never, cause);
    if let Some(total) = flow.total {
        fill.staged().expect(total).map_err(|cause| Fault::new(Retry::Never, cause))?;
    }
    fill.opened(flow.total).map_err(contradiction)?;
    lead.opened.send_replace(Some(Ok(())));
    if validator.is_none() {
        *validator = flow.validator;
    }
    let mut skip = from.saturating_sub(flow.at); // the upstream does not do ranges, or not this one
    let mut writer = Writer::new(fill.staged().clone(), from);
    let mut body = flow.body;
    let mut broken = None;
    let mut ended = false;
    while !ended || writer.is_busy() {
        tokio::select! {
            frame = body.frame(), if !ended && writer.has_room() => match frame {
                None => ended = true,
                Some(Err(cause)) => {
                    broken = Some(Fault::new(Retry::Again, cause));
                    ended = true;
                }
                Some(Ok(frame)) => if let Ok(mut bytes) = frame.into_data() {
                    let skipped = skip.min(bytes.len() as u64);
                    skip -= skipped;
                    let bytes = bytes.split_off(skipped as usize);
                    if let Some(total) = fill.total() && writer.position() + bytes.len() as u64 > total {
                        return Err(contradiction_of_length(total));
                    }
                    if !bytes.is_empty() {
                        writer.push(bytes);
                    }
                }
            },
            landed = writer.landed(), if writer.is_busy() => {
                fill.land(landed?);
            }
        }
    }
    if let Some(fault) = broken {
        return Err(fault);
    }
    match fill.total() {
        None => fill.opened(Some(writer.position())).map_err(contradiction),
        Some(total) if writer.position() < total && fill.hole().is_some() => {
            Err(Fault::new(Retry::Again, TooLittle { at: writer.position(), total }))
        }
        Some(_) => Ok(()),
    }
}

fn contradiction_of_length(total: u64) -> Fault {
    Fault::new(Retry::Never, TooMuch(total))
}

/// The fill's first follower: reads the page cache on a blocking thread, so that sequential and resumed
/// fills hash alike. Answers the digest and the length in bytes.
async fn digest(fill: &Fill) -> Result<(Digest, u64), Fault> {
    let mut hasher = Hasher::new(fill.digest().algorithm());
    let mut buffer = vec![0; HASH_CHUNK];
    let mut at = 0;
    loop {
        let end = std::future::poll_fn(|cx| fill.readable(at, false, Seat(0), cx)).await?;
        if end == at {
            return Ok((hasher.finish(), at));
        }
        let staged = fill.staged().clone();
        let hashed = tokio::task::spawn_blocking(move || {
            while at < end {
                let wanted = usize::try_from(end - at).unwrap_or(HASH_CHUNK).min(HASH_CHUNK);
                match staged.read_at(at, &mut buffer[..wanted])? {
                    0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                    read => {
                        hasher.update(&buffer[..read]);
                        at += read as u64;
                    }
                }
            }
            Ok((hasher, buffer, at))
        });
        let hashed: Result<_, std::io::Error> =
            hashed.await.unwrap_or_else(|_| Err(std::io::Error::other("interrupted")));
        (hasher, buffer, at) = hashed.map_err(|cause| Fault::new(Retry::Never, cause))?;
    }
}

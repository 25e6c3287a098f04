//! Tells what became of an attempt that brought no answer: whose fault it was, and whether another one may do better.

use std::sync::Arc;

use hyper_util::client::legacy::connect::Connected;

use super::upload::{SILENCE, UploadProgress, UploadState};
use crate::oci::Authority;
use crate::upstream::Error;
use crate::upstream::net::life::Life;

/// How many pooled connections may turn out to be dead for one request. Of HTTP/2 there is one for all: a stream that
/// is reset on it would be reset again.
const DEAD_LIMIT: usize = 8;
const DEAD_LIMIT_SHARED: usize = 1;
/// What an HTTP/2 peer says of a stream that it has not begun (RFC 9113, 6.8 and 8.7), in the words of the HTTP client,
/// which tells it by nothing else.
const LEFT_BY_GOAWAY: &str = "connection error received";
const REFUSED_STREAM: &str = "stream error received: refused stream";

/// Why there is none.
pub(super) enum AttemptFailure {
    Error(Error),
    /// The connection broke that had answered before; how many like it may turn out to be dead.
    Dead {
        error: Error,
        limit: usize,
    },
    /// The peer has not begun with it.
    Unbegun(Error),
    /// The connection is older than may be.
    Old,
    /// The connection has as many streams as its peer serves, or as downloads may have. It was not sent.
    Crowded,
}

impl AttemptFailure {
    pub(super) fn into_error(self, to: &Authority) -> Error {
        let unsent = |why| Error::Exchange { to: to.clone(), source: Arc::new(std::io::Error::other(why)) };
        match self {
            Self::Error(error) | Self::Dead { error, .. } | Self::Unbegun(error) => error,
            Self::Old => unsent("it is too old"),
            Self::Crowded => unsent("it has too many streams"),
        }
    }
}

impl From<Error> for AttemptFailure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// A request's body that failed on the client's side took the exchange with it. Nor is it known who is to blame where
/// the upstream went away while it was waiting for the client.
pub(super) fn blamed(error: Error, progress: &UploadProgress) -> Error {
    let Error::Exchange { to, source } = error else { return error };
    match progress.state() {
        UploadState::Upstream => Error::Exchange { to, source },
        UploadState::Client => Error::Unfinished { to, source },
        UploadState::Broken => Error::RequestBody { to, source },
        UploadState::Silent => Error::RequestTimeout { to, after: SILENCE },
    }
}

/// The HTTP client wraps what the connection said: our own words are taken out again.
pub(super) fn failed(
    to: &Authority,
    error: hyper_util::client::legacy::Error,
    progress: &UploadProgress,
) -> AttemptFailure {
    if let Some(own) = Error::within(&error) {
        return own.clone().into();
    }
    // Somebody is there and has answered: to ask again gets the same, and the connection was not dead.
    if is_unreadable(&error) {
        return Error::Unreadable { to: to.clone(), source: Arc::new(error) }.into();
    }
    let connection = error.connect_info();
    let life = connection.and_then(Life::of);
    let has_answered = life.as_ref().is_some_and(Life::is_marked);
    let is_shared = connection.is_some_and(Connected::is_negotiated_h2);
    // One that begins with nothing would not begin with the next request, either.
    if is_shared && life.is_some_and(|life| life.has_served()) && is_unbegun(&error) {
        return AttemptFailure::Unbegun(Error::Exchange { to: to.clone(), source: Arc::new(error) });
    }
    let limit = if is_shared { DEAD_LIMIT_SHARED } else { DEAD_LIMIT };
    match blamed(Error::Exchange { to: to.clone(), source: Arc::new(error) }, progress) {
        error @ Error::Exchange { .. } if has_answered => AttemptFailure::Dead { error, limit },
        error => AttemptFailure::Error(error),
    }
}

/// Whether an answer came that is no HTTP/1.1.
fn is_unreadable(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error).any(|cause| cause.downcast_ref().is_some_and(hyper::Error::is_parse))
}

fn is_unbegun(error: &(dyn std::error::Error + 'static)) -> bool {
    let told = |words: &str| words.starts_with(LEFT_BY_GOAWAY) || words.starts_with(REFUSED_STREAM);
    causes(error).any(|cause| told(&cause.to_string()))
}

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upstream::Side;
    use crate::upstream::http::evidence::Evidence;

    #[test]
    fn a_broken_upload_is_the_clients_fault_and_a_broken_exchange_the_hosts() {
        let to = Authority::parse("quay.io", 443).unwrap();
        for (state, evidence) in [
            (UploadState::Upstream, Evidence::Broken),
            (UploadState::Client, Evidence::Nothing),
            (UploadState::Broken, Evidence::Nothing),
            (UploadState::Silent, Evidence::Nothing),
        ] {
            let progress = UploadProgress::default();
            progress.is(state);
            let source = Arc::new(std::io::Error::other("cut"));
            let error = blamed(Error::Exchange { to: to.clone(), source }, &progress);
            assert_eq!(Evidence::of(Err(&error)), evidence, "{state:?}");
            assert_eq!(
                error.side() == Side::Client,
                matches!(state, UploadState::Broken | UploadState::Silent),
                "{state:?}"
            );
            let late = Error::FirstByteTimeout { to: to.clone(), after: Duration::from_secs(1) };
            assert!(matches!(blamed(late, &progress), Error::FirstByteTimeout { .. }));
        }
    }
}

//! Says why a part of a registry is unreachable: for metrics, for clients and for the log.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::host::{Period, chain};
use crate::upstream::{Endpoint, Error, FailureReason};

/// The reason, and where it was met.
#[derive(Clone, Debug)]
pub(crate) struct OutageCause {
    pub(crate) reason: FailureReason,
    /// Where: `host:port`, or the address that the configuration gives for it.
    pub(crate) address: String,
    /// As clients may know it.
    pub(crate) words: Arc<str>,
    /// As the log has it.
    pub(crate) error: String,
}

impl OutageCause {
    /// An exchange with `endpoint` failed.
    pub(crate) fn of(endpoint: &Endpoint, error: &Error) -> Self {
        let host = error.host().unwrap_or(endpoint.authority());
        let address = endpoint.reach().address.filter(|_| host == endpoint.authority());
        Self {
            reason: error.reason(),
            address: address.map_or_else(|| host.to_string(), |address| address.to_string()),
            words: error.for_clients().into(),
            error: chain(error),
        }
    }

    /// `endpoint` answered with an error.
    pub(crate) fn of_status(endpoint: &Endpoint, status: StatusCode) -> Self {
        Self::by_words(endpoint, FailureReason::ServerError, format!("{} answers {status}", endpoint.authority()))
    }

    /// `endpoint` has not answered within `wait`.
    pub(crate) fn silence(endpoint: &Endpoint, wait: Duration) -> Self {
        let words = format!("no answer from {} within {}", endpoint.authority(), Period(wait));
        Self::by_words(endpoint, FailureReason::Silent, words)
    }

    fn by_words(endpoint: &Endpoint, reason: FailureReason, words: String) -> Self {
        let address = endpoint.reach().address;
        let address = address.map_or_else(|| endpoint.authority().to_string(), |address| address.to_string());
        Self { reason, address, words: words.as_str().into(), error: words }
    }
}

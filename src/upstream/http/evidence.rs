//! The evidence that one exchange gives about its host.

use http::{Method, StatusCode};

use crate::upstream::Error;

/// The sign. Who reads it decides how much it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// It answers, whatever it says.
    Well,
    /// An answer of 5xx, which may be about this one request.
    Error,
    /// An answer that is none to what was asked: it is there, and not to be relied on.
    Odd,
    /// What came is no HTTP: it is there, and something else than a registry speaks.
    Garbled,
    /// The exchange broke off, which may be chance.
    Broken,
    /// It cannot be reached, or did not answer in time.
    Down,
    /// Nothing: the fault is the proxy's, or the request's.
    Nothing,
}

impl Evidence {
    /// Whether an outcome tells anything of the host. HEAD may be refused for its own sake, by any answer, by none, or by
    /// closing the connection; only that no connection could be made says as much as to GET.
    pub(crate) fn is_telling(method: &Method, outcome: Result<StatusCode, &Error>) -> bool {
        if *method != Method::HEAD {
            return true;
        }
        match (Self::of(outcome), outcome) {
            (Self::Error | Self::Broken | Self::Garbled | Self::Odd, _) | (_, Err(Error::FirstByteTimeout { .. })) => {
                false
            }
            (Self::Well | Self::Down | Self::Nothing, _) => true,
        }
    }

    /// Reads an outcome. 501 is an answer about the method.
    pub(crate) fn of(outcome: Result<StatusCode, &Error>) -> Self {
        match outcome {
            Ok(StatusCode::NOT_IMPLEMENTED) => Self::Well,
            // A word about the way that the request took (a loop of proxies), not of whom it was for.
            Ok(StatusCode::LOOP_DETECTED) => Self::Nothing,
            Ok(status) if status.is_server_error() => Self::Error,
            Ok(_) => Self::Well,
            Err(Error::Exchange { .. }) => Self::Broken,
            Err(Error::Unreadable { .. }) => Self::Garbled,
            Err(Error::Misfit { .. }) => Self::Odd,
            Err(
                Error::Resolve { .. }
                | Error::NoAddress { .. }
                | Error::Connect { .. }
                | Error::ConnectTimeout { .. }
                | Error::FirstByteTimeout { .. }
                | Error::UnknownIssuer { .. }
                | Error::Certificate { .. }
                | Error::Tls { .. },
            ) => Self::Down,
            Err(Error::Parent { source, .. }) if source.is_final() || source.is_throttle() || source.is_ours() => {
                Self::Nothing
            }
            Err(Error::Parent { .. }) => Self::Down,
            Err(_) => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Authority;
    use crate::upstream::ParentError;

    #[test]
    fn a_head_tells_nothing_by_its_failure() {
        let to = Authority::parse("quay.io", 443).unwrap();
        let late = Error::FirstByteTimeout { to: to.clone(), after: std::time::Duration::ZERO };
        let unreached = Error::ConnectTimeout { to, is_reached: false, after: std::time::Duration::ZERO };
        let table = [
            (Ok(StatusCode::OK), true),
            (Ok(StatusCode::FORBIDDEN), true),
            (Ok(StatusCode::INTERNAL_SERVER_ERROR), false),
            (Err(&late), false),
            (Err(&unreached), true),
        ];
        for (outcome, expected) in table {
            assert_eq!(Evidence::is_telling(&Method::HEAD, outcome), expected, "{outcome:?}");
            assert!(Evidence::is_telling(&Method::GET, outcome), "{outcome:?}");
        }
    }

    #[test]
    fn a_parent_that_throttles_or_forbids_says_nothing_of_the_host() {
        let to = Authority::parse("quay.io", 443).unwrap();
        let table =
            [(403, Evidence::Nothing), (408, Evidence::Nothing), (429, Evidence::Nothing), (502, Evidence::Down)];
        for (status, evidence) in table {
            let refused = ParentError::Refused { status: StatusCode::from_u16(status).unwrap() };
            assert_eq!(Evidence::of(Err(&Error::of_parent(&to, &to, refused))), evidence, "{status}");
        }
    }

    #[test]
    fn an_answer_is_health_unless_the_server_is_at_fault() {
        let table = [
            (200, Evidence::Well),
            (401, Evidence::Well),
            (404, Evidence::Well),
            (429, Evidence::Well),
            (501, Evidence::Well),
            (503, Evidence::Error),
            (508, Evidence::Nothing),
        ];
        for (status, evidence) in table {
            assert_eq!(Evidence::of(Ok(StatusCode::from_u16(status).unwrap())), evidence, "{status}");
        }
    }
}

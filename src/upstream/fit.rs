//! Whether an answer fits its question: what nobody asked for is a fault of the endpoint, and reaches no client.
//!
//! Threat: a part that is taken for the whole; a 304 to a client that has nothing; a 101 after which the connection
//! speaks another protocol. Defence: here, for everything that is sent upstream, whoever sent it.

use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE};
use http::{Method, Request, StatusCode};

/// What of a question decides which answers fit it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    reads: bool,
    has_range: bool,
    has_condition: bool,
}

impl Question {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        Self {
            reads: matches!(*request.method(), Method::GET | Method::HEAD),
            has_range: headers.contains_key(RANGE),
            has_condition: headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE),
        }
    }

    /// Why an answer with this status is none.
    pub(super) fn misfit(self, status: StatusCode) -> Option<&'static str> {
        match status {
            StatusCode::PARTIAL_CONTENT if !(self.reads && self.has_range) => Some("a part that nobody asked for"),
            StatusCode::NOT_MODIFIED if !(self.reads && self.has_condition) => {
                Some("that what nobody has is not modified")
            }
            // No request asks for another protocol: `Upgrade` is taken off (RFC 9110, 7.8).
            _ if status.is_informational() => Some("another protocol"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_fits() {
        let table: [(&str, &[&str], u16, bool); 12] = [
            ("GET", &[], 200, true),
            ("GET", &[], 206, false),
            ("GET", &["range"], 206, true),
            ("HEAD", &["range"], 206, true),
            ("GET", &["range"], 200, true),
            ("POST", &["range"], 206, false),
            ("GET", &[], 304, false),
            ("GET", &["if-none-match"], 304, true),
            ("GET", &["if-modified-since"], 304, true),
            ("PUT", &["if-none-match"], 304, false),
            ("GET", &["upgrade"], 101, false),
            ("PATCH", &[], 416, true),
        ];
        for (method, headers, status, fits) in table {
            let mut request = Request::builder().method(method);
            for name in headers {
                request = request.header(*name, "x");
            }
            let question = Question::of(&request.body(()).unwrap());
            let misfit = question.misfit(StatusCode::from_u16(status).unwrap());
            assert_eq!(misfit.is_none(), fits, "{method} {headers:?} {status}");
        }
    }
}

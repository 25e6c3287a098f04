//! Checks that an answer fits its question: what nobody asked for is a fault of the endpoint, and reaches no client.
//!
//! Threat: a part that is taken for the whole; a 304 to a client that has nothing; a 101 after which the connection
//! speaks another protocol; a 407 for which a client gives away the password of its own proxy; a body whose end is told
//! in two ways, so that some of it is the next answer to a reader that believes the other. Defence: here, for everything
//! that is sent upstream, for any caller.
//! Reading: RFC 9110, sections 8.6 and 15; RFC 9112, section 6.

use http::header::{CONTENT_LENGTH, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode, Version};

/// What of a question decides which answers fit it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expectation {
    reads: bool,
    is_head: bool,
    has_range: bool,
    has_condition: bool,
}

impl Expectation {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        Self {
            reads: matches!(*request.method(), Method::GET | Method::HEAD),
            is_head: *request.method() == Method::HEAD,
            has_range: headers.contains_key(RANGE),
            has_condition: headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE),
        }
    }

    /// Why an answer is none.
    pub(crate) fn misfit<B>(self, answer: &Response<B>) -> Option<&'static str> {
        self.unasked(answer.status()).or_else(|| misframed(answer.headers()))
    }

    /// Whether the answer's body has an end that shows: where a stream of HTTP/2 was reset, the HTTP client takes it for
    /// ended if the reason is no error (RFC 9113, 8.1), whatever is missing.
    pub(crate) fn has_end<B>(self, answer: &Response<B>) -> bool {
        let is_bodiless = self.is_head || matches!(answer.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        answer.version() == Version::HTTP_2 && !is_bodiless
    }

    fn unasked(self, status: StatusCode) -> Option<&'static str> {
        match status {
            StatusCode::PARTIAL_CONTENT if !(self.reads && self.has_range) => Some("a part that nobody asked for"),
            StatusCode::NOT_MODIFIED if !(self.reads && self.has_condition) => {
                Some("not modified, though the request had no condition")
            }
            // No request asks for another protocol: `Upgrade` is taken off (RFC 9110, 7.8).
            _ if status.is_informational() => Some("another protocol"),
            // These are about our connection, and would be taken for words about the client's.
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Some("a demand for a proxy password"),
            StatusCode::MISDIRECTED_REQUEST => Some("misdirected, though that host was asked"),
            _ if status.as_u16() > 599 => Some("a status out of range"),
            _ => None,
        }
    }
}

/// How the fields that frame a body contradict each other, or say what nobody asked for. A HEAD's count as well: its
/// length is believed.
fn misframed(headers: &HeaderMap) -> Option<&'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next();
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) || codings.next().is_some() {
        return Some("a body in a transfer coding that nobody asked for");
    }
    if coding.is_some() && headers.contains_key(CONTENT_LENGTH) {
        return Some("a length and chunks at once");
    }
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
        let digits =
            std::str::from_utf8(value.trim_ascii()).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let Some(said) = digits.and_then(|digits| digits.parse::<u64>().ok()) else {
            return Some("a length that is not a number");
        };
        if length.replace(said).is_some_and(|before| before != said) {
            return Some("two different lengths");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_fits() {
        let table: [(&str, &[&str], u16, bool); 16] = [
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
            ("GET", &[], 407, false),
            ("PUT", &[], 421, false),
            ("GET", &[], 599, true),
            ("GET", &[], 600, false),
        ];
        for (method, headers, status, fits) in table {
            let mut request = Request::builder().method(method);
            for name in headers {
                request = request.header(*name, "x");
            }
            let expected = Expectation::of(&request.body(()).unwrap());
            let answer = Response::builder().status(status).body(()).unwrap();
            assert_eq!(expected.misfit(&answer).is_none(), fits, "{method} {headers:?} {status}");
        }
    }

    #[test]
    fn a_body_has_one_end() {
        let (length, coding) = ("content-length", "transfer-encoding");
        let table: [(&[(&str, &str)], bool); 14] = [
            (&[], true),
            (&[(length, "5")], true),
            (&[(length, "5"), (length, "5")], true),
            (&[(length, "5, 5")], true),
            (&[(length, "5"), (length, "6")], false),
            (&[(length, "5,6")], false),
            (&[(length, "+5")], false),
            (&[(length, "")], false),
            (&[(length, "18446744073709551616")], false),
            (&[(coding, "Chunked")], true),
            (&[(coding, "gzip, chunked")], false),
            (&[(coding, "chunked"), (coding, "chunked")], false),
            (&[(coding, "identity")], false),
            (&[(coding, "chunked"), (length, "5")], false),
        ];
        for (fields, fits) in table {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            assert_eq!(misframed(&headers).is_none(), fits, "{fields:?}");
        }
    }
}

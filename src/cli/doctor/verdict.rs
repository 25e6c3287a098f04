//! Judges an answer that is no success: whose refusal it is, for how long, and how to fix it.

use http::StatusCode;

use super::report::Problem;
use super::talk::Answer;
use crate::oci::Authority;

pub(super) const LOG: &str = "check the proxy's log";

/// What is wrong with an answer that came by way of the proxy from `by`.
pub(super) fn refused(answer: &Answer, by: &Authority) -> Problem {
    let status = answer.status;
    let who = match status.as_u16() {
        _ if answer.is_of_the_proxy() => " (the proxy says)".to_owned(),
        401 | 403 => format!(" ({by} refuses these credentials, or wants some)"),
        429 => format!(" ({by} throttles)"),
        _ => format!(" ({by} says)"),
    };
    let wait = answer.wait().map(|seconds| format!("; try again in {seconds} s")).unwrap_or_default();
    Problem::new(format!("{status}{who}: {}{wait}", answer.words()), fix(answer))
}

/// What helps.
pub(super) fn fix(answer: &Answer) -> String {
    let wait = answer.wait().map_or_else(|| "wait".to_owned(), |seconds| format!("wait {seconds} s"));
    match answer.status {
        StatusCode::FORBIDDEN if answer.is_of_the_proxy() => {
            "the proxy's configuration refuses this, as its message says: change it there (clients.rules, registries), or pull \
             something else"
                .to_owned()
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "the image is private or does not exist: run docker login on this machine, or set auth in the proxy's \
             configuration; if auth is set there, the registry refuses those credentials"
                .to_owned()
        }
        StatusCode::NOT_FOUND => "check the name and the tag".to_owned(),
        StatusCode::TOO_MANY_REQUESTS => {
            format!("the registry's rate limit is reached: {wait}, or let the proxy log in (auth)")
        }
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            "the proxy cannot reach the registry: its log names the address and the reason".to_owned()
        }
        _ => LOG.to_owned(),
    }
}

/// What helps with an answer of the mirror at `host` that is no image. `log_in` says how its client logs in, where the mirror asks
/// for a user of its own.
pub(super) fn fix_at_mirror(answer: &Answer, host: &str, log_in: Option<&str>) -> String {
    let words = answer.words();
    let is_told =
        |part: &str| words.contains(part) || answer.header("proxy-status").is_some_and(|told| told.contains(part));
    match (answer.status, log_in) {
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) if is_told("takes no credentials") => {
            "the registry gives this to known users only, and under this name no client's password is sent on: set auth (and \
             repositories) for the registry in the mirror's configuration, or give it a host of its own in mirror.names and \
             log in to that; if auth is set, the registry refuses those credentials"
                .to_owned()
        }
        (StatusCode::UNAUTHORIZED, Some(log_in)) => log_in.to_owned(),
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) if !answer.is_of_the_proxy() => {
            format!("the image is private or does not exist: log this client in to {host}, as docker login does")
        }
        (StatusCode::NOT_FOUND, _) if is_told("registries") => {
            "correct the name, or add the registry to registries in the mirror's configuration".to_owned()
        }
        (StatusCode::NOT_FOUND, _) if is_told("mirror.default") => {
            "set mirror.default in the mirror's configuration, or name the registry".to_owned()
        }
        _ => fix(answer),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;

    #[test]
    fn a_refusal_says_whose_it_is_and_for_how_long() {
        let by = Authority::parse("quay.io", 443).unwrap();
        let table = [
            (429, "retry-after", "7", "quay.io:443 throttles", "wait 7 s"),
            (401, "x", "y", "quay.io:443 refuses these credentials", "docker login on this machine"),
            (429, "proxy-status", "pullthrough; error=http_request_denied", "the proxy says", "wait,"),
            (500, "x", "y", "quay.io:443 says", LOG),
        ];
        for (status, name, value, words, fix) in table {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            let body = Bytes::from_static(b"why");
            let problem = refused(&Answer { status: StatusCode::from_u16(status).unwrap(), headers, body }, &by);
            assert!(problem.words.contains(words) && problem.words.contains(": why"), "{}", problem.words);
            assert!(problem.fix.contains(fix), "{}", problem.fix);
        }
    }
}

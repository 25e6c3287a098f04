//! A request's path: what is judged is what is sent, and no server finds another request in it.

use http::uri::PathAndQuery;

use super::naive;
use crate::oci::Route;

/// The path of a request at a registry, or at its token service.
///
/// A route prints as a path that parses to the same route; under `/v2/` that path is plain. Whatever a server makes of
/// the path that is sent, it comes to a request of the protocol only where that very path was judged as one.
pub fn route(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Route::parse(text) {
        Ok(route) => {
            assert_eq!(Route::parse(&route.to_string()).as_ref(), Ok(&route));
            assert_eq!(is_plain(text), text.starts_with("/v2/") || text == "/v2", "{text:?}");
            check(text, &route);
        }
        Err(_) => assert!(!is_plain(text), "{text:?} is plain and was refused"),
    }
}

fn check(text: &str, route: &Route) {
    let sent = route.to_string();
    let target: PathAndQuery = sent.parse().expect("what is printed can be sent");
    assert_eq!((target.path(), target.query()), (sent.as_str(), None));
    let meaning = |path: &str| naive::decoded(path.strip_suffix('/').unwrap_or(path).as_bytes());
    assert_eq!(meaning(&sent), meaning(text), "another meaning");
    for reading in naive::readings(sent.as_bytes()) {
        if naive::is_v2(&reading) {
            let said = String::from_utf8_lossy(&reading);
            assert!(route.is_of_protocol(), "{text:?} is {said:?} to some server");
            assert_eq!(reading, sent.as_bytes(), "{text:?} is {said:?} to some server");
        }
    }
}

/// Whether a path is as it would be printed under `/v2/`: the grammar, once more.
fn is_plain(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("/v2/") else { return path == "/v2" };
    let is_plain = |segment: &str| {
        !["", ".", ".."].contains(&segment)
            && segment.chars().all(|c| c.is_ascii_alphanumeric() || "-._~:@=+,!$".contains(c))
    };
    rest.is_empty() || rest.strip_suffix('/').unwrap_or(rest).split('/').all(is_plain)
}

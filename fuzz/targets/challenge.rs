//! `WWW-Authenticate`: what is understood prints as a header that means the same and breaks nothing.

use crate::oci::{Bearer, Challenge};

/// Lines are headers. A challenge prints as one that parses to it, but for control characters; several headers are
/// one list.
pub fn challenge(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let headers: Vec<&str> = text.lines().collect();
    let found = Challenge::parse(headers.iter().copied());
    let one_by_one: Vec<Challenge> = headers.iter().flat_map(|header| Challenge::parse([*header])).collect();
    assert_eq!(found, one_by_one);
    let printed: Vec<String> = found.iter().map(ToString::to_string).collect();
    let expected: Vec<Challenge> = found.into_iter().map(clean).collect();
    for header in &printed {
        assert!(!header.chars().any(char::is_control), "{header:?}");
    }
    assert_eq!(Challenge::parse(printed.iter().map(String::as_str)), expected);
    assert_eq!(Challenge::parse([printed.join(", ").as_str()]), expected);
}

/// The same without what a header cannot hold.
fn clean(challenge: Challenge) -> Challenge {
    let plain = |text: String| text.chars().filter(|c| !c.is_control()).collect::<String>();
    match challenge {
        Challenge::Basic { realm } => Challenge::Basic { realm: realm.map(plain) },
        Challenge::Bearer(Bearer { realm, service, scopes, error }) => Challenge::Bearer(Bearer {
            realm: plain(realm),
            service: service.map(plain),
            scopes: scopes.into_iter().map(plain).filter(|scope| !scope.is_empty()).collect(),
            error: error.map(plain),
        }),
        other => other,
    }
}

//! A query or a form: every server finds the same parameters in what is sent.

use http::uri::PathAndQuery;

use super::naive;
use crate::oci::Query;

/// The parameters that decide something.
const NAMES: [&str; 5] = ["from", "mount", "scope", "username", "refresh_token"];

/// A query prints as one that parses to the same, that a strict reader reads alike, and that has no mark which some
/// servers part parameters at. A parameter that is taken for the only one is the only one, in any case of letters.
pub fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let said = naive::form(text);
    let Ok(query) = Query::parse(text) else {
        let is_clean = |text: &String| !text.chars().any(|c| c.is_ascii_control());
        let is_sound = naive::is_escaped(text) && said.iter().all(|(name, value)| is_clean(name) && is_clean(value));
        assert!(!is_sound, "{text:?} is sound and was refused");
        return;
    };
    let sent = query.to_string();
    assert_eq!(Query::parse(&sent).as_ref(), Ok(&query));
    let read: Vec<(&str, &str)> = query.iter().collect();
    for naive in [&said, &naive::form(&sent)] {
        assert_eq!(read, naive.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>());
    }
    assert!(sent.bytes().all(|byte| byte.is_ascii_graphic() && !b"#;<>\"\\^`{|}[]".contains(&byte)), "{sent:?}");
    let target: PathAndQuery = format!("/?{sent}").parse().expect("what is printed can be sent");
    assert_eq!((target.path(), target.query()), ("/", Some(sent.as_str())));
    for name in NAMES {
        let alike: Vec<_> = said.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).collect();
        match query.only(name) {
            Ok(None) => assert!(alike.is_empty(), "{name} in {text:?}"),
            Ok(Some(value)) => assert_eq!(alike, [&(name.to_owned(), value.to_owned())]),
            Err(_) => assert!(alike.len() > 1 || alike[0].0 != name, "{name} in {text:?}"),
        }
    }
}

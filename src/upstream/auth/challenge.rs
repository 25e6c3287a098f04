//! Picks the challenge of a 401 that is answered: a token before a password.

use http::header::{HeaderMap, WWW_AUTHENTICATE};

use crate::oci::Challenge;
use crate::upstream::Credential;

/// Whether a 401 says where a token is to be had.
pub(crate) fn wants_a_token(headers: &HeaderMap) -> bool {
    Challenge::bearer(&challenges(headers)).is_some()
}

pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    Challenge::parse(headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()))
}

/// The challenge to answer: a token before a password, which not every name has.
pub(crate) fn answerable(headers: &HeaderMap, credential: Option<&Credential>) -> Option<Challenge> {
    let challenges = challenges(headers);
    let has_password = credential.is_some_and(|credential| credential.user().is_some());
    let bearer = challenges.iter().find(|challenge| matches!(challenge, Challenge::Bearer(_)));
    let basic = challenges.iter().find(|challenge| matches!(challenge, Challenge::Basic { .. }) && has_password);
    bearer.or(basic).cloned()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::host::Secret;

    #[test]
    fn a_token_is_taken_before_a_password_and_no_password_is_made_up() {
        let password = Credential::new("u".into(), Secret::new("p".into()));
        let identity = Credential::Identity { token: Secret::new("t".into()) };
        let (basic, bearer) = ("Basic realm=\"r\"", "Bearer realm=\"https://t/token\"");
        let table = [
            (vec![basic, bearer], Some(&password), Some("Bearer")),
            (vec![basic], Some(&password), Some("Basic")),
            (vec![basic], Some(&identity), None),
            (vec![basic, bearer], None, Some("Bearer")),
            (vec![basic], None, None),
            (vec!["Negotiate"], Some(&password), None),
            (vec![], Some(&password), None),
        ];
        for (said, credential, expected) in table {
            let mut headers = HeaderMap::new();
            for one in &said {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(one));
            }
            let found = answerable(&headers, credential);
            assert_eq!(found.as_ref().map(Challenge::scheme), expected, "{said:?} {credential:?}");
        }
    }
}

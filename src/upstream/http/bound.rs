//! Keeps out the schemes that log in a connection instead of a request: Negotiate and NTLM (RFC 4559), and their kin.
//!
//! Threat: our connections are pooled, so the next caller on such a one would be the one before. Defence: no request
//! carries such credentials upstream, and a connection whose answer speaks of them serves nobody else. Exposure: a
//! registry that takes nothing else is not to be used through this proxy. Cost: where such a scheme is offered beside
//! others, the others are what a client sees; it would be refused with the first.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, WWW_AUTHENTICATE};

use crate::oci::Challenge;

const SCHEMES: [&str; 6] = ["Negotiate", "NTLM", "Kerberos", "Nego2", "CredSSP", "PKU2U"];

/// The name of the scheme, if it is one of these.
fn known(scheme: &str) -> Option<&'static str> {
    SCHEMES.into_iter().find(|known| known.eq_ignore_ascii_case(scheme))
}

/// Which of these schemes a request would log in its connection by.
pub(crate) fn carried(headers: &HeaderMap) -> Option<&'static str> {
    let scheme = |value: &HeaderValue| {
        let word = value.as_bytes().trim_ascii_start().split(|byte| !byte.is_ascii_alphanumeric()).next()?;
        known(std::str::from_utf8(word).ok()?)
    };
    headers.get_all(AUTHORIZATION).iter().find_map(scheme)
}

/// Whether an answer speaks of such a scheme: it offers one, or goes on with one. In doubt it does.
pub(crate) fn is_spoken(headers: &HeaderMap) -> bool {
    [WWW_AUTHENTICATE, PROXY_AUTHENTICATE].iter().any(|name| is_spoken_in(headers, name))
}

fn is_spoken_in(headers: &HeaderMap, name: &HeaderName) -> bool {
    let words =
        headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|byte| !byte.is_ascii_alphanumeric()));
    words.filter_map(|word| std::str::from_utf8(word).ok()).any(|word| known(word).is_some())
}

/// Leaves them out of what is offered, where there is something else to choose. What is offered alone stays, so that a
/// client can say what it lacks.
pub(crate) fn leave_out(headers: &mut HeaderMap) {
    if !is_spoken_in(headers, &WWW_AUTHENTICATE) {
        return;
    }
    let kept: Vec<HeaderValue> = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(without).collect();
    if !kept.is_empty() {
        headers.remove(WWW_AUTHENTICATE);
        for value in kept {
            headers.append(WWW_AUTHENTICATE, value);
        }
    }
}

/// The header's other challenges, as they were written.
fn without(value: &HeaderValue) -> Option<HeaderValue> {
    let Ok(text) = value.to_str() else { return Some(value.clone()) };
    let all = Challenge::split(text);
    let kept: Vec<&str> =
        all.iter().filter(|(scheme, _)| known(scheme).is_none()).map(|(_, written)| *written).collect();
    if kept.len() == all.len() {
        return Some(value.clone());
    }
    (!kept.is_empty()).then(|| HeaderValue::from_str(&kept.join(", ")).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_logs_in_its_connection_is_known_however_it_is_written() {
        let table = [
            ("Negotiate YII=", Some("Negotiate")),
            ("negotiate", Some("Negotiate")),
            ("NTLM\tTlRM", Some("NTLM")),
            ("  ntlm TlRM", Some("NTLM")),
            ("Kerberos x", Some("Kerberos")),
            ("Basic bmVnb3RpYXRl", None),
            ("Bearer negotiate", None),
            ("Negotiated x", None),
            ("", None),
        ];
        for (value, scheme) in table {
            let mut headers = HeaderMap::new();
            headers.append(AUTHORIZATION, HeaderValue::from_static("Basic eDp5"));
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            assert_eq!(carried(&headers), scheme, "{value}");
        }
    }

    #[test]
    fn what_is_offered_beside_it_stays_as_it_was_written() {
        let bearer = "Bearer realm=\"https://t/token\",service=\"a, b\"";
        let table: [(&[&str], &[&str]); 6] = [
            (&["Negotiate", bearer], &[bearer]),
            (
                &["NTLM, Basic realm=\"x\" , Negotiate YII=,Digest realm=\"y\""],
                &["Basic realm=\"x\", Digest realm=\"y\""],
            ),
            (&["Basic realm=\"NTLM\""], &["Basic realm=\"NTLM\""]),
            (&["Negotiate", "NTLM"], &["Negotiate", "NTLM"]),
            (&["Negotiate oYG0=", "x y=\"z"], &["x y=\"z"]),
            (&[], &[]),
        ];
        for (said, left) in table {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
            }
            let speaks = is_spoken(&headers);
            leave_out(&mut headers);
            let found: Vec<&str> = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok()).collect();
            assert_eq!(found, left, "{said:?}");
            let names_one = said.iter().any(|value| value.contains("NTLM") || value.contains("Negotiate"));
            assert_eq!(speaks, names_one, "{said:?}");
        }
    }
}

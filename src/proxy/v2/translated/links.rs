//! Rewrites `Link` headers (RFC 8288): each reference to the registry as the client's own path; what leads elsewhere is left out.

use http::header::{HeaderMap, HeaderValue, LINK};

use super::place::{AskedPlace, Led};

/// Rewrites the links of an answer.
pub(crate) fn rewrite(headers: &mut HeaderMap, place: &AskedPlace<'_>) {
    if !headers.contains_key(LINK) {
        return;
    }
    let said: Vec<HeaderValue> = headers.get_all(LINK).iter().cloned().collect();
    headers.remove(LINK);
    for value in said.iter().filter_map(|value| value.to_str().ok()) {
        for (reference, parameters) in split(value) {
            if let Led::Here(path) = place.led(reference.as_bytes(), false)
                && let Ok(link) = HeaderValue::from_str(&format!("<{path}>{parameters}"))
            {
                headers.append(LINK, link);
            }
        }
    }
}

/// Every link: its reference, and its parameters as they are written. What breaks the grammar ends the list.
fn split(value: &str) -> Vec<(&str, &str)> {
    let (mut links, mut rest) = (Vec::new(), value);
    while let Some((reference, behind)) =
        rest.trim_start_matches([' ', '\t', ',']).strip_prefix('<').and_then(|rest| rest.split_once('>'))
    {
        let (mut is_quoted, mut is_escaped) = (false, false);
        let end = behind.find(|letter| {
            let is_end = letter == ',' && !is_quoted;
            match letter {
                _ if is_escaped => is_escaped = false,
                '\\' if is_quoted => is_escaped = true,
                '"' => is_quoted = !is_quoted,
                _ => {}
            }
            is_end
        });
        let (parameters, next) = behind.split_at(end.unwrap_or(behind.len()));
        links.push((reference, parameters.trim_end()));
        rest = next;
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_of_a_header_is_found() {
        let table: [(&str, &[(&str, &str)]); 7] = [
            ("</v2/a/tags/list?n=1&last=x>; rel=\"next\"", &[("/v2/a/tags/list?n=1&last=x", "; rel=\"next\"")]),
            ("<a,b>;rel=next, <c>", &[("a,b", ";rel=next"), ("c", "")]),
            (
                "<a>; title=\"x, <y>; \\\" z\" , <c>;rel=prev",
                &[("a", "; title=\"x, <y>; \\\" z\""), ("c", ";rel=prev")],
            ),
            ("", &[]),
            ("a; rel=next", &[]),
            ("<a", &[]),
            ("<a>, b, <c>", &[("a", "")]),
        ];
        for (value, expected) in table {
            assert_eq!(split(value), expected, "{value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_panics(value in "[<>,;\" \\\\a=]{0,30}") {
            split(&value);
        }
    }
}

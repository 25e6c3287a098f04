//! Turns an error message of the YAML library into a sentence that says what was expected.

use serde_yaml::Value;

/// Says what is wrong with `value`, for which the library reported `message`.
pub(crate) fn phrase(message: &str, value: Option<&Value>) -> String {
    if let Some(rest) = message.strip_prefix("unknown field `") {
        return unknown_key(rest);
    }
    if let Some(rest) = message.strip_prefix("missing field `") {
        return format!("{} is missing; it is required", rest.trim_end_matches('`'));
    }
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        let known: Vec<&str> = quoted(rest).skip(1).collect();
        let (last, others) = known.split_last().unwrap_or((&"another", &[]));
        let or = if others.is_empty() { "" } else { " or " };
        return found(value, &format!("expected {}{or}{last}", others.join(", ")));
    }
    for prefix in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some((_, expected)) = message.strip_prefix(prefix).and_then(|rest| rest.split_once(", expected ")) {
            return found(value, &format!("expected {}", plain(expected)));
        }
    }
    match message {
        "invalid socket address syntax" => found(value, &format!("expected {ADDRESS}")),
        _ if message.starts_with("invalid IP address syntax") || message.contains("prefix length") => {
            found(value, "expected a network such as 10.0.0.0/8 or fc00::/7")
        }
        _ if message.starts_with("expected ") => found(value, message),
        _ if message.starts_with("not a ") => match value {
            Some(Value::String(value)) => format!("found {}; {message}", repeated(value)),
            other => found(other, message),
        },
        _ => message.to_owned(),
    }
}

const ADDRESS: &str = "an address and port such as 127.0.0.1:3128 or '[::]:3128'";

/// Translates Rust's names for kinds of values into the words of a person who writes YAML.
fn plain(expected: &str) -> &str {
    match expected {
        "socket address" => ADDRESS,
        "path string" => "a path",
        "a string" => "text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "u16" => "a whole number from 0 to 65535",
        "IPv4 or IPv6 network" => "a network such as 10.0.0.0/8 or fc00::/7",
        _ if expected.starts_with("struct ") || expected == "a map" => "nested keys",
        other => other,
    }
}

fn found(value: Option<&Value>, rest: &str) -> String {
    match value {
        Some(Value::Null) => format!("has no value; {rest}"),
        Some(Value::Bool(value)) => format!("found {value}; {rest}"),
        Some(Value::Number(value)) => format!("found {value}; {rest}"),
        Some(Value::String(value)) => format!("found {:?}; {rest}", short(value)),
        Some(Value::Sequence(_)) => format!("found a list; {rest}"),
        Some(Value::Mapping(_) | Value::Tagged(_)) => format!("found nested keys; {rest}"),
        None => rest.to_owned(),
    }
}

/// A value as a mistake repeats it: its beginning, without the user and the password of a URL, and without its query.
pub(crate) fn repeated(value: &str) -> String {
    let (value, query) = value.find(['?', '#']).map_or((value, ""), |at| (&value[..at], "?..."));
    match value.rsplit_once('@') {
        Some((_, rest)) => format!("\"...@{}{query}\"", short(rest).escape_debug()),
        None => format!("\"{}{query}\"", short(value).escape_debug()),
    }
}

/// Shortens a value: it may be a whole certificate by mistake, and its beginning is enough.
fn short(value: &str) -> String {
    match value.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_owned(),
    }
}

/// `rest` is ``name`, expected one of `a`, `b``.
fn unknown_key(rest: &str) -> String {
    let mut names = quoted(rest);
    let unknown = names.next().unwrap_or_default();
    let known: Vec<&str> = names.collect();
    match nearest(unknown, known.iter().copied()) {
        Some(near) => format!("unknown key; did you mean {near}?"),
        None => format!("unknown key; expected one of {}", known.join(", ")),
    }
}

/// The name up to the first backquote, then each text between backquotes.
fn quoted(rest: &str) -> impl Iterator<Item = &str> {
    rest.split('`').step_by(2)
}

/// The known word that was probably meant by a mistyped one.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.replace('-', "_");
    let distance = |known: &str| strsim::damerau_levenshtein(&word.to_lowercase(), &known.to_lowercase());
    let (distance, near) = known.map(|known| (distance(known), known)).min()?;
    (distance <= near.len().div_ceil(4).max(1)).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_says_becomes_a_sentence() {
        let text = Value::from("big");
        let table = [
            (
                "unknown field `max_sise`, expected one of `dir`, `max_size`, `min_free`",
                None,
                "unknown key; did you mean max_size?",
            ),
            (
                "unknown field `colour`, expected one of `dir`, `max_size`, `min_free`",
                None,
                "unknown key; expected one of dir, max_size, min_free",
            ),
            ("unknown field `x`, expected `format` or `access`", None, "unknown key; expected one of format, access"),
            ("missing field `url`", None, "url is missing; it is required"),
            ("unknown variant `big`, expected `text` or `json`", Some(&text), "found \"big\"; expected text or json"),
            (
                "unknown variant `big`, expected one of `any`, `v4`, `v6`",
                Some(&text),
                "found \"big\"; expected any, v4 or v6",
            ),
            ("invalid type: string \"big\", expected a boolean", Some(&text), "found \"big\"; expected true or false"),
            ("invalid type: unit value, expected u16", Some(&Value::Null), {
                "has no value; expected a whole number from 0 to 65535"
            }),
            ("expected a size such as 100GiB", Some(&text), "found \"big\"; expected a size such as 100GiB"),
            ("not available yet: take this key out", Some(&text), "not available yet: take this key out"),
        ];
        for (message, value, expected) in table {
            assert_eq!(phrase(message, value), expected, "{message}");
        }
    }

    #[test]
    fn a_repeated_value_holds_no_password() {
        for (value, expected) in [
            ("quay.io", "\"quay.io\""),
            ("https://u:hunter2@quay.io/v2", "\"...@quay.io/v2\""),
            ("https://quay.io?token=hunter2", "\"https://quay.io?...\""),
            ("u:p@ss@quay.io", "\"...@quay.io\""),
        ] {
            assert_eq!(repeated(value), expected);
        }
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        let known = ["listen", "cache", "registries", "log"];
        for (word, expected) in [
            ("registry", Some("registries")),
            ("registeries", Some("registries")),
            ("lsiten", Some("listen")),
            ("port", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), expected, "{word}");
        }
    }
}

//! Decodes and normalises percent-encoding (RFC 3986, 2.1).

/// The byte that an escape at the start of `bytes` stands for.
pub(crate) fn escape(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// Decodes the escapes in `bytes`; all other bytes stay as they are.
pub(crate) fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let byte = escape(rest);
        decoded.push(byte.unwrap_or(*first));
        rest = &rest[if byte.is_some() { 3 } else { 1 }..];
    }
    decoded
}

/// Normalises a text: decodes escapes of unreserved characters, writes all others in upper case, and escapes characters
/// that are neither unreserved nor in `plain` (RFC 3986, 6.2.2). `None` for a `%` that does not begin an escape.
pub(crate) fn normalised(text: &str, plain: &[u8]) -> Option<String> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut normal = String::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some(first) = rest.first() {
        let escaped = escape(rest);
        if *first == b'%' && escaped.is_none() {
            return None;
        }
        rest = &rest[if escaped.is_some() { 3 } else { 1 }..];
        match escaped.unwrap_or(*first) {
            byte if is_unreserved(byte) || escaped.is_none() && plain.contains(&byte) => normal.push(char::from(byte)),
            byte => {
                normal.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]].map(char::from))
            }
        }
    }
    Some(normal)
}

/// RFC 3986, 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_has_one_spelling() {
        let table = [
            ("a/b", Some("a/b")),
            ("%61%2f%2Fb", Some("a%2F%2Fb")),
            ("a b;\u{e9}", Some("a%20b%3B%C3%A9")),
            ("%00", Some("%00")),
            ("%", None),
            ("%4", None),
            ("%zz", None),
            ("%+1", None),
        ];
        for (text, expected) in table {
            assert_eq!(normalised(text, b"/").as_deref(), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_spelling_is_final_and_means_the_same(text: String) {
            if let Some(normal) = normalised(&text, b"/") {
                proptest::prop_assert_eq!(normalised(&normal, b"/"), Some(normal.clone()));
                proptest::prop_assert_eq!(decoded(normal.as_bytes()), decoded(text.as_bytes()));
            }
        }
    }
}

//! What a person types for content: it prints as a name that means the same.

use crate::oci::{ImageName, RepositoryPattern};

/// Names, digests by their first digits, and patterns of repositories.
pub fn image(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(name) = text.parse::<ImageName>() {
        assert_eq!(name.to_string().parse::<ImageName>().as_ref(), Ok(&name), "{name}");
        if let ImageName::Digest(prefix) = &name {
            let (first, last) = prefix.range().expect("a prefix is of digests");
            assert!(first <= last && prefix.whole().is_none_or(|whole| (first, last) == (whole, whole)));
            assert!([first, last].iter().all(|digest| digest.to_string().starts_with(&prefix.to_string())));
        }
    }
    let (pattern, name) = text.split_once('\n').unwrap_or((text, ""));
    if let (Ok(pattern), Ok(name)) = (pattern.parse::<RepositoryPattern>(), name.parse()) {
        let glob = pattern.to_string();
        assert_eq!(pattern.matches(&name), fits(glob.as_bytes(), name.as_str().as_bytes()), "{glob} {name}");
    }
}

/// A star stands for any characters.
fn fits(glob: &[u8], text: &[u8]) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for byte in glob {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            let is_step = at > 0 && reached[at - 1] && text[at - 1] == *byte;
            next[at] = if *byte == b'*' { reached[at] || (at > 0 && next[at - 1]) } else { is_step };
        }
        reached = next;
    }
    reached[text.len()]
}

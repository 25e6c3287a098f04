//! `Range`: the bytes that are sent are those that were asked for, each once, and none that is not there.

use super::naive;
use crate::wire::Asked;

/// More parts than this are answered with the whole.
const PARTS_LIMIT: usize = 1024;

/// A length, a space, and a `Range` header's value, held against a plain reading of RFC 9110, 14.
pub fn range(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (length, header) = text.split_once(' ').unwrap_or(("1000", text));
    let length = naive::number(length).map_or(1000, |length| u64::try_from(length).unwrap_or(u64::MAX));
    let spans = Asked::parse(Some(header)).within(length);
    let Some(asked) = asked(header, length.into()) else {
        assert_eq!(spans, None, "{header:?}");
        return;
    };
    let spans: Vec<(u128, u128)> =
        spans.expect("a range").iter().map(|span| (span.from.into(), span.to.into())).collect();
    assert!(spans.iter().all(|(from, to)| from < to && *to <= length.into()), "{spans:?} of {length}");
    let sent: u128 = spans.iter().map(|(from, to)| to - from).sum();
    assert_eq!(sent, union(&asked).iter().map(|(from, to)| to - from).sum::<u128>(), "{spans:?} for {asked:?}");
    assert_eq!(union(&spans), union(&asked), "{spans:?} for {asked:?}");
    if asked.iter().map(|(from, to)| to - from).sum::<u128>() == sent {
        assert_eq!(spans, joined(&asked), "the order asked, where no two overlap");
    }
}

/// The spans that can be satisfied, as they were asked; `None` where the header is none or may be ignored.
fn asked(header: &str, length: u128) -> Option<Vec<(u128, u128)>> {
    let at = header.find('=')?;
    if !header[..at].eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut spans = Vec::new();
    let items: Vec<&str> = header[at + 1..].split(',').map(str::trim).collect();
    for item in &items {
        let dash = item.find('-')?;
        let span = match (&item[..dash], &item[dash + 1..]) {
            ("", last) => (length.saturating_sub(naive::number(last)?), length),
            (first, "") => (naive::number(first)?, length),
            (first, last) => (naive::number(first)?, (naive::number(last)?.saturating_add(1)).min(length)),
        };
        spans.extend((span.0 < span.1).then_some(span));
    }
    (items.len() <= PARTS_LIMIT).then_some(spans)
}

fn union(spans: &[(u128, u128)]) -> Vec<(u128, u128)> {
    let mut sorted = spans.to_vec();
    sorted.sort_unstable();
    let mut union: Vec<(u128, u128)> = Vec::new();
    for (from, to) in sorted {
        match union.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => union.push((from, to)),
        }
    }
    union
}

/// Each joined with the one before it where it begins at its end.
fn joined(spans: &[(u128, u128)]) -> Vec<(u128, u128)> {
    let mut joined: Vec<(u128, u128)> = Vec::new();
    for (from, to) in spans {
        match joined.last_mut() {
            Some(last) if *from == last.1 => last.1 = *to,
            _ => joined.push((*from, *to)),
        }
    }
    joined
}

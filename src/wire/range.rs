//! Reads which part of a blob a `Range` header requests (RFC 9110, section 14).

/// Bytes from `from` up to, not including, `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first byte's position.
    pub from: u64,
    /// The position after the last byte.
    pub to: u64,
}

impl Span {
    /// How many bytes.
    #[must_use]
    pub fn len(self) -> u64 {
        self.to - self.from
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.from == self.to
    }
}

/// The meaning of a `Range` header before the length is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The whole content: no range, or one that may be ignored.
    Whole,
    /// These parts, in the requested order.
    Parts(Vec<RangeSpec>),
}

/// One range-spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSpec {
    /// `a-b`, both included.
    Between(u64, u64),
    /// `a-`
    From(u64),
    /// `-n`: the last n bytes.
    Last(u64),
}

/// A request for more parts than this gets the whole content: a client cannot make us assemble without bound.
const PARTS_LIMIT: usize = 1024;
/// So does one for more than `FEW` parts of less than `SMALL` bytes on average (RFC 9110, 14.2): each costs more than
/// its bytes. Clients that pull in parts (zstd:chunked, eStargz) request many larger ones.
const FEW: usize = 32;
const SMALL: u64 = 1 << 10;

impl Asked {
    /// Reads the header. A malformed one, another unit and too many parts mean the whole content (RFC 9110, 14.2).
    #[must_use]
    pub fn parse(header: Option<&str>) -> Self {
        let parts = header.and_then(|text| {
            let (unit, list) = text.split_once('=')?;
            if !unit.eq_ignore_ascii_case("bytes") {
                return None;
            }
            list.split(',').map(|item| parse_part(item.trim())).collect::<Option<Vec<RangeSpec>>>()
        });
        match parts {
            Some(parts) if parts.len() <= PARTS_LIMIT => Self::Parts(parts),
            _ => Self::Whole,
        }
    }

    /// The satisfiable spans of a content of `length` bytes, disjoint, in the requested order, and merged where one
    /// touches the next. If empty, answer 416; if `None`, answer the whole content.
    ///
    /// Threat: many ranges over the same bytes make us send the content many times (CVE-2011-3192). Overlapping spans
    /// are sorted and merged (RFC 9110, 14.2), so that no answer has more bytes than the content.
    #[must_use]
    pub fn within(&self, length: u64) -> Option<Vec<Span>> {
        match self {
            Self::Whole => None,
            Self::Parts(parts) => {
                let spans = merged(parts.iter().filter_map(|part| part.within(length)).collect());
                let (count, bytes) = (spans.len() as u64, spans.iter().map(|span| span.len()).sum::<u64>());
                (spans.len() <= FEW || bytes >= count * SMALL).then_some(spans)
            }
        }
    }
}

impl RangeSpec {
    fn within(self, length: u64) -> Option<Span> {
        let span = match self {
            Self::Between(first, last) => Span { from: first, to: last.saturating_add(1).min(length) },
            Self::From(first) => Span { from: first, to: length },
            Self::Last(count) => Span { from: length.saturating_sub(count), to: length },
        };
        (span.from < span.to).then_some(span)
    }
}

fn merged(mut spans: Vec<Span>) -> Vec<Span> {
    let mut sorted = spans.clone();
    sorted.sort_unstable_by_key(|span| (span.from, span.to));
    if sorted.windows(2).any(|pair| pair[1].from < pair[0].to) {
        spans = sorted;
    }
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut() {
            Some(last) if last.from <= span.from && span.from <= last.to => last.to = last.to.max(span.to),
            _ => merged.push(span),
        }
    }
    merged
}

/// `500-0` parses but is not satisfiable, so it gets 416, as the conformance suite expects.
fn parse_part(text: &str) -> Option<RangeSpec> {
    let (first, last) = text.split_once('-')?;
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse().unwrap_or(u64::MAX)) // beyond u64 is beyond any content
    };
    match (first, last) {
        ("", last) => number(last).map(RangeSpec::Last),
        (first, "") => number(first).map(RangeSpec::From),
        (first, last) => Some(RangeSpec::Between(number(first)?, number(last)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(header: &str, length: u64) -> Option<Vec<(u64, u64)>> {
        Asked::parse(Some(header)).within(length).map(|list| list.iter().map(|s| (s.from, s.to)).collect())
    }

    #[test]
    fn ranges_mean_what_the_rfc_says() {
        let table: [(&str, Option<&[(u64, u64)]>); 21] = [
            ("bytes=500-1499", Some(&[(500, 1500)])),
            ("bytes=500-", Some(&[(500, 2048)])),
            ("bytes=-500", Some(&[(1548, 2048)])),
            ("bytes=2000-5000", Some(&[(2000, 2048)])),
            ("bytes=-5000", Some(&[(0, 2048)])),
            ("bytes=0-0, 5-6", Some(&[(0, 1), (5, 7)])),
            ("Bytes= 0-1", Some(&[(0, 2)])),
            ("bytes=0-1,2-3,8-9", Some(&[(0, 4), (8, 10)])),
            ("bytes=8-9,0-1", Some(&[(8, 10), (0, 2)])),
            ("bytes=8-9,0-8,4-5,20-21", Some(&[(0, 10), (20, 22)])),
            ("bytes=0-,0-,0-,-1,5-", Some(&[(0, 2048)])),
            ("bytes=500-0", Some(&[])),
            ("bytes=5000-10000", Some(&[])),
            ("bytes=-0", Some(&[])),
            ("bytes=2048-", Some(&[])),
            ("bytes=5000-,0-1", Some(&[(0, 2)])),
            ("bytes=0-99999999999999999999999", Some(&[(0, 2048)])),
            ("bytes=", None),
            ("bytes=a-b", None),
            ("items=0-1", None),
            ("bytes =0-1", None), // no space belongs there, and others ignore it
        ];
        for (header, expected) in table {
            assert_eq!(spans(header, 2048).as_deref(), expected, "{header}");
        }
        assert_eq!(Asked::parse(None), Asked::Whole);
    }

    #[test]
    fn many_parts_are_made_only_where_they_are_worth_it() {
        let header = |count: u64, length: u64| {
            let parts: Vec<_> = (0..count).map(|at| format!("{}-{}", at * 5000, at * 5000 + length - 1)).collect();
            format!("bytes={}", parts.join(","))
        };
        for (count, length, expected) in
            [(32, 1, Some(32)), (33, 1, None), (33, 1024, Some(33)), (1024, 4000, Some(1024))]
        {
            let found = spans(&header(count, length), 10_000_000).map(|spans| spans.len());
            assert_eq!(found, expected, "{count} of {length}");
        }
    }

    proptest::proptest! {
        #[test]
        fn spans_lie_within_the_content(header in "bytes=[0-9,-]{0,40}|.{0,40}", length in 0_u64..5000) {
            let spans = Asked::parse(Some(&header)).within(length).unwrap_or_default();
            proptest::prop_assert!(spans.iter().all(|span| span.from < span.to && span.to <= length));
            proptest::prop_assert!(spans.iter().map(|span| span.len()).sum::<u64>() <= length, "nothing twice");
        }
    }
}

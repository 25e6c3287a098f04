//! The bytes of a content that are there: disjoint extents, merged where they touch.

use std::collections::BTreeMap;

use crate::wire::Span;

/// A set of byte positions as sorted extents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extents(BTreeMap<u64, u64>); // from -> to, never touching

impl Extents {
    /// The set of these extents, from and to (exclusive), in any order.
    #[must_use]
    pub fn of(pairs: &[(u64, u64)]) -> Self {
        let mut extents = Self::default();
        for &(from, to) in pairs {
            extents.insert(Span { from, to: to.max(from) });
        }
        extents
    }

    /// The extents in order, from and to (exclusive).
    #[must_use]
    pub fn pairs(&self) -> Vec<(u64, u64)> {
        self.0.iter().map(|(&from, &to)| (from, to)).collect()
    }

    /// Whether the byte at `at` is there.
    #[must_use]
    pub fn holds(&self, at: u64) -> bool {
        self.end_from(at) > at
    }

    /// Where the first extent begins that begins at `at` or later.
    #[must_use]
    pub fn next_from(&self, at: u64) -> Option<u64> {
        self.0.range(at..).next().map(|(&from, _)| from)
    }

    /// Adds the bytes of `span`.
    pub fn insert(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        let (mut from, mut to) = (span.from, span.to);
        if let Some((&before, &end)) = self.0.range(..=from).next_back()
            && end >= from
        {
            from = before;
            to = to.max(end);
        }
        while let Some((&next, &end)) = self.0.range(from..=to).next() {
            self.0.remove(&next);
            to = to.max(end);
        }
        self.0.insert(from, to);
    }

    /// The end of the bytes that are there without a gap from `at` on; `at` itself if that byte is not.
    #[must_use]
    pub fn end_from(&self, at: u64) -> u64 {
        match self.0.range(..=at).next_back() {
            Some((_, &end)) if end > at => end,
            _ => at,
        }
    }

    /// The position after the last byte that is there.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(_, &to)| to)
    }

    /// How many bytes are there.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_byte_array(spans in prop::collection::vec((0_usize..60, 0_usize..20), 0..20)) {
            let mut plain = [false; 80];
            let mut extents = Extents::default();
            for (from, length) in spans {
                plain[from..from + length].fill(true);
                extents.insert(Span { from: from as u64, to: (from + length) as u64 });
            }
            prop_assert_eq!(extents.count() as usize, plain.iter().filter(|there| **there).count());
            for at in 0..80 {
                let run = plain[at..].iter().take_while(|there| **there).count();
                prop_assert_eq!(extents.end_from(at as u64) as usize, at + run);
            }
            let starts = |at: usize| plain[at] && (at == 0 || !plain[at - 1]);
            for (at, there) in plain.iter().enumerate() {
                prop_assert_eq!(extents.holds(at as u64), *there);
                prop_assert_eq!(extents.next_from(at as u64), (at..80).find(|at| starts(*at)).map(|at| at as u64));
            }
            prop_assert_eq!(extents.end() as usize, plain.iter().rposition(|there| *there).map_or(0, |at| at + 1));
            prop_assert_eq!(Extents::of(&extents.pairs()), extents.clone());
            let touching = extents.0.iter().zip(extents.0.iter().skip(1)).any(|((_, end), (next, _))| end >= next);
            prop_assert!(!touching);
        }
    }
}

//! Decides how the rest of a content is asked for: from the hole on, as a closed range, or as the whole.
//!
//! A registry may refuse one way of asking and grant another, so each is tried before the fill is given up. The whole
//! costs what has landed a second time. So it is the last resort, and not taken for a failure that says nothing of ranges
//! (503, silence): once such a registry answers for the whole, it is asked for the range again first.

use crate::cache::Fault;

/// How many failures in a row that say nothing of ranges are answered with the same request.
const SAME: u32 = 2;

/// A way to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `bytes=5-`.
    Rest,
    /// `bytes=5-9`.
    Part,
    /// Without a range; what is there is left out.
    Whole,
    /// The same, to learn whether the upstream answers at all.
    Trial,
}

impl Shape {
    /// Whether it asks without a range.
    pub(crate) fn is_whole(self) -> bool {
        matches!(self, Self::Whole | Self::Trial)
    }
}

/// The ways that are left at a fill's upstream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shapes {
    refuses_rest: bool,
    refuses_parts: bool,
    /// Failures in a row that say nothing of ranges.
    failures: u32,
    /// It answered for the whole after such failures.
    is_there: bool,
}

impl Shapes {
    /// How to ask next. `bounded`: only a part is wanted.
    pub(crate) fn next(self, bounded: bool) -> Shape {
        if self.refuses_rest && self.refuses_parts {
            return Shape::Whole;
        }
        let is_tried = self.failures >= SAME && !self.is_there;
        match self.failures.saturating_sub(SAME) % (SAME + 1) {
            // The other kind of range, then whether the upstream is there at all, then as before.
            0 if is_tried => self.range(!bounded),
            1 if is_tried => Shape::Trial,
            _ => self.range(bounded),
        }
    }

    fn range(self, bounded: bool) -> Shape {
        if (bounded && !self.refuses_parts) || self.refuses_rest { Shape::Part } else { Shape::Rest }
    }

    /// The answer says that it is no way to ask.
    fn refused(&mut self, shape: Shape) {
        match shape {
            Shape::Rest => self.refuses_rest = true,
            Shape::Part => self.refuses_parts = true,
            Shape::Whole | Shape::Trial => self.failed(shape),
        }
    }

    /// It failed, which says nothing of ranges, unless the whole is answered.
    fn failed(&mut self, shape: Shape) {
        if self.is_there && !shape.is_whole() {
            self.has_no_parts();
        }
        self.failures = self.failures.saturating_add(1);
    }

    /// The upstream has no parts of this content.
    pub(crate) fn has_no_parts(&mut self) {
        (self.refuses_rest, self.refuses_parts) = (true, true);
    }

    /// The trial was answered.
    pub(crate) fn answered(&mut self) {
        self.is_there = true;
    }

    /// A request from this byte on that was made like this failed after so many bytes.
    pub(crate) fn ended(&mut self, shape: Shape, from: u64, brought: u64, fault: &Fault) {
        let has_range = shape == Shape::Part || from > 0;
        if brought > 0 {
            self.gained();
        } else if fault.unfit && has_range {
            self.refused(shape);
        } else {
            self.failed(shape);
        }
    }

    /// It brought something.
    pub(crate) fn gained(&mut self) {
        (self.failures, self.is_there) = (0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Shape::{Part, Rest, Trial, Whole};

    #[test]
    fn a_way_that_is_refused_is_not_asked_again() {
        for (bounded, expected) in [(false, [Rest, Part, Whole, Whole]), (true, [Part, Rest, Whole, Whole])] {
            let mut shapes = Shapes::default();
            for shape in expected {
                assert_eq!(shapes.next(bounded), shape);
                shapes.refused(shape);
            }
            shapes.gained();
            assert_eq!(shapes.next(bounded), Whole, "also after the next cut");
        }
    }

    #[test]
    fn the_whole_is_not_fetched_for_an_upstream_that_was_only_away() {
        let mut shapes = Shapes::default();
        for shape in [Rest, Rest, Part, Trial, Rest, Part, Trial] {
            assert_eq!(shapes.next(false), shape);
            if shape == Trial && shapes.failures > 4 {
                shapes.answered();
            } else {
                shapes.failed(shape);
            }
        }
        assert_eq!(shapes.next(false), Rest, "it is back");
        let mut back = shapes;
        back.gained();
        assert_eq!(back.next(false), Rest);
        shapes.failed(Rest);
        assert_eq!(shapes.next(false), Whole, "it is there, and has no ranges");
    }
}

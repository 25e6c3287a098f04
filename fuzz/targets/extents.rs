//! The bytes of a fill that have landed, as a set of extents.

use crate::cache::Extents;
use crate::wire::Span;

/// Positions in a space this small meet often.
const SPACE: usize = 256;

/// Pairs of bytes are extents: where one begins and how long it is. The set agrees with a plain array of bytes.
pub fn extents(data: &[u8]) {
    let mut plain = [false; SPACE * 2];
    let mut extents = Extents::default();
    for pair in data.chunks_exact(2) {
        let (from, to) = (usize::from(pair[0]), usize::from(pair[0]) + usize::from(pair[1]));
        plain[from..to].fill(true);
        extents.insert(Span { from: from as u64, to: to as u64 });
    }
    assert_eq!(extents.count(), plain.iter().filter(|there| **there).count() as u64);
    assert_eq!(extents.end(), plain.iter().rposition(|there| *there).map_or(0, |at| at as u64 + 1));
    let mut end = 0;
    for at in (0..plain.len()).rev() {
        if !plain[at] {
            end = at;
        } else if at + 1 == plain.len() || !plain[at + 1] {
            end = at + 1;
        }
        assert_eq!((extents.holds(at as u64), extents.end_from(at as u64)), (plain[at], end as u64), "{at}");
    }
    let pairs = extents.pairs();
    assert!(pairs.windows(2).all(|pair| pair[0].1 < pair[1].0), "{pairs:?}");
    assert_eq!(Extents::of(&pairs), extents);
    let wide = |byte: u8| u64::from_be_bytes([byte, !byte, byte, 0, byte, 0, 0, byte]);
    let far: Vec<(u64, u64)> = data.chunks_exact(2).map(|pair| (wide(pair[0]), wide(pair[1]))).collect();
    let far = Extents::of(&far);
    assert!(far.pairs().iter().all(|(from, to)| from < to) && far.count() <= far.end());
}

//! Reads along what an HTTP/2 peer sends, of which the HTTP client does not say: how many streams it serves at a time, and
//! its interim answers.
//!
//! Only SETTINGS frames and the heads of HEADERS frames are looked at (RFC 9113, 4.1, 6.2 and 6.5); whatever is no frame is
//! found out by the HTTP client.

const HEAD: usize = 9;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 100` in its longest form (RFC 7541, 6.2). No final answer with a body has so few fields.
const INTERIM: usize = 5;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;
const MAX_CONCURRENT_STREAMS: u16 = 3;
/// The size of a setting.
const SETTING: usize = 6;

/// The place in the stream of frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// What has come of a frame's head, or of a setting.
    part: [u8; HEAD],
    have: usize,
    /// So much of the frame's payload is still to come.
    left: usize,
    is_settings: bool,
    /// The first SETTINGS frame was read: what it leaves out has its default.
    has_begun: bool,
    said: Option<usize>,
    has_interim: bool,
}

impl Frames {
    /// Reads what came next. Answers with the last limit that it sets.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Option<usize> {
        let mut limit = None;
        while !bytes.is_empty() {
            if self.left > 0 && !self.is_settings {
                let passed = self.left.min(bytes.len());
                self.left -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            let size = if self.left > 0 { SETTING } else { HEAD };
            let taken = (size - self.have).min(bytes.len());
            self.part[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have < size {
                break;
            }
            self.have = 0;
            if size == HEAD {
                self.begin();
            } else {
                self.set();
            }
            if self.is_settings && self.left == 0 {
                limit = self.end().or(limit);
            }
        }
        limit
    }

    /// Whether an interim answer has come since the last question.
    pub(crate) fn has_interim(&mut self) -> bool {
        std::mem::take(&mut self.has_interim)
    }

    fn begin(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.part;
        self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
        self.is_settings = kind == SETTINGS && flags & ACK == 0;
        let is_whole = flags & (END_STREAM | END_HEADERS) == END_HEADERS;
        self.has_interim |= kind == HEADERS && is_whole && (1..=INTERIM).contains(&self.left);
        self.said = None;
    }

    fn set(&mut self) {
        let [name, name_low, value @ ..] = self.part;
        let [first, second, third, fourth, ..] = value;
        if u16::from_be_bytes([name, name_low]) == MAX_CONCURRENT_STREAMS {
            self.said = usize::try_from(u32::from_be_bytes([first, second, third, fourth])).ok();
        }
        self.left = self.left.saturating_sub(SETTING); // another size is an error that ends the connection
    }

    fn end(&mut self) -> Option<usize> {
        self.is_settings = false;
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        self.said.take().or(is_first.then_some(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&[length[1], length[2], length[3], kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn setting(name: u16, value: u32) -> Vec<u8> {
        [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()
    }

    #[test]
    fn the_limit_is_read_however_the_bytes_arrive() {
        let begun = frame(SETTINGS, 0, &[setting(4, 65_535), setting(3, 100), setting(5, 16_384)].concat());
        let bytes = [
            begun,
            frame(SETTINGS, ACK, &[]),
            frame(0, 0, &frame(SETTINGS, 0, &setting(3, 7))), // what looks like one in a body
            frame(SETTINGS, 0, &setting(4, 1)),
            frame(SETTINGS, 0, &setting(3, 2)),
            frame(6, 0, &[0; 8]),
        ]
        .concat();
        for piece in [1, 2, 5, 7, 9, 10, 64, bytes.len()] {
            let mut frames = Frames::default();
            let limits: Vec<usize> = bytes.chunks(piece).filter_map(|bytes| frames.read(bytes)).collect();
            assert_eq!(limits.last(), Some(&2), "{piece}");
            assert!(limits == [100, 2] || piece >= 64, "{piece}: {limits:?}");
        }
    }

    #[test]
    fn without_a_word_of_it_there_is_no_limit() {
        let mut frames = Frames::default();
        assert_eq!(frames.read(&frame(SETTINGS, 0, &setting(4, 65_535))), Some(usize::MAX));
        assert_eq!(frames.read(&frame(SETTINGS, 0, &setting(4, 65_535))), None, "only the first sets defaults");
        assert_eq!(Frames::default().read(&frame(SETTINGS, 0, &[])), Some(usize::MAX));
    }

    #[test]
    fn an_interim_answer_is_told_from_a_final_one() {
        let table: [(u8, &[u8], bool); 5] = [
            (END_HEADERS, b"\x48\x82\x08\x01", true),
            (END_HEADERS, b"\x48\x03100", true),
            (END_HEADERS, b"\xbe", true),
            (END_HEADERS | END_STREAM, b"\x88", false),
            (END_HEADERS, b"\x88\x0f\x10\x0atext/plain", false),
        ];
        for (flags, payload, expected) in table {
            let mut frames = Frames::default();
            frame(HEADERS, flags, payload).iter().for_each(|byte| assert_eq!(frames.read(&[*byte]), None));
            assert_eq!((frames.has_interim(), frames.has_interim()), (expected, false), "{payload:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(pieces: Vec<Vec<u8>>) {
            let mut frames = Frames::default();
            for piece in pieces {
                let _ = frames.read(&piece);
            }
        }
    }
}

//! TLS records, as far as a handshake is in the clear: one message is put together from them.
//!
//! A server reads a message however its client cut it: into single bytes, or with empty records between. Whoever judges
//! it has to read it in the same way, or to refuse it.
//! Reading: RFC 8446, 5.1 (records), 4.1.3 and 4.1.4 (HelloRetryRequest), D.4 (change_cipher_spec in between).

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const WARNING: u8 = 1;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// The first byte of a record's version is 3; Go's server takes all below this one before a version is agreed on.
const MAJORS: u8 = 0x10;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SERVER_NAME: [u8; 2] = [0, 0];
const HEADER: usize = 5;
/// What a record may hold in any version (RFC 5246, 6.2.3).
const RECORD: usize = (16 << 10) + 2048;
/// No hello is longer, and nothing that may stand before one.
const LONGEST: usize = 64 << 10;
/// The random of a ServerHello that is a HelloRetryRequest: SHA-256 of that word.
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11,
    0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// What the beginning of a stream holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Nothing whole yet.
    More,
    /// A ClientHello with its header, and how many of the stream's bytes are its records.
    Hello(Vec<u8>, usize),
    /// No ClientHello, and none that is allowed to come.
    Other,
}

/// Puts one ClientHello together from a stream that is read piece by piece.
pub(crate) struct HelloReader {
    passed_over: &'static [u8],
    /// How many of the stream's bytes were read: whole records.
    read: usize,
    message: Vec<u8>,
}

impl HelloReader {
    /// Of the client's first message. Nothing may stand before it but empty records.
    pub(crate) fn first() -> Self {
        Self { passed_over: &[], read: 0, message: Vec::new() }
    }

    /// Of the client's answer to a HelloRetryRequest, behind what its server passes over: early data, a
    /// change_cipher_spec, and alerts.
    pub(crate) fn second() -> Self {
        Self { passed_over: &[CHANGE_CIPHER_SPEC, ALERT, APPLICATION_DATA], ..Self::first() }
    }

    /// Reads on in `stream`, which begins with all that was read before.
    pub(crate) fn read(&mut self, stream: &[u8]) -> Read {
        loop {
            if self.read > LONGEST || self.message.len() > LONGEST {
                return Read::Other;
            }
            let (kind, record) = match record(stream.get(self.read..).unwrap_or_default()) {
                Ok(Some(found)) => found,
                Ok(None) => return Read::More,
                Err(NoRecord) => return Read::Other,
            };
            self.read += HEADER + record.len();
            match kind {
                HANDSHAKE => self.message.extend_from_slice(record),
                // Between the pieces of a message no other record may stand.
                kind if self.message.is_empty() && self.passed_over.contains(&kind) => continue,
                _ => return Read::Other,
            }
            match self.message.first() {
                None => {}
                Some(&CLIENT_HELLO) => {
                    let Some(length) = length(&self.message) else { continue };
                    if self.message.len() == length {
                        return Read::Hello(std::mem::take(&mut self.message), self.read);
                    }
                    // What follows a hello waits for its answer.
                    if self.message.len() > length {
                        return Read::Other;
                    }
                }
                Some(_) => return Read::Other,
            }
        }
    }
}

/// Whether a stream that begins so may be read as TLS by some server: by a handshake record, or by an alert, which some
/// pass over. Before a version is agreed on, servers take almost any. `None` while that cannot be said.
pub(crate) fn may_be_tls(stream: &[u8]) -> Option<bool> {
    match *stream {
        [] | [HANDSHAKE | ALERT] => None,
        [HANDSHAKE | ALERT, major, ..] => Some(major < MAJORS),
        _ => Some(false),
    }
}

/// Every name that a ClientHello asks for, as a server may read it that is easily satisfied: in whichever extension, and
/// whatever stands behind it. `None` where the hello is not made as one (RFC 8446, 4.1.2; RFC 6066, 3).
pub(crate) fn server_names(hello: &[u8]) -> Option<Vec<&[u8]>> {
    const HOST_NAME: u8 = 0;
    let rest = hello.get(4 + 2 + 32..)?; // its header, version, random
    let (_, rest) = counted::<1>(rest)?; // session
    let (_, rest) = counted::<2>(rest)?; // cipher suites
    let (_, rest) = counted::<1>(rest)?; // compression
    if rest.is_empty() {
        return Some(Vec::new());
    }
    let (mut extensions, _) = counted::<2>(rest)?;
    let mut names = Vec::new();
    while !extensions.is_empty() {
        let (kind, rest) = extensions.split_first_chunk::<2>()?;
        let (content, rest) = counted::<2>(rest)?;
        extensions = rest;
        if *kind != SERVER_NAME {
            continue;
        }
        let mut list = content.get(2..).unwrap_or_default();
        while let Some((&kind, rest)) = list.split_first()
            && let Some((name, rest)) = counted::<2>(rest)
        {
            list = rest;
            names.extend((kind == HOST_NAME).then_some(name));
        }
    }
    Some(names)
}

/// What a length of so many bytes counts, and what stands behind it.
fn counted<const WIDTH: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<WIDTH>()?;
    rest.split_at_checked(length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

/// Whether a server asks for a second ClientHello; `None` while that cannot be said.
pub(crate) fn asks_again(stream: &[u8]) -> Option<bool> {
    let (mut rest, mut message) = (stream, Vec::new());
    const RANDOM: std::ops::Range<usize> = 6..38;
    loop {
        match record(rest) {
            Ok(Some((HANDSHAKE, record))) => {
                message.extend_from_slice(record);
                rest = &rest[HEADER + record.len()..];
            }
            // Some servers say first that they do not know the name, and go on.
            Ok(Some((ALERT, record))) if record.first() == Some(&WARNING) && message.is_empty() => {
                rest = &rest[HEADER + record.len()..];
            }
            Ok(None)
                if rest.first().is_none_or(|kind| matches!(*kind, HANDSHAKE | ALERT)) && stream.len() <= LONGEST =>
            {
                // Of a long record the beginning is enough.
                if rest.first() == Some(&HANDSHAKE) {
                    message.extend_from_slice(rest.get(HEADER..).unwrap_or_default());
                }
                return told(&message, RANDOM);
            }
            _ => return Some(false),
        }
        if let Some(told) = told(&message, RANDOM) {
            return Some(told);
        }
    }
}

fn told(message: &[u8], random: std::ops::Range<usize>) -> Option<bool> {
    match (message.first(), message.get(random)) {
        (Some(&SERVER_HELLO), None) | (None, _) => None,
        (Some(&SERVER_HELLO), Some(random)) => Some(random == RETRY),
        (Some(_), _) => Some(false),
    }
}

struct NoRecord;

/// The kind and the content of the record with which the bytes begin, once it is whole.
fn record(bytes: &[u8]) -> Result<Option<(u8, &[u8])>, NoRecord> {
    if bytes.get(1).is_some_and(|major| *major >= MAJORS) {
        return Err(NoRecord);
    }
    let [kind, _, _, high, low, ref rest @ ..] = *bytes else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > RECORD {
        return Err(NoRecord);
    }
    Ok(rest.get(..length).map(|content| (kind, content)))
}

/// How long a handshake message is, with its header.
fn length(message: &[u8]) -> Option<usize> {
    let [_, high, middle, low, ..] = *message else { return None };
    usize::try_from(u32::from_be_bytes([0, high, middle, low])).ok()?.checked_add(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record_of(kind: u8, content: &[u8]) -> Vec<u8> {
        let mut record = vec![kind, 3, 3];
        record.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        record.extend(content);
        record
    }

    fn message(kind: u8, content: &[u8]) -> Vec<u8> {
        let mut message = vec![kind];
        message.extend(&u32::try_from(content.len()).unwrap().to_be_bytes()[1..]);
        message.extend(content);
        message
    }

    #[test]
    fn a_hello_is_the_same_however_its_records_are_cut() {
        let hello = message(1, b"\x03\x03hello");
        let empty = record_of(22, b"");
        for size in 1..=hello.len() {
            let mut stream = empty.clone();
            for piece in hello.chunks(size) {
                stream.extend(record_of(22, piece));
                stream.extend(&empty);
            }
            let end = stream.len() - empty.len();
            assert_eq!(HelloReader::first().read(&stream), Read::Hello(hello.clone(), end), "{size}");
            let mut reader = HelloReader::first();
            for cut in 0..end {
                assert_eq!(reader.read(&stream[..cut]), Read::More, "{size} {cut}");
            }
            assert_eq!(reader.read(&stream), Read::Hello(hello.clone(), end), "{size}");
        }
    }

    #[test]
    fn what_is_no_hello_is_not_waited_for() {
        let hello = message(1, b"\x03\x03hello");
        let behind = [&hello[..], b"more"].concat();
        let table: [(&str, Vec<u8>); 8] = [
            ("no TLS", b"\x16 quay.io".to_vec()),
            ("another message", record_of(22, &message(2, b"x"))),
            ("an alert before it", [record_of(21, b"\x01\x00"), record_of(22, &hello)].concat()),
            ("early data before it", [record_of(23, b"x"), record_of(22, &hello)].concat()),
            ("another record within it", [record_of(22, &hello[..3]), record_of(20, b"\x01")].concat()),
            ("more in its record", record_of(22, &behind)),
            ("a record that is too long", vec![22, 3, 3, 0xff, 0xff]),
            ("a hello that is too long", (0..6).flat_map(|_| record_of(22, &vec![1; 16 << 10])).collect()),
        ];
        for (name, stream) in table {
            assert_eq!(HelloReader::first().read(&stream), Read::Other, "{name}");
        }
    }

    #[test]
    fn a_second_hello_may_stand_behind_early_data_and_a_change_of_ciphers() {
        let hello = message(1, b"\x03\x03again");
        let before = [record_of(23, b"early"), record_of(20, b"\x01"), record_of(22, b"")].concat();
        let stream = [&before[..], &record_of(22, &hello), b"rest"].concat();
        assert_eq!(HelloReader::second().read(&stream), Read::Hello(hello.clone(), stream.len() - 4));
        assert_eq!(
            HelloReader::second().read(&[record_of(22, &hello[..2]), record_of(23, b"x")].concat()),
            Read::Other
        );
        assert_eq!(HelloReader::second().read(&record_of(23, &[0; 16 << 10]).repeat(5)), Read::Other);
    }

    #[test]
    fn what_some_server_reads_as_tls_is_known_by_its_first_two_bytes() {
        for (stream, expected) in [
            (&b""[..], None),
            (b"\x16", None),
            (b"\x15", None),
            (b"\x16\x03", Some(true)),
            (b"\x16\x02\x00", Some(true)),
            (b"\x16\x00", Some(true)),
            (b"\x15\x03", Some(true)),
            (b"\x16 quay.io", Some(false)),
            (b"SSH-2.0", Some(false)),
            (b"\x14\x03", Some(false)),
        ] {
            assert_eq!(may_be_tls(stream), expected, "{stream:?}");
        }
    }

    #[test]
    fn a_server_asks_again_by_its_random() {
        let retry = message(2, &[&[3, 3], &RETRY[..], b"rest"].concat());
        let other = message(2, &[&[3, 3], &[7; 32][..], b"rest"].concat());
        for size in [1, 5, 60] {
            let cut = |message: &[u8]| message.chunks(size).flat_map(|piece| record_of(22, piece)).collect::<Vec<_>>();
            assert_eq!(asks_again(&cut(&retry)), Some(true), "{size}");
            assert_eq!(asks_again(&cut(&other)), Some(false), "{size}");
            let warned = [record_of(21, b"\x01\x70"), cut(&retry)].concat();
            assert_eq!(asks_again(&warned), Some(true), "{size}");
        }
        for cut in 0..43 {
            assert_eq!(asks_again(&record_of(22, &retry)[..cut]), None, "{cut}");
        }
        for other in
            [record_of(21, b"\x02\x28"), b"HTTP/1.1 400 Bad Request\r\n".to_vec(), record_of(22, b"\x0e\0\0\0")]
        {
            assert_eq!(asks_again(&other), Some(false), "{other:?}");
        }
    }
}

//! TLS's first message, made by hand: what no TLS library would send.

/// Extensions (RFC 8446, 4.2).
pub(super) const SERVER_NAME: u16 = 0;
pub(super) const ALPN: u16 = 16;

/// A hello to be.
pub(super) struct Hello {
    version: u16,
    ciphers: Vec<u16>,
    extensions: Vec<(u16, Vec<u8>)>,
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()][..], bytes].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn medium(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[1..], bytes].concat()
}

impl Hello {
    /// One that asks for TLS 1.3 or 1.2 and this name.
    pub(super) fn to(name: &str) -> Self {
        Self::nameless().with(SERVER_NAME, &names(&[name.as_bytes()]))
    }

    pub(super) fn nameless() -> Self {
        let key = [&[0, 0x1d][..], &long(&[9; 32])].concat();
        let hello = Self { version: 0x0303, ciphers: vec![0x1301, 0xc02b], extensions: Vec::new() };
        hello
            .with(10, &long(&[0, 0x1d, 0, 0x17])) // supported_groups
            .with(11, &short(&[0])) // ec_point_formats
            .with(13, &long(&[4, 3, 8, 4])) // signature_algorithms
            .with(43, &short(&[3, 4, 3, 3])) // supported_versions
            .with(51, &long(&key)) // key_share
    }

    pub(super) fn with(mut self, extension: u16, bytes: &[u8]) -> Self {
        self.extensions.push((extension, bytes.to_vec()));
        self
    }

    /// Nothing newer than this version.
    pub(super) fn of_version(mut self, version: u16) -> Self {
        self.version = version;
        self.extensions.retain(|(extension, _)| !matches!(extension, 43 | 51));
        self
    }

    pub(super) fn ciphers(mut self, ciphers: &[u16]) -> Self {
        self.ciphers = ciphers.to_vec();
        self
    }

    /// The handshake message.
    pub(super) fn message(&self) -> Vec<u8> {
        let ciphers: Vec<u8> = self.ciphers.iter().flat_map(|cipher| cipher.to_be_bytes()).collect();
        let extensions: Vec<u8> =
            self.extensions.iter().flat_map(|(kind, bytes)| [&kind.to_be_bytes()[..], &long(bytes)].concat()).collect();
        let body = [
            &self.version.to_be_bytes()[..],
            &[5; 32],
            &short(&[6; 32]),
            &long(&ciphers),
            &short(&[0]),
            &long(&extensions),
        ];
        [&[1][..], &medium(&body.concat())].concat()
    }

    /// The message in one record.
    pub(super) fn record(&self) -> Vec<u8> {
        record(22, &self.message())
    }

    /// The message in records of so many bytes.
    pub(super) fn records(&self, size: usize) -> Vec<u8> {
        self.message().chunks(size).flat_map(|part| record(22, part)).collect()
    }
}

pub(super) fn record(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1][..], &long(bytes)].concat()
}

/// The body of a server_name extension (RFC 6066, 3).
pub(super) fn names(names: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = names.iter().flat_map(|name| [&[0][..], &long(name)].concat()).collect();
    long(&list)
}

/// The body of an ALPN extension (RFC 7301, 3.1).
pub(super) fn protocols(protocols: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = protocols.iter().flat_map(|protocol| short(protocol.as_bytes())).collect();
    long(&list)
}

/// What the peer's first record says.
pub(super) fn said(record: &[u8]) -> String {
    match record {
        [] => "end".to_owned(),
        [22, _, _, _, _, 2, ..] => "hello".to_owned(),
        [21, _, _, _, 2, _, code, ..] => format!("alert {}", alert(*code)),
        [b'H', b'T', b'T', b'P', ..] => "http".to_owned(),
        _ => format!("{record:x?}"),
    }
}

/// RFC 8446, 6.
fn alert(code: u8) -> String {
    let name = match code {
        10 => "unexpected_message",
        22 => "record_overflow",
        40 => "handshake_failure",
        47 => "illegal_parameter",
        50 => "decode_error",
        70 => "protocol_version",
        109 => "missing_extension",
        112 => "unrecognized_name",
        120 => "no_application_protocol",
        _ => return code.to_string(),
    };
    name.to_owned()
}

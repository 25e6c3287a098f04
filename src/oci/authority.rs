//! Parses host and port as they appear in a CONNECT request, a Host header or the name of an image.
//!
//! Two spellings of one host are one value: names lose their case and a trailing dot, addresses their different textual
//! forms. Any other text is refused here, once.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// A host: a DNS name in lower case, or an address. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name (RFC 1123 labels; underscores are seen in the wild and allowed).
    Name(Arc<str>),
    /// A literal address.
    Address(IpAddr),
}

/// Host and port.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

/// Text that is not `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a host: expected a DNS name or an address, such as quay.io, 192.0.2.1:5000 or [2001:db8::1]:443")]
pub struct BadAuthority;

impl Authority {
    /// Parses `host` or `host:port`; without a port, `default_port` applies.
    ///
    /// # Errors
    /// [`BadAuthority`] for anything else, an empty port and user information included.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, BadAuthority> {
        let (host, port) = split_port(text)?;
        let port = match port {
            None => default_port,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().map_err(|_| BadAuthority)?,
            Some(_) => return Err(BadAuthority),
        };
        Ok(Self { host: host.parse()?, port })
    }

    /// The text, without the port if that is `implied` by the scheme.
    #[must_use]
    pub fn short(&self, implied: u16) -> Arc<str> {
        if self.port != implied {
            return self.to_string().into();
        }
        match &self.host {
            Host::Address(IpAddr::V6(address)) => format!("[{address}]").into(),
            Host::Address(address) => address.to_string().into(),
            Host::Name(name) => name.clone(),
        }
    }

    /// Whether `text` parses to this authority.
    #[must_use]
    pub fn is_written(&self, text: &str, default_port: u16) -> bool {
        // The text of nearly every request is recognised without parsing.
        matches!(&self.host, Host::Name(name) if self.port == default_port && name.eq_ignore_ascii_case(text))
            || Self::parse(text, default_port).as_ref() == Ok(self)
    }
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), BadAuthority> {
    if text.starts_with('[') {
        let end = text.find(']').ok_or(BadAuthority)?;
        let (host, rest) = text.split_at(end + 1);
        return match rest.strip_prefix(':') {
            None if rest.is_empty() => Ok((host, None)),
            Some(port) => Ok((host, Some(port))),
            None => Err(BadAuthority),
        };
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => Ok((text, None)), // a bare IPv6 address
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

impl FromStr for Host {
    type Err = BadAuthority;

    fn from_str(text: &str) -> Result<Self, BadAuthority> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(BadAuthority)?;
            return inner.parse::<Ipv6Addr>().map(|a| Self::Address(a.into())).map_err(|_| BadAuthority);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if is_name(&name) { Ok(Self::Name(name.into())) } else { numeric(&name).map(Self::Address) }
    }
}

fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    !text.is_empty() && text.len() <= 253 && text.split('.').all(label) && !ends_in_number(text)
}

/// Whether the last label is a number: resolvers then read the whole text as an address (WHATWG URL, "ends in
/// a number").
fn ends_in_number(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or(text);
    last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Parses the forms that `inet_aton` accepts besides the dotted quad: `127.1`, `0x7f000001`, `2130706433`, `0177.0.0.1`.
/// Threat: a resolver that accepts them reaches loopback past a check of the text. So they are parsed here, and checked
/// as addresses.
fn numeric(text: &str) -> Result<IpAddr, BadAuthority> {
    let parts: Vec<u64> = text.split('.').map(number).collect::<Option<_>>().ok_or(BadAuthority)?;
    let (last, leading) = parts.split_last().ok_or(BadAuthority)?;
    if leading.len() > 3 || leading.iter().any(|part| *part > 255) || *last >= 1 << (8 * (4 - leading.len())) {
        return Err(BadAuthority);
    }
    let high = leading.iter().zip([24, 16, 8]).fold(0, |sum, (part, shift)| sum | part << shift);
    u32::try_from(high | last).map(|bits| Ipv4Addr::from(bits).into()).map_err(|_| BadAuthority)
}

fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    let plain = digits.bytes().all(|b| b.is_ascii_hexdigit()); // from_str_radix takes a sign
    plain.then(|| u64::from_str_radix(digits, radix).ok()).flatten()
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_host_are_one_value() {
        let table = [
            ("quay.io", "quay.io:443"),
            ("QUAY.io.:443", "quay.io:443"),
            ("example.com:5000", "example.com:5000"),
            ("[::1]:80", "[::1]:80"),
            ("::1", "[::1]:443"),
            ("[0:0:0:0:0:0:0:1]", "[::1]:443"),
            ("127.1", "127.0.0.1:443"),
            ("0x7f.1", "127.0.0.1:443"),
            ("2130706433:25", "127.0.0.1:25"),
            ("0177.0.0.1", "127.0.0.1:443"),
            ("0x7F000001", "127.0.0.1:443"),
            ("my_host", "my_host:443"),
        ];
        for (text, expected) in table {
            let parsed = Authority::parse(text, 443).map(|a| a.to_string());
            assert_eq!(parsed, Ok(expected.to_string()), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let texts = [
            "",
            ":443",
            "a:",
            "a:b",
            "a:70000",
            "a:+1",
            "user@host",
            "a b",
            "a/b",
            "-a.b",
            "a..b",
            "[::1",
            "[::1]x",
            "[1.2.3.4]",
            "256.1.1.1",
            "1.2.3.4.5",
            "0x100000000",
            "a.0x1",
            "é.com",
            "1.2.3.4..",
            "0x",
            "fe80::1%eth0",
        ];
        for text in texts {
            assert_eq!(Authority::parse(text, 443), Err(BadAuthority), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_prints_what_it_parsed(text in "[0-9a-fx.:\\[\\]-]{0,24}|.{0,40}") {
            if let Ok(authority) = Authority::parse(&text, 443) {
                proptest::prop_assert_eq!(Authority::parse(&authority.to_string(), 1), Ok(authority));
            }
        }
    }
}

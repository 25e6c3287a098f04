//! One DNS server of `upstream.resolvers`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer};

use crate::oci::parsed;

const PORT: u16 = 53;

/// A DNS server's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nameserver(pub SocketAddr);

/// Text that is no address of a DNS server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the address of a DNS server, such as 192.0.2.53, '192.0.2.53:5353' or '2001:db8::53'")]
pub struct BadNameserver;

impl FromStr for Nameserver {
    type Err = BadNameserver;

    fn from_str(text: &str) -> Result<Self, BadNameserver> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let address = match bare.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, PORT),
            Err(_) => text.parse().map_err(|_| BadNameserver)?,
        };
        if address.port() == 0 || address.ip().is_unspecified() { Err(BadNameserver) } else { Ok(Self(address)) }
    }
}

impl<'de> Deserialize<'de> for Nameserver {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

impl fmt::Display for Nameserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.port() == PORT { self.0.ip().fmt(f) } else { self.0.fmt(f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_address_with_a_port_or_without() {
        let table = [
            ("192.0.2.53", Some("192.0.2.53:53")),
            ("192.0.2.53:5353", Some("192.0.2.53:5353")),
            ("2001:db8::53", Some("[2001:db8::53]:53")),
            ("[2001:db8::53]", Some("[2001:db8::53]:53")),
            ("[2001:db8::53]:5353", Some("[2001:db8::53]:5353")),
            ("dns.example.com", None),
            ("192.0.2.53:0", None),
            ("0.0.0.0", None),
            ("", None),
        ];
        for (text, expected) in table {
            let server = text.parse::<Nameserver>().ok().map(|server| server.0.to_string());
            assert_eq!(server.as_deref(), expected, "{text}");
        }
    }
}

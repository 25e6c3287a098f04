//! Host and port: one value for each host, whatever its spelling, and a spelling that reads back.

use crate::oci::{Authority, Host, HostPattern};

/// What parses prints as text that parses to the same, that URIs take, and that is known as the same host again.
pub fn authority(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (here, there) = (Authority::parse(text, 443), Authority::parse(text, 80));
    assert_eq!(here.as_ref().map(|authority| &authority.host), there.as_ref().map(|authority| &authority.host));
    if let Ok(authority) = here {
        let (long, short) = (authority.to_string(), authority.short(443));
        assert_eq!(Authority::parse(&long, 1).as_ref(), Ok(&authority));
        assert_eq!(Authority::parse(&short, 443).as_ref(), Ok(&authority));
        for spelling in [text, &long, &short] {
            assert!(authority.is_written(spelling, 443), "{spelling:?} is {authority}");
        }
        let uri: http::uri::Authority = long.parse().expect("what is printed stands in a URI");
        assert_eq!((uri.port_u16(), uri.as_str()), (Some(authority.port), long.as_str()));
        let is_name =
            |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
        assert!(
            !matches!(&authority.host, Host::Name(name) if !is_name(name) || name.parse::<std::net::IpAddr>().is_ok())
        );
    }
    if let Ok(pattern) = text.parse::<HostPattern>() {
        assert_eq!(pattern.to_string().parse::<HostPattern>().as_ref(), Ok(&pattern));
        if let Some(host) = pattern.exact() {
            assert!(pattern.matches_host(host), "{pattern} is not itself");
        }
    }
}

//! A DNS server's message.

use std::net::IpAddr;

use super::message::{Records, Reply, question, read};

const NAME: &str = "quay.io";

/// The message answers a question with its own id, or with another one: then it is foreign. Addresses are of the family
/// that was asked for, and their bytes stand in the message; there is a bound to them.
pub fn dns(data: &[u8]) {
    let id = data.first_chunk::<2>().map_or(0, |id| u16::from_be_bytes(*id));
    for records in [Records::V4, Records::V6] {
        assert_eq!(read(data, id.wrapping_add(1), NAME, records), Reply::Foreign);
        if let Reply::Found(addresses, life) = read(data, id, NAME, records) {
            assert!(addresses.len() <= 16 && life.as_secs() <= u32::MAX.into());
            assert!(!addresses.is_empty() || life.is_zero());
            for address in addresses {
                assert_eq!(address.is_ipv4(), records == Records::V4);
                let bytes = match address {
                    IpAddr::V4(address) => address.octets().to_vec(),
                    IpAddr::V6(address) => address.octets().to_vec(),
                };
                assert!(data.windows(bytes.len()).any(|part| part == bytes), "{address} is not in the message");
            }
        }
        // What a name is made of is its own: one that was asked for comes from a client.
        if let Ok(name) = std::str::from_utf8(data)
            && let Some(question) = question(id, name, records)
        {
            assert!(question.len() <= 512, "{name:?}");
            assert_eq!(read(&question, id, name, records), Reply::Foreign, "a question is no answer");
        }
    }
}

//! Writes DNS questions and reads DNS answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, ResourceRecord, TYPE, header_buffer};

/// An alias of an alias, and so on, so many times at most.
const ALIASES: usize = 16;
/// No more addresses of one family are kept: what is remembered is bounded by names, and a name's size by this.
const ADDRESSES: usize = 16;

/// Which records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Records {
    V4,
    V6,
}

/// What a server's message says to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Nothing: it is an answer to something else, or none at all.
    Foreign,
    /// It was cut: by TCP there is all of it.
    Cut,
    /// Addresses, perhaps none, and how long they hold.
    Found(Vec<IpAddr>, Duration),
    /// There is no such name.
    NoName,
    /// The server could not answer, or did not want to; its code in words.
    Failed(String),
}

/// A question for a full name. `None`: DNS has no room for it.
pub(crate) fn question(id: u16, name: &str, records: Records) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).ok()?;
    packet.questions.push(Question::new(name, records.kind().into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().ok()
}

/// Reads a message that came after the question for `name` with `id` was sent.
pub(crate) fn read(message: &[u8], id: u16, name: &str, records: Records) -> Reply {
    let is_answer = header_buffer::id(message) == Ok(id)
        && header_buffer::has_flags(message, PacketFlag::RESPONSE).unwrap_or(false);
    if !is_answer {
        return Reply::Foreign;
    }
    // Of what was cut not even the records may be whole.
    if header_buffer::has_flags(message, PacketFlag::TRUNCATION).unwrap_or(false) {
        return Reply::Cut;
    }
    let (Ok(packet), Ok(asked)) = (Packet::parse(message), Name::new(name)) else { return Reply::Foreign };
    let is_ours = |question: &Question<'_>| question.qname == asked && question.qtype == QTYPE::TYPE(records.kind());
    // Some servers leave the question out when they refuse it.
    let is_error = packet.rcode() != RCODE::NoError && packet.questions.is_empty();
    if !is_error && !packet.questions.iter().any(is_ours) {
        return Reply::Foreign;
    }
    match packet.rcode() {
        RCODE::NoError => found(&packet.answers, asked, records),
        RCODE::NameError => Reply::NoName,
        code => Reply::Failed(format!("{code:?}")),
    }
}

/// The addresses of the name, or of what it is an alias of. They hold as long as the shortest-lived record.
fn found(records: &[ResourceRecord<'_>], asked: Name<'_>, wanted: Records) -> Reply {
    let (mut name, mut life) = (asked, u32::MAX);
    for _ in 0..ALIASES {
        let alias = records.iter().filter(|record| record.name == name).find_map(|record| match &record.rdata {
            RData::CNAME(target) => Some((target.0.clone(), record.ttl)),
            _ => None,
        });
        let Some((target, ttl)) = alias else { break };
        (name, life) = (target, life.min(ttl));
    }
    let mut addresses = Vec::new();
    for record in records.iter().filter(|record| record.name == name) {
        let address = match (&record.rdata, wanted) {
            (RData::A(a), Records::V4) => IpAddr::from(Ipv4Addr::from(a.address)),
            (RData::AAAA(aaaa), Records::V6) => IpAddr::from(Ipv6Addr::from(aaaa.address)),
            _ => continue,
        };
        life = life.min(record.ttl);
        addresses.push(address);
        if addresses.len() == ADDRESSES {
            break;
        }
    }
    let life = if addresses.is_empty() { 0 } else { life };
    Reply::Found(addresses, Duration::from_secs(life.into()))
}

impl Records {
    fn kind(self) -> TYPE {
        match self {
            Self::V4 => TYPE::A,
            Self::V6 => TYPE::AAAA,
        }
    }
}

#[cfg(test)]
mod tests {
    use simple_dns::rdata::{A, AAAA, CNAME};

    use super::*;

    fn record<'a>(name: &'a str, ttl: u32, rdata: RData<'a>) -> ResourceRecord<'a> {
        ResourceRecord::new(Name::new(name).unwrap(), CLASS::IN, ttl, rdata)
    }

    fn alias(to: &str) -> RData<'_> {
        RData::CNAME(CNAME(Name::new(to).unwrap()))
    }

    fn v4(last: u8) -> RData<'static> {
        RData::A(A { address: Ipv4Addr::new(192, 0, 2, last).into() })
    }

    fn answer(id: u16, asked: &str, kind: TYPE, answers: Vec<ResourceRecord<'_>>) -> Vec<u8> {
        let mut packet = Packet::new_reply(id);
        packet.questions.push(Question::new(Name::new(asked).unwrap(), kind.into(), CLASS::IN.into(), false));
        packet.answers = answers;
        packet.build_bytes_vec_compressed().unwrap()
    }

    fn addresses(reply: Reply) -> (Vec<String>, u64) {
        let Reply::Found(addresses, life) = reply else { panic!("{reply:?}") };
        (addresses.iter().map(ToString::to_string).collect(), life.as_secs())
    }

    #[test]
    fn aliases_are_followed_and_the_shortest_life_counts() {
        let answers = vec![
            record("cdn.example.net", 60, v4(1)),
            record("other.example.net", 1, v4(9)),
            record("quay.io", 300, alias("cdn.example.com")),
            record("cdn.example.com", 20, alias("cdn.example.net")),
            record("cdn.example.net", 30, v4(2)),
            record("cdn.example.net", 5, RData::AAAA(AAAA { address: 1 })),
        ];
        let message = answer(7, "QUAY.io", TYPE::A, answers);
        let found = addresses(read(&message, 7, "quay.io", Records::V4));
        assert_eq!(found, (vec!["192.0.2.1".to_owned(), "192.0.2.2".to_owned()], 20));
    }

    #[test]
    fn of_many_addresses_the_first_are_kept() {
        let answers = (0..200).map(|last| record("quay.io", 60, v4(last))).collect();
        let (found, _) = addresses(read(&answer(7, "quay.io", TYPE::A, answers), 7, "quay.io", Records::V4));
        assert_eq!((found.len(), found[0].as_str(), found[15].as_str()), (16, "192.0.2.0", "192.0.2.15"));
    }

    #[test]
    fn an_alias_of_itself_ends() {
        let answers = vec![record("a.example", 9, alias("b.example")), record("b.example", 9, alias("a.example"))];
        let message = answer(7, "a.example", TYPE::A, answers);
        assert_eq!(addresses(read(&message, 7, "a.example", Records::V4)), (Vec::new(), 0));
    }

    #[test]
    fn what_answers_another_question_is_no_answer() {
        let message = answer(7, "quay.io", TYPE::A, vec![record("quay.io", 60, v4(1))]);
        let query = question(7, "quay.io", Records::V4).unwrap();
        let table = [
            (read(&message, 8, "quay.io", Records::V4), "another id"),
            (read(&message, 7, "ghcr.io", Records::V4), "another name"),
            (read(&message, 7, "quay.io", Records::V6), "another type"),
            (read(&query, 7, "quay.io", Records::V4), "the question itself"),
            (read(&message[..20], 7, "quay.io", Records::V4), "half of it"),
        ];
        for (reply, what) in table {
            assert_eq!(reply, Reply::Foreign, "{what}");
        }
        assert_eq!(addresses(read(&message, 7, "quay.io", Records::V4)).0, ["192.0.2.1"]);
    }

    proptest::proptest! {
        #[test]
        fn no_message_panics_the_reader(bytes: Vec<u8>, at in 0usize..60, byte: u8) {
            let _ = read(&bytes, 7, "quay.io", Records::V4);
            let answers = vec![record("quay.io", 1, alias("a.quay.io")), record("a.quay.io", 60, v4(1))];
            let mut message = answer(7, "quay.io", TYPE::A, answers);
            if let Some(place) = message.get_mut(at) {
                *place = byte;
            }
            let _ = read(&message, 7, "quay.io", Records::V4);
        }
    }
}

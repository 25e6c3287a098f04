//! The address rules: a pure judgement whether one address may be dialled for one host.
//!
//! The address judged is the address dialled, so a name that changes its mind in between gains nothing.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::address::{AddressKind, Needs, forms};
use super::names::NameKind;
use crate::oci::{Authority, Host, HostPattern};
use crate::upstream::Target;

/// Who opens and closes addresses beside their kind.
#[derive(Clone, Debug, Default)]
pub struct AddressRules {
    /// `tunnel.allow`: a name or network opens private addresses, a single address opens even loopback.
    pub allow: Vec<Target>,
    /// `tunnel.deny`: never reachable, whatever else is said.
    pub deny: Vec<Target>,
    /// Registries named exactly in the configuration (a port not named is 443): private addresses are open to
    /// them. Patterns among these open nothing.
    pub named: Vec<HostPattern>,
    /// Our own listeners, which are never dialled.
    pub own: Vec<SocketAddr>,
}

/// What the rules forbid, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{to} may not be reached: {why}")]
pub struct Forbidden {
    /// Who was meant.
    pub to: Authority,
    /// The address, if the name's own entry in `tunnel.deny` did not end it before there was one.
    pub address: Option<IpAddr>,
    /// Why.
    pub why: Why,
}

/// Why an address is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// `tunnel.deny` names it.
    Denied,
    /// It is one of our own listeners.
    Own,
    /// Its kind is closed, and nothing in the configuration opens it.
    Kind(IpAddr, AddressKind),
    /// It would be resolved by a parent proxy, and the name itself says that it leads inside.
    Name(NameKind),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("tunnel.deny names it"),
            Self::Own => f.write_str("that is this proxy itself"),
            Self::Name(kind) => write!(f, "it is {kind}, and tunnel.allow does not name it"),
            Self::Kind(address, kind) => {
                write!(f, "{address} is {kind}")?;
                match kind.needs() {
                    Needs::Nothing | Needs::Impossible => Ok(()),
                    Needs::Naming => f.write_str(", and tunnel.allow names neither it nor the host"),
                    Needs::VeryAddress => f.write_str(", and tunnel.allow does not name this very address"),
                }
            }
        }
    }
}

impl AddressRules {
    /// Judges dialling `address` for `to`. `given` says that the configuration's `address` names it for this
    /// host; `is_local` answers whether an address is one of this machine.
    pub(crate) fn judge(
        &self,
        to: &Authority,
        address: SocketAddr,
        given: bool,
        is_local: impl Fn(IpAddr) -> bool,
    ) -> Result<(), Forbidden> {
        self.why(to, address, given, is_local)
            .map_or(Ok(()), |why| Err(Forbidden { to: to.clone(), address: Some(address.ip()), why }))
    }

    /// Judges a host before its addresses are known.
    pub(crate) fn judge_host(&self, to: &Authority) -> Result<(), Forbidden> {
        let denied = self.deny.iter().any(|target| names_host(target, to));
        if denied { Err(Forbidden { to: to.clone(), address: None, why: Why::Denied }) } else { Ok(()) }
    }

    /// Judges a name that nobody here resolves: the list of what is denied, and what the name itself tells.
    pub(crate) fn judge_name(&self, to: &Authority) -> Result<(), Forbidden> {
        self.judge_host(to)?;
        let Host::Name(name) = &to.host else { return Ok(()) };
        let kind = NameKind::of(name);
        if kind == NameKind::Public || self.is_named(to) || self.allow.iter().any(|target| names_host(target, to)) {
            return Ok(());
        }
        Err(Forbidden { to: to.clone(), address: None, why: Why::Name(kind) })
    }

    /// Judges an address of a parent: the configuration names it, and all that it may not be is ourselves.
    pub(crate) fn judge_parent(
        &self,
        to: &Authority,
        address: SocketAddr,
        is_local: impl Fn(IpAddr) -> bool,
    ) -> Result<(), Forbidden> {
        let own = Self { own: self.own.clone(), ..Self::default() };
        own.judge(to, address, true, is_local)
    }

    fn why(&self, to: &Authority, address: SocketAddr, given: bool, is_local: impl Fn(IpAddr) -> bool) -> Option<Why> {
        let reached = Reached::new(address);
        if self.deny.iter().any(|target| names_host(target, to) || reached.any_in(target)) {
            return Some(Why::Denied);
        }
        let kind = AddressKind::of(address.ip());
        if kind.needs() == Needs::Impossible {
            return Some(Why::Kind(address.ip(), kind));
        }
        if self.own.iter().any(|own| reached.is_listener(*own, &is_local)) {
            return Some(Why::Own);
        }
        let open = given
            || match kind.needs() {
                Needs::Nothing => true,
                Needs::Naming => self.is_named(to) || self.allow.iter().any(|t| names_host(t, to) || reached.all_in(t)),
                Needs::VeryAddress => self.allow.iter().any(|target| is_single(target) && reached.all_in(target)),
                Needs::Impossible => false,
            };
        (!open).then_some(Why::Kind(address.ip(), kind))
    }

    fn is_named(&self, to: &Authority) -> bool {
        self.named.iter().any(|pattern| pattern.exact().is_some() && pattern.matches(to, 443))
    }
}

/// Whether a target names the host itself. An entry without a port is for every port.
fn names_host(target: &Target, to: &Authority) -> bool {
    match target {
        Target::Host(pattern) => pattern.matches(to, to.port),
        Target::Network(_) => false,
    }
}

/// Whether a target is a single address.
fn is_single(target: &Target) -> bool {
    match target {
        Target::Host(pattern) => matches!(pattern.exact(), Some(Host::Address(_))),
        Target::Network(network) => network.prefix_len() == network.max_prefix_len(),
    }
}

/// An address and the addresses that it reaches in truth.
struct Reached {
    outer: IpAddr,
    forms: Vec<IpAddr>,
    port: u16,
}

impl Reached {
    fn new(address: SocketAddr) -> Self {
        Self { outer: address.ip(), forms: forms(address.ip()), port: address.port() }
    }

    fn any_in(&self, target: &Target) -> bool {
        self.is_in(self.outer, target) || self.forms.iter().any(|form| self.is_in(*form, target))
    }

    fn all_in(&self, target: &Target) -> bool {
        self.is_in(self.outer, target) || self.forms.iter().all(|form| self.is_in(*form, target))
    }

    fn is_in(&self, address: IpAddr, target: &Target) -> bool {
        match target {
            Target::Network(network) => network.contains(&address),
            Target::Host(pattern) => {
                pattern.exact() == Some(&Host::Address(address)) && pattern.port().is_none_or(|port| port == self.port)
            }
        }
    }

    fn is_listener(&self, own: SocketAddr, is_local: impl Fn(IpAddr) -> bool) -> bool {
        let own_address = own.ip().to_canonical();
        own.port() == self.port
            && self.forms.iter().any(|form| {
                *form == own_address || own_address.is_unspecified() && (form.is_loopback() || is_local(*form))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: &[&str], deny: &[&str]) -> AddressRules {
        let targets = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        AddressRules {
            allow: targets(allow),
            deny: targets(deny),
            named: vec!["r.example.com".parse().unwrap(), "10.9.9.9:5000".parse().unwrap(), "*.lab".parse().unwrap()],
            own: vec!["[::]:3128".parse().unwrap(), "127.0.0.1:9128".parse().unwrap()],
        }
    }

    /// Judges an address that `host` resolved to, on a machine whose one outer address is 203.0.113.9.
    fn judge(rules: &AddressRules, host: &str, address: &str, given: bool) -> Option<Why> {
        let to = Authority::parse(host, 443).unwrap();
        let address = SocketAddr::new(address.parse().unwrap(), to.port);
        rules.judge(&to, address, given, |a| a == IpAddr::from([203, 0, 113, 9])).err().map(|forbidden| forbidden.why)
    }

    #[test]
    fn what_opens_an_address_and_what_does_not() {
        let table: &[(&[&str], &str, &str, bool)] = &[
            // Global addresses are open to every name.
            (&[], "cdn.example.com", "1.1.1.1", true),
            (&[], "1.1.1.1", "1.1.1.1", true),
            // Private ones where host, address or network is named, for that name only.
            (&[], "cdn.example.com", "10.0.0.1", false),
            (&["cdn.example.com"], "cdn.example.com", "10.0.0.1", true),
            (&["cdn.example.com"], "other.example.com", "10.0.0.1", false),
            (&["cdn.example.com:8080"], "cdn.example.com", "10.0.0.1", false),
            (&["cdn.example.com:8080"], "cdn.example.com:8080", "10.0.0.1", true),
            (&["*.example.com"], "cdn.example.com", "fd00::1", true),
            (&["*.example.com"], "example.com", "fd00::1", false),
            (&["*"], "anything.test", "192.168.1.1", true),
            (&["10.0.0.1"], "cdn.example.com", "10.0.0.1", true),
            (&["10.0.0.1"], "cdn.example.com", "10.0.0.2", false),
            (&["10.0.0.1:80"], "cdn.example.com", "10.0.0.1", false),
            (&["10.0.0.0/8"], "cdn.example.com", "10.0.0.1", true),
            (&["10.0.0.0/8"], "cdn.example.com", "::ffff:10.0.0.1", true),
            (&["10.0.0.0/8"], "cdn.example.com", "64:ff9b::10.0.0.1", true),
            (&["10.0.0.0/8"], "10.0.0.1", "10.0.0.1", true),
            (&["100.64.0.0/10"], "a.test", "100.64.0.1", true),
            (&["198.18.0.0/15"], "a.test", "198.18.0.1", true),
            // A registry named exactly; its port is 443 unless it says another.
            (&[], "r.example.com", "10.0.0.1", true),
            (&[], "r.example.com:8443", "10.0.0.1", false),
            (&[], "10.9.9.9:5000", "10.9.9.9", true),
            (&[], "10.9.9.9", "10.9.9.9", false),
            (&[], "a.lab", "10.0.0.1", false),
            // Loopback, link-local and metadata only by the very address.
            (&[], "r.example.com", "127.0.0.1", false),
            (&["*", "cdn.example.com"], "cdn.example.com", "127.0.0.1", false),
            (&["127.0.0.0/8", "0.0.0.0/0", "::/0"], "127.0.0.1", "127.0.0.1", false),
            (&["127.0.0.1"], "127.0.0.1", "127.0.0.1", true),
            (&["127.0.0.1"], "localhost", "127.0.0.1", true),
            (&["127.0.0.1"], "127.0.0.1", "::ffff:127.0.0.1", true),
            (&["127.0.0.1"], "127.0.0.2", "127.0.0.2", false),
            (&["127.0.0.1"], "localhost", "::1", false),
            (&["127.0.0.1/32"], "127.0.0.1", "127.0.0.1", true),
            (&["127.0.0.1:8443"], "127.0.0.1", "127.0.0.1", false),
            (&["127.0.0.1:8443"], "127.0.0.1:8443", "127.0.0.1", true),
            (&["::1/128"], "localhost", "::1", true),
            (&["169.254.0.0/16", "*"], "169.254.169.254", "169.254.169.254", false),
            (&["169.254.169.254"], "169.254.169.254", "169.254.169.254", true),
            (&["*"], "m.test", "168.63.129.16", false),
            (&["fc00::/7", "*"], "m.test", "fd00:ec2::254", false),
            (&["fe80::/10", "*"], "m.test", "fe80::1", false),
            // Nothing opens what is no address.
            (&["0.0.0.0", "0.0.0.0/0", "::/0", "*"], "0.0.0.0", "0.0.0.0", false),
            (&["0.1.2.3/32"], "a.test", "0.1.2.3", false),
            (&["::", "::/128", "*"], "a.test", "::", false),
        ];
        for (allow, host, address, open) in table {
            let why = judge(&rules(allow, &[]), host, address, false);
            assert_eq!(why.is_none(), *open, "{allow:?} {host} {address}: {why:?}");
        }
    }

    #[test]
    fn a_given_address_opens_itself_and_no_more_than_that() {
        for (address, open) in
            [("10.0.0.1", true), ("127.0.0.1", true), ("169.254.169.254", true), ("0.0.0.0", false), ("::", false)]
        {
            assert_eq!(judge(&rules(&[], &[]), "cdn.example.com", address, true).is_none(), open, "{address}");
        }
    }

    #[test]
    fn deny_wins_over_everything() {
        let table: &[(&[&str], &str, &str, bool)] = &[
            (&["evil.example.com"], "evil.example.com", "1.1.1.1", true),
            (&["*.example.com"], "cdn.example.com", "10.0.0.1", true),
            (&["1.1.1.1"], "evil.example.com", "1.1.1.1", true),
            (&["1.1.1.0/24"], "evil.example.com", "1.1.1.1", true),
            (&["1.1.1.0/24"], "evil.example.com", "64:ff9b::1.1.1.1", true),
            (&["2002::/16"], "evil.example.com", "2002:101:101::1", true),
            (&["evil.example.com:22"], "evil.example.com", "1.1.1.1", false),
            (&["1.1.1.1:22"], "evil.example.com", "1.1.1.1", false),
            (&["1.1.2.0/24"], "evil.example.com", "1.1.1.1", false),
        ];
        for (deny, host, address, denied) in table {
            let rules = rules(&["*", "10.0.0.0/8", "1.1.1.1"], deny);
            for given in [false, true] {
                let why = judge(&rules, host, address, given);
                assert_eq!(why == Some(Why::Denied), *denied, "{deny:?} {host} {address} {given}");
            }
        }
    }

    #[test]
    fn our_own_listeners_are_never_dialled() {
        let rules = rules(&["127.0.0.1", "127.0.0.2", "::1", "203.0.113.9", "*"], &[]);
        let table = [
            ("127.0.0.1:3128", "127.0.0.1", true),
            ("127.0.0.2:3128", "127.0.0.2", true),
            ("self.test:3128", "::1", true),
            ("self.test:3128", "203.0.113.9", true),
            ("self.test:3128", "::ffff:203.0.113.9", true),
            ("other.test:3128", "1.1.1.1", false),
            ("127.0.0.1:9128", "127.0.0.1", true),
            ("127.0.0.1:9128", "::ffff:127.0.0.1", true),
            ("127.0.0.2:9128", "127.0.0.2", false),
            ("203.0.113.9:9128", "203.0.113.9", false),
            ("127.0.0.1", "127.0.0.1", false),
        ];
        for (host, address, own) in table {
            for given in [false, true] {
                let why = judge(&rules, host, address, given);
                assert_eq!(why == Some(Why::Own), own, "{host} {address}: {why:?}");
            }
        }
    }

    #[test]
    fn a_name_that_a_parent_resolves_is_judged_by_itself() {
        let table: &[(&[&str], &[&str], &str, bool)] = &[
            (&[], &[], "cdn.example.com", true),
            (&[], &["*.example.com"], "cdn.example.com", false),
            (&[], &[], "db.local", false),
            (&["db.local"], &[], "db.local", true),
            (&["db.local:8443"], &[], "db.local", false),
            (&["*.local"], &[], "db.local", true),
            (&["*.local"], &["db.local"], "db.local", false),
            (&["10.0.0.0/8"], &[], "db.local", false),
            (&[], &[], "intranet", false),
            (&["*"], &[], "intranet", true),
        ];
        for (allow, deny, host, open) in table {
            let to = Authority::parse(host, 443).unwrap();
            assert_eq!(rules(allow, deny).judge_name(&to).is_ok(), *open, "{allow:?} {deny:?} {host}");
        }
        let named = AddressRules { named: vec!["registry.internal".parse().unwrap()], ..AddressRules::default() };
        assert!(named.judge_name(&Authority::parse("registry.internal", 443).unwrap()).is_ok());
        let error = named.judge_name(&Authority::parse("other.internal", 443).unwrap()).unwrap_err().to_string();
        assert_eq!(
            error,
            "other.internal:443 may not be reached: it is a name for the inside of a network, and tunnel.allow does not \
             name it"
        );
    }

    #[test]
    fn a_parent_may_have_any_address_but_our_own() {
        let rules = rules(&[], &["10.0.0.0/8"]);
        let judge = |address: &str| {
            let to = Authority::parse("proxy.example", 3128).unwrap();
            rules.judge_parent(&to, address.parse().unwrap(), |_| false).map_err(|forbidden| forbidden.why)
        };
        for address in ["10.0.0.1:3128", "127.0.0.1:8080", "[fe80::1]:3128", "203.0.113.7:3128"] {
            assert_eq!(judge(address), Ok(()), "{address}");
        }
        assert_eq!(judge("127.0.0.1:3128"), Err(Why::Own));
        assert!(judge("0.0.0.0:80").is_err());
    }

    #[test]
    fn a_refusal_says_what_would_help() {
        let judged = |address: &str| {
            let to = Authority::parse("a.test", 443).unwrap();
            let address = SocketAddr::new(address.parse().unwrap(), 443);
            rules(&[], &[]).judge(&to, address, false, |_| false).unwrap_err().to_string()
        };
        assert_eq!(
            judged("10.0.0.1"),
            "a.test:443 may not be reached: 10.0.0.1 is a private address, and tunnel.allow names neither it nor the host"
        );
        assert_eq!(
            judged("127.0.0.1"),
            "a.test:443 may not be reached: 127.0.0.1 is a loopback address, and tunnel.allow does not name this very address"
        );
        assert_eq!(judged("0.0.0.0"), "a.test:443 may not be reached: 0.0.0.0 is no address of any host");
    }
}

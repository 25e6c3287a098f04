//! Which addresses may be dialled, on whose word: a pure judgement of one address for one host.
//!
//! The address judged is the address dialled, so a name that changes its mind in between gains nothing.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::Target;
use super::address::{Kind, Needs, forms};
use crate::oci::{Authority, Host, HostPattern};

/// Who opens and closes addresses beside their kind.
#[derive(Clone, Debug, Default)]
pub struct Rules {
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
    Kind(IpAddr, Kind),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("tunnel.deny names it"),
            Self::Own => f.write_str("that is this proxy itself"),
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

impl Rules {
    /// Judges dialling `address` for `to`. `given` says that the configuration's `address` names it for this
    /// host; `is_local` answers whether an address is one of this machine.
    pub(super) fn judge(
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
    pub(super) fn judge_host(&self, to: &Authority) -> Result<(), Forbidden> {
        let denied = self.deny.iter().any(|target| names_host(target, to));
        if denied { Err(Forbidden { to: to.clone(), address: None, why: Why::Denied }) } else { Ok(()) }
    }

    fn why(&self, to: &Authority, address: SocketAddr, given: bool, is_local: impl Fn(IpAddr) -> bool) -> Option<Why> {
        let reached = Reached::new(address);
        if self.deny.iter().any(|target| names_host(target, to) || reached.any_in(target)) {
            return Some(Why::Denied);
        }
        let kind = Kind::of(address.ip());
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

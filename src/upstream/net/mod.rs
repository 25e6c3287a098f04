//! This room leads from a host's name to bytes: names, address rules, TCP, TLS, and the way out of this machine.
//!
//! Flow: `egress` decides whether a host is reached directly or through a proxy of `upstream.proxy` (`parent`). Before either
//! connects, `sockets` grants one of the connections that this process may open. A direct connection is resolved (`resolver`,
//! or the system), every address is judged by the `rules`, and the judged addresses are dialled in a race (`dial`). The
//! result is an `EgressStream` (`stream`); `connector` wraps it in TLS (`tls`) for the HTTP client, and writes down what requests have to
//! know of a connection (`life`; `frames` reads how many streams an HTTP/2 peer serves). `downloads` limits the downloads of
//! one host, and `bandwidth` shares the configured rate between clients.
//! Scope: connections, not requests. HTTP is the business of `upstream::http`, except for the CONNECT of a parent.
//! Never: an address dialled that the rules did not judge; a name resolved twice for one connection; a certificate that is
//! not verified; another way tried after a parent has refused.
//! Reading: RFC 8305 (Happy Eyeballs), RFC 6890 (special-purpose addresses), RFC 6052 and RFC 8215 (NAT64).

pub(crate) mod address;
pub(crate) mod bandwidth;
pub(crate) mod connector;
pub(crate) mod dial;
pub(crate) mod downloads;
pub(crate) mod egress;
pub(crate) mod ends;
pub(crate) mod family;
pub(crate) mod frames;
pub(crate) mod life;
pub(crate) mod names;
pub(crate) mod parent;
pub(crate) mod resolver;
pub(crate) mod rules;
pub(crate) mod sockets;
pub(crate) mod stream;
pub(crate) mod target;
pub(crate) mod tls;

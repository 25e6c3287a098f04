//! Takes connections from clients and finds out what each wants: the proxy itself, a tunnel, or a registry.
//!
//! Flow: the first bytes tell TLS, HTTP/1.1 and HTTP/2 apart (`first_bytes`); `http` serves requests until the
//! connection ends or a drain closes it; `connection` sends each to the proxy's own pages (`pages`), to `forward`
//! (plain HTTP), or to `connect`. A CONNECT is judged by name and becomes a tunnel (`tunnel`, which reads the
//! `client_hello`) or an intercepted connection (`intercept`), whose requests go to `v2`. Connections beyond the
//! limits are served by `overload`. A `transparent` client names its host by TLS alone, and is judged as if by CONNECT. In
//! front of all this, a balancer's header of the PROXY protocol tells whom it speaks for (`connection`). At its end a
//! connection reads what its client still sends (`lingering`).
//! Scope: connections, TLS towards clients, and the pages about the proxy itself. A new door is a file here.
//! Never: resolve a name to judge it; answer a request for another host than the one that CONNECT named.
//! Reading: RFC 9110 section 9.3.6 (CONNECT), RFC 9113 section 3.4 (the preface), RFC 8446 section 6 (alerts).

pub(crate) mod client_hello;
pub(crate) mod config;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod first_bytes;
pub(crate) mod handshake;
pub(crate) mod http;
pub(crate) mod intercept;
pub(crate) mod lingering;
pub(crate) mod overload;
pub(crate) mod pages;
pub(crate) mod transparent;
pub(crate) mod tunnel;
pub(crate) mod untrusting;

//! Runs the local certificate authority: a root that nodes trust, a constrained issuing certificate, and leaves.
//!
//! Flow: [`CertificateAuthority::open`] reads the folder, or makes it on the first start. Nodes trust the root
//! (`ca.crt`). The root signs one issuing certificate with critical name constraints, the [`Permitted`] of the
//! configuration; that one signs a leaf for each intercepted host, handed out as a TLS server configuration.
//! The mirror may have a certificate of the operator's instead ([`operator_config`]).
//! A root that other tools made is used as it is, and what strict clients refuse in it is told (`strict`).
//! [`RootKey`] moves the root's key away (`ca seal`): a stolen server can then impersonate registries and nothing else.
//! Scope: keys, certificates and the four files. The proxy decides which hosts are intercepted.
//! Never: signs outside the constraints; replaces a file that it does not understand; logs a key; keeps the root's key
//! in memory once the folder is open.
//! Reading: RFC 5280 sections 4.2.1.9 (basic constraints), 4.2.1.10 (name constraints) and 6.1; RFC 9525 for
//! server names; `ca/README.md` for the files.

mod authority;
mod certificate;
mod chain;
mod config;
mod constraints;
mod error;
mod folder;
mod leaves;
mod mint;
mod operator;
mod overview;
mod passphrase;
mod permitted;
mod seal;
mod strict;

pub use authority::CertificateAuthority;
pub use config::Config;
pub use error::Error;
pub use operator::operator_config;
pub use overview::{Issuing, Overview, Validity};
pub use permitted::Permitted;
pub use seal::RootKey;

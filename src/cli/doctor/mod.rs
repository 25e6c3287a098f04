//! Implements `pullthrough doctor`: tests a pull from this machine step by step and says how to fix what fails.
//!
//! Flow: `command` finds the proxy to test; `steps` are taken in order up to the first that fails, since the later ones
//! would fail for the same reason, and `report` prints each; `bypass` reads NO_PROXY, `proxy` connects as a container daemon
//! does, `verifier` notes whose certificate it was shown, and `image` requests an image as a daemon does: manifest,
//! configuration, layers.
//! For a machine with mirrors, `found` reads what its clients are told (`files`), and `mirror` asks each mirror as that client does:
//! a client passes over a mirror that fails, and says nothing. `login` has what this machine keeps for a mirror.
//! Scope: the client's view. The proxy's own health is in its `/readyz`, which is one of the steps.
//! Never: send a credential of this machine anywhere but to the proxy or mirror that it is for.
//! Reading: RFC 9110 section 9.3.6 (CONNECT); the OCI distribution specification, "Pull"; docs/clients/README.md.

mod bypass;
mod command;
mod files;
mod found;
mod image;
mod login;
mod mirror;
mod proxy;
mod pull;
mod report;
mod steps;
mod talk;
mod trust;
mod verdict;
mod verifier;

pub(super) use command::{DoctorFlags, run};

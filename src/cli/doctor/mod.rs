//! `pullthrough doctor`: this machine's proxy to the proxy and through it, step by step, each failure with its cure.
//!
//! Flow: `command` takes the steps in order and stops at the first that fails, since the later ones would fail for
//! the same reason; `proxy` makes the connections as a container daemon does; `image` asks as it does.
//! Scope: what a client sees. The proxy's own health is in its `/readyz`, which is one of the steps.
//! Never: send a credential of this machine anywhere but to the proxy that it is for.
//! Reading: RFC 9110 section 9.3.6 (CONNECT); the OCI distribution specification, "Pull"; docs/clients/README.md.

mod command;
mod image;
mod proxy;

pub(super) use command::{DoctorFlags, run};

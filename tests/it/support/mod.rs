//! A small internet for tests: registries, CDNs and token services that do what a script says, and raw clients.
//!
//! Flow: a [`Registry`] runs on a thread and a runtime of its own, on a loopback port, with a certificate of
//! the [`lab`]'s CA; content is put in with `push_*`; [`Registry::script`] changes what it does to requests
//! that match a [`pattern`](script); `requests`, `count` and `connections` tell what it saw.
//! Never: a sleep to wait for something. [`eventually`] waits for a condition, a [`Gate`] holds a body.

mod answer;
pub(crate) mod client;
mod configuration;
mod content;
mod dns;
mod eventually;
pub(crate) mod lab;
mod log;
mod parent;
mod ports;
mod program;
mod proxy;
mod raw;
mod registry;
mod relay;
mod script;
mod server;
mod stream;
mod token;

pub(crate) use configuration::Configuration;
pub(crate) use content::{INDEX, Image, MANIFEST};
pub(crate) use dns::{Answering, Dns};
pub(crate) use eventually::{eventually, throughout, until, wait_until};
pub(crate) use log::Log;
pub(crate) use parent::{Manner, Parent};
pub(crate) use ports::Nowhere;
pub(crate) use program::{Served, program};
pub(crate) use proxy::{Plan, Proxy};
pub(crate) use raw::{Play, Raw};
pub(crate) use registry::{Registry, Setup};
pub(crate) use relay::Relay;
pub(crate) use script::{Act, Dice, Gate, Length, Line, Part};
pub(crate) use server::Seen;
pub(crate) use token::{Tokens, basic_value};

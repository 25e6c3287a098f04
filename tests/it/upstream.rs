//! The upstream room against scripted registries: redirects, TLS, connections, timeouts, address rules, parents, DNS.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use pullthrough::host::Period;
use pullthrough::oci::Authority;
use pullthrough::upstream::{
    AddressRules, Config, Downloads, Endpoint, EndpointConfig, Error, Family, FinalHop, HostConfig, RetryAdvice, Side,
    Target, Upstream, Why,
};
use pullthrough::wire::{Body, BodyError, collect};

use crate::support::lab::{self, Certificate};
use crate::support::{Act, Gate, Manner, Parent, Plan, Play, Proxy, Raw, Registry, Relay, Setup, eventually};

mod certificates;
mod connections;
mod floods;
mod forgotten;
mod parents;
mod reach;
mod redirects;
mod region;
mod resolvers;
mod streams;

/// An endpoint that dials the registry where it listens, and trusts the lab.
fn endpoint_config(registry: &Registry) -> EndpointConfig {
    EndpointConfig {
        url: registry.url(),
        address: Some(registry.address()),
        ca_file: Some(registry.ca_file()),
        client_cert_file: None,
        client_key_file: None,
        auth: None,
        authoritative: false,
    }
}

fn endpoint(registry: &Registry) -> Endpoint {
    Endpoint::parse(&endpoint_config(registry)).unwrap()
}

/// A configuration that knows where these servers are by `upstream.hosts`.
fn hosts(servers: &[&Registry]) -> Config {
    let reach = |server: &Registry| HostConfig {
        address: Some(server.address()),
        ca_file: Some(server.ca_file()),
        ..HostConfig::default()
    };
    let key = |server: &Registry| format!("{}:{}", server.name(), server.address().port());
    Config { hosts: servers.iter().map(|server| (key(server), reach(server))).collect(), ..Config::default() }
}

fn upstream(config: &Config, registries: &[&Registry]) -> Upstream {
    let endpoints: Vec<EndpointConfig> = registries.iter().map(|registry| endpoint_config(registry)).collect();
    Upstream::new(config, &endpoints, AddressRules::default()).unwrap()
}

fn get(path: &str) -> Request<()> {
    Request::get(path).body(()).unwrap()
}

fn exchange(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

async fn bytes(answer: Response<Body>) -> Result<bytes::Bytes, BodyError> {
    collect(answer.into_body(), 64 << 20).await
}

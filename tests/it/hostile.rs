//! A hostile upstream: every kind of answer to every kind of question, compared with tables of what is right.
//!
//! Flow: each cell, a kind of answer to a question, has a registry of its own ([`site`]) with contents of its own
//! ([`things`]), all behind one proxy and one server that writes raw bytes ([`upstream`], [`http2`]). First the registry
//! is honest and its owner pulls something private ([`family`]); then it answers whatever comes by its kind ([`kinds`]),
//! to the cell's question ([`question`]) and to the proxy's own; then it lets nobody read, and a stranger tries to be
//! served from the cache; at last it is honest again. What came is compared with `hostile/FAMILY.txt` ([`table`]).
//! Whatever the table says, an answer that names its content has it, nothing is stored that does not have the digest of
//! its name, the proxy serves others meanwhile, and the question is answered at last.
//! Reading: RFC 9110, 9112, 9113; distribution-spec.

mod elsewhere;
mod family;
mod frames;
mod honest;
mod http2;
mod kinds;
mod noted;
mod outcome;
mod question;
mod site;
mod steps;
mod table;
mod things;
mod upstream;

use family::{Family, run};
use kinds::Kind;

use crate::support::{Answering, Dns, Plan};

/// A family whose answers come at once, if at all.
fn family(name: &'static str, kinds: Vec<Kind>) -> Family {
    Family { name, kinds, h2: false, deadline: "10s", plan: Plan::new(), at_once: 32 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_status_to_every_question() {
    run(family("status", kinds::status())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_framing_to_every_question() {
    // Some of its bodies are read until they are as long as a manifest may be.
    run(Family { at_once: 16, ..family("framing", Kind::all(kinds::FRAMING)) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_range_to_every_question() {
    // Who asks in vain for the rest of a body is asked to wait between, so all of them at once.
    run(Family { at_once: 500, ..family("range", Kind::all(kinds::RANGES)) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_to_every_question() {
    // Some of its manifests are long.
    run(Family { at_once: 8, ..family("type", Kind::all(kinds::TYPES)) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_redirect_to_every_question() {
    let dns = Dns::start(Answering::Truly).await.knows("inside.example", &["127.0.0.1"], 60);
    let dns = dns.knows("localhost", &["127.0.0.1"], 60);
    let inside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    inside.set_nonblocking(true).unwrap();
    let kinds = kinds::redirects(inside.local_addr().unwrap());
    let plan = Plan::new().upstream(&format!("resolvers: ['{}']", dns.address()));
    run(Family { plan, ..family("redirect", kinds) }).await;
    assert!(inside.accept().is_err(), "somebody was led inside");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_timing_to_every_question() {
    let plan = Plan::new().impatient().upstream("first_byte_timeout: 6s");
    run(Family { deadline: "5s", plan, at_once: 64, ..family("timing", Kind::all(kinds::TIMING)) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_abuse_of_http2_to_every_question() {
    let plan = Plan::new().impatient().upstream("first_byte_timeout: 6s");
    let kinds = Kind::all_frames(kinds::HTTP2);
    run(Family { h2: true, deadline: "5s", plan, at_once: 48, ..family("http2", kinds) }).await;
}

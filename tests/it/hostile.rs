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

use crate::support::Plan;

fn plan() -> Plan {
    Plan::new()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_status_to_every_question() {
    let kinds = kinds::status();
    run(Family { name: "status", kinds, h2: false, deadline: "10s", at_once: 32 }, plan()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_framing_to_every_question() {
    let kinds = Kind::all(kinds::FRAMING);
    run(Family { name: "framing", kinds, h2: false, deadline: "10s", at_once: 32 }, plan()).await;
}

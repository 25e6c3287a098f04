//! This room exchanges one request for one answer, over pooled connections and within the timeouts.
//!
//! Flow: `pool` keeps the connections of each way to a host. `sending` has a request sent over one of them, over a new one
//! where an old one is silent for longer than its host takes (`patience`), and waits for the head of the answer. The answer
//! must fit the question (`fit`) and must not log in its connection (`bound`); its body must keep its pace (`idle`). `plain`
//! withholds credentials from plain HTTP. `redirect` follows redirects (`location`) over as many exchanges as it takes.
//! `evidence` says what an outcome tells about a host; `health` keeps that for endpoints. `answers` reads an answer whole,
//! within a budget of memory.
//! Scope: HTTP towards upstreams. Tokens belong to `upstream::auth`, outages to `upstream::outage`.
//! Never: credentials to a redirect's host or over plain HTTP; a request sent twice that is not repeatable; a shared
//! connection that a client's credentials have logged in; a connection used again after an exchange that did not end as framed.
//! Reading: RFC 9110 (8.6, 10.2.2, 15), RFC 9112 (3.2.2, 6), RFC 9113 (8.1), RFC 3986 (5.2).

pub(crate) mod answers;
pub(crate) mod bound;
pub(crate) mod evidence;
pub(crate) mod fit;
pub(crate) mod health;
pub(crate) mod idle;
pub(crate) mod location;
pub(crate) mod patience;
pub(crate) mod plain;
pub(crate) mod pool;
pub(crate) mod redirect;
pub(crate) mod sending;

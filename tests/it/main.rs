//! What the program promises, tested from outside: one binary, one module a room or a promise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
mod upstream;

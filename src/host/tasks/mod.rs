//! Runs work in tasks: tracked until it ends, shared by those that ask the same, repeated where it is slow.
//!
//! Flow: [`group::TaskGroup`] starts the background work of one part of the program, and its stop waits for all of it;
//! [`flight::Flights`] has equal requests share one task; [`hedge::asked_anew`] repeats a slow request beside the first. Each
//! task works on for the request that started it, whose id [`request_id`] carries along.
//! Scope: when work runs and for whom. What it does is the rooms' above.
//! Never: hold a lock across an await; start a task that is waited for by nobody and ends by nothing.

pub(crate) mod flight;
pub(crate) mod group;
pub(crate) mod hedge;
pub(crate) mod request_id;

//! ESSAY

pub(crate) mod challenge;
pub(crate) mod guesses;
pub(crate) mod identity;
pub(crate) mod login;
pub(crate) mod own_word;
pub(crate) mod ping;
pub(crate) mod token_relay;
pub(crate) mod token_service;

//! Gets bearer tokens: a registry's challenge and a credential, or none, become a token of its token service.
//!
//! Flow: a [`TokenAsk`] is judged (`realm`: may this credential go there?), looked up, and asked once however
//! many need it ([`Tokens::bearer`]): by GET with Basic, or by POST (`form`), whose answer (`answer`) says how
//! long the token lives. It is kept for four fifths of that.
//! Scope: the way from a challenge to an `Authorization` header. When a challenge is asked for, and whether the
//! outage of a registry forbids it, is the caller's.
//! Never: a held credential to a realm that is neither the registry's host nor listed; a key that holds a
//! credential instead of its MAC; a token, or an error with one, in a log.
//! Reading: distribution-spec "Token Authentication" and "OAuth2 Token Authentication" (distribution's
//! docs/spec/auth), RFC 6749 sections 4.3 and 6.

pub(crate) mod answer;
pub(crate) mod error;
pub(crate) mod form;
#[cfg(any(test, fuzzing))]
#[path = "../../../../fuzz/targets/token_answer.rs"]
pub(crate) mod fuzzing;
pub(crate) mod realm;
pub(crate) mod tokens;

pub(crate) use answer::TokenDocument;
pub use error::TokenError;
pub use realm::Realm;
pub use tokens::{NoTokenKey, TokenAsk, Tokens};

//! Credentials that the proxy itself holds for a registry, and where each of them comes from.
//!
//! Flow: an `auth:` entry ([`CredentialConfig`]) becomes an entry of a [`Keyring`]; for a repository the keyring
//! picks the narrowest entry that is not throttled and asks its source: a fixed password, a file that is read
//! again when it changes, a docker `config.json` (`docker`), or a credential helper program (`helper`) whose
//! answer is kept for a while. A helper runs with a home of its own where there is none (`helper_home`), and what it
//! complains of is logged (`helper_words`).
//! Scope: which credential, and its text. Where a credential may be sent is the token client's and the caller's
//! judgement.
//! Never: a secret in a log, an error or a `Debug`; a helper that is waited for without end; blocking work on
//! the network task.
//! Reading: docker-credential-helpers, README ("Development"); containers-auth.json(5).

mod config;
mod credential;
mod docker;
mod error;
#[cfg(any(test, fuzzing))]
#[path = "../../../fuzz/targets/docker_config.rs"]
pub(crate) mod fuzzing;
mod helper;
mod helper_home;
mod helper_words;
mod kept;
mod keyring;
mod login;
mod source;

pub use config::{CredentialConfig, Held};
pub use credential::Credential;
pub(crate) use docker::{DockerConfig, Lead};
pub use error::CredentialError;
pub use keyring::{Keyring, Picked};
pub(crate) use login::Login;

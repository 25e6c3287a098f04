//! The errors of reading a credential.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A source of credentials that failed. No variant holds a secret, nor what a program printed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// A password file without a password.
    #[error("{} holds no password: expected one line of text", path.display())]
    NoPassword {
        /// Which.
        path: PathBuf,
    },
    /// An environment variable is not there, empty, or no text.
    #[error("the environment variable {name} (password_env) is not set or is not text")]
    Variable {
        /// Which.
        name: String,
    },
    /// A docker configuration that is none.
    #[error("{} is not a docker configuration: {problem}", path.display())]
    Docker {
        /// Which file.
        path: PathBuf,
        /// What is wrong, without a word of its content.
        problem: String,
    },
    /// A helper's name that is none.
    #[error("not a credential helper: expected a name such as ecr-login, or the path of a program")]
    HelperName,
    /// A helper that cannot be started.
    #[error("the credential helper {program} cannot be started")]
    HelperStart {
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// A helper that said no.
    #[error("the credential helper {program} failed for {server} ({status})")]
    HelperFailed {
        /// The program.
        program: String,
        /// Whose credentials it was asked for.
        server: String,
        /// How it ended.
        status: String,
    },
    /// A helper that did not answer in time.
    #[error("the credential helper {program} did not answer within {seconds} s")]
    HelperSlow {
        /// The program.
        program: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A helper whose answer is not the protocol's.
    #[error("the credential helper {program} did not answer with Username and Secret")]
    HelperAnswer {
        /// The program.
        program: String,
    },
    /// An entry that says nothing, or two things.
    #[error("an auth entry must say one of username with a password, docker_config and helper")]
    Entry,
    /// We are shutting down.
    #[error("credentials were not read: the proxy is stopping")]
    Stopping,
}

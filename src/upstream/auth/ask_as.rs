//! The name in which a registry is asked: the caller's, nobody's, or the proxy's own.

use std::sync::Arc;

use http::header::HeaderValue;

use crate::upstream::Keyring;

/// In whose name.
#[derive(Clone, Debug)]
pub(crate) enum AskAs {
    /// The caller's: its header as it came, none where there was none.
    Caller(Option<HeaderValue>),
    /// Nobody's, with the token that anybody is given.
    Nobody,
    /// The proxy's own, from this keyring. `listed`: only by an entry that names the repository.
    Held { keyring: Arc<Keyring>, listed: bool },
}

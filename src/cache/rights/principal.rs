//! Says whose credentials a request carries.

use crate::store::Learned;

/// Whose credentials a request carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Nobody's.
    Anonymous,
    /// Nobody's, by a token that the registry gives to anybody: it reads what nobody may read.
    Anybody,
    /// Somebody's: a MAC of the credentials.
    Known([u8; 32]),
    /// The proxy's own, for callers without any.
    Proxy,
}

impl Principal {
    /// Whether what it is answered is for everybody.
    pub(crate) fn is_nobody(&self) -> bool {
        matches!(self, Self::Anonymous | Self::Anybody)
    }

    /// The same for all who are nobody.
    pub(crate) fn shared(&self) -> Self {
        if self.is_nobody() { Self::Anonymous } else { self.clone() }
    }

    /// The source of an answer to it, for what is remembered.
    pub(crate) fn learns(&self) -> Learned {
        if self.is_nobody() { Learned::Anonymously } else { Learned::WithCredentials }
    }
}

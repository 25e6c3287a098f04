//! Refuses a configuration key that is known but not built yet.

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny};

/// A value that a later version will accept. Any value is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved(());

impl<'de> Deserialize<'de> for Reserved {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        Err(D::Error::custom("not available yet; remove this key"))
    }
}

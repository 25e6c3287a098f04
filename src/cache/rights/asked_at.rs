//! Says when something was asked of a registry.

use std::time::{Instant, SystemTime};

/// When something was asked upstream. An answer counts as of then, not as of when it is noted: a no that came
/// in between outweighs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AskedAt {
    pub(crate) instant: Instant,
    pub(crate) time: SystemTime,
}

impl AskedAt {
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), time: SystemTime::now() }
    }
}

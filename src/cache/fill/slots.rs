//! The slots of the fills under way: one for each content and registry, taken by one fill at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::fill::Fill;
use crate::oci::Digest;

/// The content of a fill, and the registry that it comes from.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(crate) Digest, pub(crate) Arc<str>);

/// A fill; or none yet, or none any more, while its file is opened or put away.
pub(crate) struct Slot {
    pub(crate) fill: Option<Arc<Fill>>,
    /// Ends when that changes.
    pub(crate) gone: watch::Receiver<()>,
}

impl Slot {
    /// Waits for the change.
    pub(crate) fn change(&self) -> SlotChange {
        SlotChange(self.gone.clone())
    }
}

/// All slots. Cheap to clone: each clone is the same table.
#[derive(Clone, Default)]
pub(crate) struct Slots(Arc<Mutex<HashMap<Key, Slot>>>);

impl Slots {
    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The beginning or the end of a fill that is to be waited for.
pub struct SlotChange(watch::Receiver<()>);

impl SlotChange {
    /// Waits until it is over. Cancel-safe.
    pub async fn gone(mut self) {
        while self.0.changed().await.is_ok() {} // its sender is dropped then, and never sends
    }
}

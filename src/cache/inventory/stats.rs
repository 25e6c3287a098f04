//! Counts what the cache takes, as a whole and by registry (`cache stats`).

use super::{Inventory, InventoryError, RegistryShare, Stats};

impl Inventory {
    pub(crate) fn stats(&self) -> Result<Stats, InventoryError> {
        let survey = self.full_survey()?;
        let shares = survey.registries()?;
        let (between_registries, unnamed, pinned_bytes) = survey.sums()?;
        let usage = self.store.usage();
        let share = |share: crate::store::Share| RegistryShare {
            registry: share.registry,
            images: share.images,
            entries: share.entries,
            bytes: share.bytes,
            only_here: share.only_here,
        };
        Ok(Stats {
            dir: self.store.root().display().to_string(),
            bytes: usage.bytes,
            entries: usage.entries,
            limit: usage.limit,
            disk_free: usage.disk_free,
            min_free: usage.min_free,
            evictions: self.is_served.then_some(usage.evictions),
            fills: self.store.fills()?,
            pins: self.store.pins()?.len() as u64,
            pinned_bytes,
            registries: shares.into_iter().map(share).collect(),
            between_registries,
            unnamed,
        })
    }
}

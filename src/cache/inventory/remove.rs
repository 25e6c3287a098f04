//! Removes a name and the content that only it needs (`cache rm`).

use std::ops::ControlFlow;

use super::{Event, Inventory, InventoryError, Order, Removal};
use crate::oci::ImageName;
use crate::store::{Purge, Scope, Spared};

impl Inventory {
    pub(crate) fn remove(
        &self,
        name: &ImageName,
        order: &Order,
        tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), InventoryError> {
        let _alone = self.alone();
        let mut survey = self.full_survey()?;
        let scope = self.scope(&survey, name)?;
        let pins = self.store.pins()?;
        let pinned: Vec<_> = pins.iter().map(|pin| pin.digest).collect();
        let named = match &scope {
            Scope::Tag(registry, repository, tag) => survey.tagged(registry, repository, tag)?,
            Scope::Here(_, _, digest) | Scope::Digest(digest) => vec![*digest],
            _ => Vec::new(),
        };
        let plan = survey.plan(&scope, Spared { pinned: &pinned, force: order.force })?;
        if let Purge { tags: 0, links: 0, blobs: 0, .. } = plan {
            return Err(match plan {
                Purge { spared: 0, kept: 0, .. } => self.unknown(&survey, name),
                _ => InventoryError::Pinned { name: name.to_string() },
            });
        }
        if !order.dry_run {
            if order.force {
                let gone = |pin: &crate::store::Pinned| named.contains(&pin.digest) || covers(name, &pin.name);
                self.keep_pins(pins.into_iter().partition(|pin| !gone(pin)))?;
            }
            self.store.purge(&survey)?;
            (self.forget)();
        }
        _ = tell(Event::Removed(Removal {
            name: name.to_string(),
            dry_run: order.dry_run,
            tags: plan.tags,
            links: plan.links,
            blobs: plan.blobs,
            freed: plan.bytes,
            kept: plan.kept,
            spared: plan.spared,
        }));
        Ok(())
    }
}

/// Whether a registry or a repository has the image of that name.
fn covers(name: &ImageName, image: &str) -> bool {
    match (name, image.parse()) {
        (ImageName::Registry(registry), Ok(ImageName::Image(of, ..))) => *registry == of,
        (ImageName::Repository(registry, repository), Ok(ImageName::Image(of, within, _))) => {
            (registry, repository) == (&of, &within)
        }
        (name, Ok(image)) => *name == image,
        (_, Err(_)) => false,
    }
}

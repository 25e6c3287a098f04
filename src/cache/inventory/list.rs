//! Lists the images one after the other (`cache ls`).

use std::ops::ControlFlow;

use super::{ContentKind, Event, ImageRow, Inventory, InventoryError};
use crate::oci::{Digest, ImageName};
use crate::store::{self, CachedImage, Scope, Survey};

/// At most so many images are listed that need one blob.
const NEEDING: u32 = 10_000;

impl Inventory {
    /// Images of which something is here. A digest that is no image lists the images that need it.
    pub(crate) fn list(
        &self,
        name: Option<&ImageName>,
        tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), InventoryError> {
        let survey = self.full_survey()?;
        survey.find_shared()?;
        let scope = name.map_or(Ok(Scope::Everything), |name| self.scope(&survey, name))?;
        let mut any = false;
        let mut each = |held: CachedImage| {
            Ok(match row(&survey, held)? {
                Some(row) => {
                    any = true;
                    tell(Event::Image(row))
                }
                None => ControlFlow::Continue(()),
            })
        };
        match scope {
            Scope::Digest(digest) => list_needing(&survey, &digest, &mut each)?,
            scope => survey.images(&scope, each)?,
        }
        match name {
            Some(name) if !any => Err(self.unknown(&survey, name)),
            _ => Ok(()),
        }
    }
}

fn list_needing(
    survey: &Survey,
    digest: &Digest,
    each: &mut impl FnMut(CachedImage) -> Result<ControlFlow<()>, store::Error>,
) -> Result<(), store::Error> {
    for held in survey.needed_by(digest, NEEDING)? {
        if each(held)?.is_break() {
            break;
        }
    }
    Ok(())
}

fn row(survey: &Survey, held: CachedImage) -> Result<Option<ImageRow>, store::Error> {
    let extent = survey.extent(&held.digest)?;
    if extent.bytes == 0 {
        return Ok(None); // a tag outlives its content
    }
    let stored = survey.stored(&held.digest)?;
    Ok(Some(ImageRow {
        registry: held.registry,
        repository: held.repository.to_string(),
        tag: held.tag.map(|tag| tag.to_string()),
        digest: held.digest.to_string(),
        kind: if held.is_index { ContentKind::Index } else { ContentKind::Manifest },
        size: extent.bytes,
        shared: extent.shared,
        missing: extent.missing,
        incomplete: extent.is_incomplete,
        last_used: stored.map(|stored| stored.last_used),
        pinned: stored.is_some_and(|stored| stored.pinned),
    }))
}

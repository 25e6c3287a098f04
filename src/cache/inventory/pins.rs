//! Pins an image with all that it lists, cached now or later, and unpins it (`cache pin`, `cache unpin`).

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::SystemTime;

use tracing::warn;

use super::holder::words;
use super::{Event, Inventory, InventoryError, PinChange};
use crate::host::TaskGroup;
use crate::oci::{Digest, ImageName, Listing, Reference};
use crate::store::{Pinned, Scope, Store, Survey};

impl Inventory {
    pub(crate) fn pin(
        &self,
        name: &ImageName,
        tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), InventoryError> {
        let _alone = self.alone();
        let mut survey = self.survey()?;
        let (name, digests) = self.one_image(&survey, name)?;
        let mut pins = self.store.pins()?;
        for digest in &digests {
            if !pins.iter().any(|pin| pin.name == name && pin.digest == *digest) {
                pins.push(Pinned { name: name.clone(), digest: *digest, since: SystemTime::now() });
            }
        }
        // Written first: what is marked and not written would stay marked for ever.
        self.store.write_pins(&pins)?;
        let needed = self.closure(&mut survey, &digests)?;
        self.store.mark(needed.iter(), true);
        self.tell_pins(&name, &digests, true, tell)
    }

    pub(crate) fn unpin(
        &self,
        name: &ImageName,
        tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), InventoryError> {
        let _alone = self.alone();
        let asked = name.to_string();
        let whole = match name {
            ImageName::Digest(prefix) => prefix.range(),
            _ => None,
        };
        let is_meant =
            |pin: &Pinned| pin.name == asked || whole.is_some_and(|(first, last)| (first..=last).contains(&pin.digest));
        let (stay, go): (Vec<_>, Vec<_>) = self.store.pins()?.into_iter().partition(|pin| !is_meant(pin));
        if go.is_empty() {
            let names: Vec<&str> = stay.iter().map(|pin| &*pin.name).take(10).collect();
            let hint = match names.as_slice() {
                [] => "nothing is".to_owned(),
                names => format!("pinned are {}", names.join(", ")),
            };
            return Err(InventoryError::NotPinned { name: asked, hint });
        }
        let digests: Vec<Digest> = go.iter().map(|pin| pin.digest).collect();
        self.keep_pins((stay, go))?;
        self.tell_pins(&asked, &digests, false, tell)
    }

    /// Leaves only the first of these pins, the second being gone.
    pub(crate) fn keep_pins(&self, (stay, go): (Vec<Pinned>, Vec<Pinned>)) -> Result<(), InventoryError> {
        if go.is_empty() {
            return Ok(());
        }
        let mut survey = self.survey()?;
        let digests = |pins: &[Pinned]| pins.iter().map(|pin| pin.digest).collect::<Vec<_>>();
        let needed = self.closure(&mut survey, &digests(&stay))?;
        let freed = self.closure(&mut survey, &digests(&go))?;
        self.store.write_pins(&stay)?;
        self.store.mark(freed.difference(&needed), false);
        Ok(())
    }

    /// Marks again what is pinned, as after a start: for what comes later, and for a catalog that was lost.
    ///
    /// # Errors
    /// [`InventoryError::Store`].
    pub fn restore_pins(&self) -> Result<(), InventoryError> {
        let _alone = self.alone();
        let digests: Vec<Digest> = self.store.pins()?.iter().map(|pin| pin.digest).collect();
        if digests.is_empty() {
            return Ok(());
        }
        self.store.mark(self.closure(&mut self.survey()?, &digests)?.iter(), true);
        Ok(())
    }

    /// The digests and all that they list, as far as their manifests are here.
    fn closure(&self, survey: &mut Survey, of: &[Digest]) -> Result<HashSet<Digest>, InventoryError> {
        survey.read_some(of, |digest| self.listing(digest))?;
        let mut all = HashSet::new();
        for digest in of {
            all.extend(survey.needs(digest)?);
        }
        Ok(all)
    }

    /// The image's name and what it means now: several digests where clients accept different types.
    fn one_image(&self, survey: &Survey, name: &ImageName) -> Result<(String, Vec<Digest>), InventoryError> {
        // By its whole digest an image may be pinned before it comes.
        if let ImageName::Image(_, _, Reference::Digest(digest)) = name {
            return Ok((name.to_string(), vec![*digest]));
        }
        match self.scope(survey, name)? {
            Scope::Tag(registry, repository, tag) => {
                let digests = survey.tagged(&registry, &repository, &tag)?;
                if digests.is_empty() {
                    return Err(self.unknown(survey, name));
                }
                Ok((name.to_string(), digests))
            }
            Scope::Digest(digest) => Ok((digest.to_string(), vec![digest])),
            _ => Err(InventoryError::Many { name: name.to_string(), example: self.example(name)? }),
        }
    }

    fn example(&self, name: &ImageName) -> Result<String, InventoryError> {
        let survey = self.full_survey()?;
        let mut example = None;
        survey.images(&self.scope(&survey, name)?, |held| {
            example = Some(words(&held));
            Ok(ControlFlow::Break(()))
        })?;
        Ok(example.unwrap_or_else(|| "quay.io/org/app:1".to_owned()))
    }

    fn tell_pins(
        &self,
        name: &str,
        digests: &[Digest],
        pinned: bool,
        tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), InventoryError> {
        let mut survey = self.survey()?;
        survey.read_some(digests, |digest| self.listing(digest))?;
        for digest in digests {
            let extent = survey.extent(digest)?;
            let change = PinChange {
                name: name.to_owned(),
                digest: digest.to_string(),
                pinned,
                size: extent.bytes,
                missing: extent.missing,
            };
            if tell(Event::Pin(change)).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// A manifest came: what a pinned one lists is pinned with it.
pub(crate) async fn arrived(store: &Store, tasks: &TaskGroup, digest: &Digest, bytes: &[u8]) {
    match store.catalog().is_pinned(digest).await {
        Ok(true) => {
            let (store, listing) = (store.clone(), Listing::of(bytes));
            let marked = tasks.spawn_blocking(move || {
                store.mark(listing.manifests.iter().chain(&listing.blobs), true);
            });
            let _ = marked.await; // a panic was reported when it happened
        }
        Ok(false) => {}
        Err(error) => warn!(%error, %digest, "cannot determine whether this manifest is pinned"),
    }
}

//! Carries out commands on a store, and has its server forget what was removed from it.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Command, Event, InventoryError, Order};
use crate::oci::{BadImageName, Digest, ImageName, Listing, MANIFEST_LIMIT, Reference};
use crate::store::{CachedImage, Scope, Store, Survey};

/// At most so many tags are named to an operator that asked for one that is not there.
const HINTED: u32 = 10;

/// What the cache holds. Clones are one. Its calls block.
#[derive(Clone)]
pub struct Inventory {
    pub(crate) store: Store,
    pub(crate) forget: Arc<dyn Fn() + Send + Sync>,
    pub(crate) is_served: bool,
    outages: Arc<dyn Fn(&str) -> Vec<String> + Send + Sync>,
    changing: Arc<Mutex<()>>,
}

impl Inventory {
    /// The inventory of a folder that no other process uses.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            forget: Arc::new(|| ()),
            is_served: false,
            outages: Arc::new(|_| Vec::new()),
            changing: Arc::default(),
        }
    }

    /// The inventory of a running server: `forget` is called after something was removed.
    pub(crate) fn served(store: Store, forget: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            store,
            forget: Arc::new(forget),
            is_served: true,
            outages: Arc::new(|_| Vec::new()),
            changing: Arc::default(),
        }
    }

    /// The same, with what a running server knows of unreachable hosts: `outages` tells them of a registry, in words.
    #[must_use]
    pub fn with_outages(self, outages: impl Fn(&str) -> Vec<String> + Send + Sync + 'static) -> Self {
        Self { outages: Arc::new(outages), ..self }
    }

    /// Carries out `order`; `tell` hears of each thing found and may end it.
    ///
    /// # Errors
    /// [`InventoryError`].
    pub fn run(&self, order: &Order, tell: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<(), InventoryError> {
        match order.command {
            Command::Ls => self.list(order.optional_name()?.as_ref(), tell),
            Command::Show => self.show(order.name()?.or_latest(), tell),
            Command::Stats => self.stats().map(|stats| _ = tell(Event::Stats(stats))),
            Command::Rm => self.remove(&order.name()?, order, tell),
            Command::Pin => self.pin(&order.name()?.or_latest(), tell),
            Command::Unpin => self.unpin(&order.name()?.or_latest(), tell),
            Command::Verify => self.verify(order.optional_name()?.as_ref(), tell),
            Command::Outages => {
                let outages = (self.outages)(order.name.as_deref().unwrap_or_default());
                let _ = outages.into_iter().try_for_each(|outage| tell(Event::Outage(outage)));
                Ok(())
            }
        }
    }

    pub(crate) fn survey(&self) -> Result<Survey, InventoryError> {
        Ok(self.store.catalog().survey()?)
    }

    /// A survey that has read all manifests.
    pub(crate) fn full_survey(&self) -> Result<Survey, InventoryError> {
        let mut survey = self.survey()?;
        survey.read_all(|digest| self.listing(digest))?;
        Ok(survey)
    }

    /// What a manifest lists; nothing where it cannot be read.
    pub(crate) fn listing(&self, digest: &Digest) -> Option<Listing> {
        self.manifest(digest).map(|bytes| Listing::of(&bytes))
    }

    /// A stored manifest's bytes.
    pub(crate) fn manifest(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.store.read(digest).ok()??.read_all(MANIFEST_LIMIT).ok()?
    }

    /// One change of the pins at a time.
    pub(crate) fn alone(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a name means.
    pub(crate) fn scope(&self, survey: &Survey, name: &ImageName) -> Result<Scope, InventoryError> {
        Ok(match name.clone() {
            ImageName::Registry(registry) => Scope::Registry(registry.to_string()),
            ImageName::Repository(registry, repository) => Scope::Repository(registry.to_string(), repository),
            ImageName::Image(registry, repository, Reference::Tag(tag)) => {
                Scope::Tag(registry.to_string(), repository, tag)
            }
            ImageName::Image(registry, repository, Reference::Digest(digest)) => {
                Scope::Here(registry.to_string(), repository, digest)
            }
            ImageName::Digest(prefix) => match survey.beginning(&prefix)?.as_slice() {
                [] => return Err(self.unknown(survey, name)),
                [one] => Scope::Digest(*one),
                [first, ..] => {
                    return Err(InventoryError::Ambiguous { prefix: prefix.to_string(), first: *first });
                }
            },
        })
    }

    pub(crate) fn unknown(&self, survey: &Survey, name: &ImageName) -> InventoryError {
        let hint = match name {
            ImageName::Repository(registry, repository) | ImageName::Image(registry, repository, _) => {
                let tags = survey.tags(registry, repository, HINTED).unwrap_or_default();
                match tags.as_slice() {
                    [] => format!("it knows no tag of {registry}/{repository}"),
                    tags => format!("of {registry}/{repository} it knows the tags {}", tags.join(", ")),
                }
            }
            ImageName::Registry(_) | ImageName::Digest(_) => "pullthrough cache ls lists what it holds".to_owned(),
        };
        InventoryError::Unknown { name: name.to_string(), hint }
    }
}

impl Order {
    fn name(&self) -> Result<ImageName, InventoryError> {
        self.optional_name()?.ok_or(InventoryError::Nameless)
    }

    fn optional_name(&self) -> Result<Option<ImageName>, InventoryError> {
        let parsed: Result<Option<ImageName>, BadImageName> = self.name.as_deref().map(str::parse).transpose();
        Ok(parsed?)
    }
}

/// The name of an image as people write it.
pub(crate) fn words(held: &CachedImage) -> String {
    match &held.tag {
        Some(tag) => format!("{}/{}:{tag}", held.registry, held.repository),
        None => format!("{}/{}@{}", held.registry, held.repository, held.digest),
    }
}

//! Lists, shows, counts, removes, pins and verifies what the cache holds, by the names that people use.
//!
//! Flow: an [`Order`] names a command and what it is about; [`Inventory::run`] carries it out and tells what it
//! finds as [`Event`]s, one at a time. The same runs inside a server, which is asked over its control socket, and
//! directly on a folder that no server has.
//! Pins: an image is pinned as what its name means at that moment. Its digest is remembered under the name in
//! `pins.json`; everything that it lists is kept from eviction, now or when it arrives. A tag that moves on does not
//! take the pin with it.
//! Scope: operators' commands. They block, so they run on threads that may wait.
//! Never: hold all images in memory; take away what another image needs.

mod error;
mod event;
mod holder;
mod list;
mod moment;
mod pins;
mod remove;
mod show;
mod stats;
mod verify;

pub use error::InventoryError;
pub use event::{
    Command, ContentKind, Damage, Event, History, ImageRow, Order, Part, PinChange, RegistryShare, Removal, Right,
    Shown, Stats, Verified,
};
pub use holder::Inventory;
pub(crate) use pins::arrived;

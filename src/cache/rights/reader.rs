//! Says who wants to read, where, and how far the registry's earlier word goes for it.

use super::place::Place;
use super::principal::Principal;
use super::publics::PublicAge;
use super::trust::Trust;

/// A principal that wants to read at a place. Cheap: it borrows all that it holds.
#[derive(Clone, Copy, Debug)]
pub struct PlaceReader<'a> {
    /// Where.
    pub place: &'a Place,
    /// Whose credentials it carries.
    pub principal: &'a Principal,
    /// How far the registry's earlier word goes for it.
    pub trust: &'a Trust,
    /// Whether the place is public, where that was looked up for this very request. It must not be kept across a
    /// question to the registry, whose answer may change it.
    pub public: Option<PublicAge>,
}

//! Follows a write of a tag until its outcome is known.
//!
//! A write without an answer may have taken effect, or may do so later: the client has left, the connection broke, a gateway gave
//! up. Whatever drops a write before its outcome was told makes the tag unknown.

use std::sync::Arc;

use crate::cache::rights::place::Place;
use crate::cache::tags::tags::Tags;
use crate::cache::tags::writes::UnderWay;
use crate::oci::{Digest, Tag};
use crate::store::Learned;

/// A write of a tag. One that is dropped before it is done may take effect late.
pub struct TagWrite {
    tags: Arc<Tags>,
    place: Place,
    tag: Tag,
    under_way: Option<UnderWay>,
    is_done: bool,
}

impl TagWrite {
    pub(super) fn begin(tags: Arc<Tags>, place: Place, tag: Tag) -> Self {
        let under_way = Some(tags.write(&place, &tag));
        Self { tags, place, tag, under_way, is_done: false }
    }

    /// The registry was not asked, or has refused: the tag means what it meant.
    pub fn refused(mut self) {
        if let Some(under_way) = self.under_way.take() {
            under_way.end();
        }
    }

    /// The registry has changed the tag: what it means is not known when this is dropped, unless it is told before.
    #[must_use]
    pub fn done(mut self) -> Self {
        self.is_done = true;
        self
    }

    /// The registry has accepted this manifest (digest, type and length) under the tag. That is what the tag means, if no other
    /// write was under way at the same time.
    pub(super) async fn means(mut self, manifest: (&Digest, &str, u64), learned: Learned) {
        self.tags.pushed(&self.place, &self.tag, manifest, learned).await;
        let is_alone = self.under_way.take().is_some_and(UnderWay::end);
        if !is_alone {
            self.tags.forget(&self.place, &self.tag);
        }
    }
}

impl Drop for TagWrite {
    fn drop(&mut self) {
        let Some(under_way) = self.under_way.take() else { return };
        if self.is_done {
            under_way.end();
        } else {
            drop(under_way); // it is in doubt
        }
        self.tags.forget(&self.place, &self.tag);
    }
}

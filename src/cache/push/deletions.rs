//! Forgets what registries have deleted, or may have.

use super::pushes::{Pusher, Pushes};
use crate::oci::Digest;
use crate::store::Content;

/// A deletion of content. One that is dropped may have taken effect, whatever came of it.
pub struct Deletion {
    pushes: Pushes,
    pusher: Pusher,
    digest: Digest,
    content: Content,
    is_refused: bool,
}

impl Pushes {
    /// A deletion begins.
    #[must_use]
    pub fn delete(&self, pusher: &Pusher, digest: &Digest, content: Content) -> Deletion {
        Deletion { pushes: self.clone(), pusher: pusher.clone(), digest: *digest, content, is_refused: false }
    }

    /// The registry has deleted a manifest, and with it every tag that means it; or a blob. Its bytes stay for other places.
    fn deleted(&self, pusher: &Pusher, digest: &Digest, content: Content) {
        let place = &pusher.caller().place;
        if content == Content::Manifest {
            self.tags.forget_manifest(place, digest);
        }
        self.rights.links.forget(place, digest, content);
    }

    /// The upload has ended without content.
    pub fn cancelled(&self, pusher: &Pusher, location: &str) {
        drop(self.sessions.take(&pusher.upload(location)));
    }
}

impl Deletion {
    /// The registry was not asked, or has refused.
    pub fn refused(mut self) {
        self.is_refused = true;
    }
}

impl Drop for Deletion {
    fn drop(&mut self) {
        if !self.is_refused {
            self.pushes.deleted(&self.pusher, &self.digest, self.content);
        }
    }
}

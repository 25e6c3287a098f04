//! Forgets what registries have deleted.

use super::pushes::{Pusher, Pushes};
use crate::oci::Digest;
use crate::store::Content;

impl Pushes {
    /// The registry has deleted a manifest, and with it every tag that means it; or a blob. Its bytes stay for other places.
    pub fn deleted(&self, pusher: &Pusher, digest: &Digest, content: Content) {
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

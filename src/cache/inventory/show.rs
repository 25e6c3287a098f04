//! Shows one image with its platforms and blobs, or one blob (`cache show`).

use std::ops::ControlFlow;
use std::time::SystemTime;

use super::holder::words;
use super::{ContentKind, Event, History, Inventory, InventoryError, Part, Right, Shown};
use crate::oci::{Descriptor, Digest, ImageName, Listing, MediaType};
use crate::store::{Learned, Scope, Survey};

/// At most so many repositories and images are named for each manifest or blob.
const NAMED: u32 = 20;
/// An index may list indexes; no real image nests them deeper.
const DEEPEST: u32 = 4;

impl Inventory {
    pub(crate) fn show(
        &self,
        name: ImageName,
        tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), InventoryError> {
        let mut survey = self.survey()?;
        let scope = self.scope(&survey, &name)?;
        let (digests, history) = match &scope {
            Scope::Tag(registry, repository, tag) => {
                (survey.tagged(registry, repository, tag)?, survey.history(registry, repository, tag)?)
            }
            Scope::Here(_, _, digest) | Scope::Digest(digest) => (vec![*digest], Vec::new()),
            Scope::Registry(_) | Scope::Repository(..) | Scope::Everything => {
                return Err(InventoryError::Many { name: name.to_string(), example: "quay.io/org/app:1".into() });
            }
        };
        survey.read_some(&digests, |digest| self.listing(digest))?;
        let checked = match &scope {
            Scope::Tag(registry, repository, tag) => survey.checked(registry, repository, tag)?,
            _ => None,
        };
        let asked = match &scope {
            Scope::Tag(registry, repository, _) | Scope::Here(registry, repository, _) => {
                Some((registry.as_str(), repository))
            }
            _ => None,
        };
        let mut any = false;
        for digest in digests {
            let part = self.part(&survey, &plain(digest), 0)?;
            if let Scope::Here(registry, repository, _) = &scope
                && !part.linked.contains(&format!("{registry}/{repository}"))
                && history.is_empty()
            {
                continue; // what is in the cache is not in this repository
            }
            if !part.present && part.linked.is_empty() && history.is_empty() {
                continue;
            }
            any = true;
            let extent = survey.extent(&digest)?;
            let needed_by = match scope {
                Scope::Digest(_) => self.full_survey()?.needed_by(&digest, NAMED)?.iter().map(words).collect(),
                _ => Vec::new(),
            };
            let shown = Shown {
                name: name.to_string(),
                part,
                present_size: extent.bytes,
                missing: extent.missing,
                needed_by,
                history: history
                    .iter()
                    .map(|(digest, first, last)| History { digest: digest.to_string(), first: *first, last: *last })
                    .collect(),
                checked,
                rights: survey.rights(&digest, asked, NAMED)?.into_iter().map(right).collect(),
            };
            if tell(Event::Shown(Box::new(shown))).is_break() {
                break;
            }
        }
        if any { Ok(()) } else { Err(self.unknown(&survey, &name)) }
    }

    fn part(&self, survey: &Survey, of: &Descriptor, depth: u32) -> Result<Part, InventoryError> {
        let stored = survey.stored(&of.digest)?;
        let is_manifest = of.media_type.as_deref().is_none_or(|said| MediaType::parse(said).is_some());
        let bytes = stored.filter(|_| is_manifest && depth < DEEPEST).and_then(|_| self.manifest(&of.digest));
        let listed = bytes.as_deref().map(Descriptor::listed).unwrap_or_default();
        let media_type = bytes.as_deref().and_then(|bytes| Listing::of(bytes).media_type);
        let kind = match media_type {
            Some(known) if known.is_index() => ContentKind::Index,
            Some(_) => ContentKind::Manifest,
            None => kind_of(of.media_type.as_deref()),
        };
        let parts: Result<Vec<Part>, InventoryError> = match kind {
            ContentKind::Blob => Ok(Vec::new()),
            _ => listed.iter().map(|child| self.part(survey, child, depth + 1)).collect(),
        };
        Ok(Part {
            digest: of.digest.to_string(),
            kind,
            media_type: media_type.map(|known| known.as_str().to_owned()).or(of.media_type.clone()),
            platform: of.platform.clone(),
            size: stored.map_or(of.size, |stored| stored.size),
            present: stored.is_some(),
            pinned: stored.is_some_and(|stored| stored.pinned),
            last_used: stored.map(|stored| stored.last_used),
            linked: survey.places(&of.digest, NAMED)?,
            parts: parts?,
        })
    }
}

fn right((place, learned, proven): (String, Learned, SystemTime)) -> Right {
    Right { place, public: learned == Learned::Anonymously, proven }
}

fn kind_of(media_type: Option<&str>) -> ContentKind {
    match media_type.and_then(MediaType::parse) {
        Some(known) if known.is_index() => ContentKind::Index,
        Some(_) => ContentKind::Manifest,
        None => ContentKind::Blob,
    }
}

fn plain(digest: Digest) -> Descriptor {
    Descriptor { digest, media_type: None, size: 0, platform: None }
}

//! Hashes blobs again and drops those that do not match their digest (`cache verify`).

use std::ops::ControlFlow;

use super::holder::words;
use super::{Damage, Event, Inventory, InventoryError, Verified};
use crate::oci::ImageName;
use crate::store::{StoredBlob, Survey, Verification};

/// Progress is reported after so many bytes.
const TOLD: u64 = 16 << 20;
const PAGE: u32 = 500;
/// At most so many images are named for each damaged blob.
const NAMED: u32 = 10;

impl Inventory {
    /// Verifies what belongs to `name`, else everything. The rest of a damaged cache is verified all the same.
    pub(crate) fn verify(
        &self,
        name: Option<&ImageName>,
        tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), InventoryError> {
        let done = match name {
            Some(name) => self.verify_named(name, tell)?,
            None => self.verify_all(tell)?,
        };
        _ = tell(Event::Verified(done));
        Ok(())
    }

    fn verify_named(
        &self,
        name: &ImageName,
        tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Verified, InventoryError> {
        let survey = self.full_survey()?;
        let scope = self.scope(&survey, name)?;
        let (mut blobs, mut bytes) = (0_u64, 0);
        survey.content(&scope, |blob| {
            (blobs, bytes) = (blobs + 1, bytes + blob.size);
            ControlFlow::Continue(())
        })?;
        if blobs == 0 {
            return Err(self.unknown(&survey, name));
        }
        let mut flow = tell(Event::Todo(bytes));
        let mut round = Round { inventory: self, named: Some(&survey), done: Verified::default(), tell };
        let mut failed = None;
        survey.content(&scope, |blob| {
            if flow.is_continue() {
                flow = round.check(&blob).unwrap_or_else(|error| {
                    failed = Some(error);
                    ControlFlow::Break(())
                });
            }
            flow
        })?;
        failed.map_or(Ok(round.done), Err)
    }

    fn verify_all(&self, tell: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<Verified, InventoryError> {
        let survey = self.survey()?;
        let mut flow = tell(Event::Todo(self.store.usage().bytes));
        let mut round = Round { inventory: self, named: None, done: Verified::default(), tell };
        let mut after = 0;
        while flow.is_continue() {
            let page = survey.page(after, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            for (_, blob) in &page {
                flow = round.check(blob)?;
                if flow.is_break() {
                    break;
                }
            }
        }
        Ok(round.done)
    }
}

struct Round<'a> {
    inventory: &'a Inventory,
    /// What names what is damaged, if it was read before; else it is when the first one is found.
    named: Option<&'a Survey>,
    done: Verified,
    tell: &'a mut dyn FnMut(Event) -> ControlFlow<()>,
}

impl Round<'_> {
    fn check(&mut self, blob: &StoredBlob) -> Result<ControlFlow<()>, InventoryError> {
        let (mut untold, mut has_left) = (0, false);
        let tell = &mut self.tell;
        let verdict = self.inventory.store.verify_with(&blob.digest, &mut |bytes| {
            untold += bytes;
            if untold >= TOLD {
                has_left = tell(Event::Checked(std::mem::take(&mut untold))).is_break();
            }
            !has_left
        })?;
        if has_left || (self.tell)(Event::Checked(untold)).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        match verdict {
            Verification::Absent => return Ok(ControlFlow::Continue(())), // evicted meanwhile
            Verification::Good => {}
            Verification::Damaged => self.done.damaged += 1,
        }
        self.done.blobs += 1;
        self.done.bytes += blob.size;
        if verdict != Verification::Damaged {
            return Ok(ControlFlow::Continue(()));
        }
        (self.inventory.forget)();
        let names = |survey: &Survey| survey.needed_by(&blob.digest, NAMED);
        let needed_by = match self.named {
            Some(survey) => names(survey)?,
            None => names(&self.inventory.full_survey()?)?,
        };
        let needed_by = needed_by.iter().map(words).collect();
        Ok((self.tell)(Event::Damaged(Damage { digest: blob.digest.to_string(), size: blob.size, needed_by })))
    }
}

//! `cache verify`: hashes blobs again; what is not what its name says is dropped.

use std::ops::ControlFlow;

use super::inventory::words;
use super::{Damage, Event, Inventory, InventoryError, Verified};
use crate::oci::{Hasher, ImageName};
use crate::store::{Stored, Survey};

const PIECE: usize = 256 * 1024;
/// Progress is told after so many bytes.
const TOLD: u64 = 16 << 20;
const PAGE: u32 = 500;
/// So many images are named for each damaged blob.
const NAMED: u32 = 10;

impl Inventory {
    /// Verifies what belongs to `name`, else everything. The rest of a damaged cache is verified all the same.
    pub(super) fn verify(
        &self,
        name: Option<&ImageName>,
        tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), InventoryError> {
        let mut round = Round { inventory: self, named: None, done: Verified::default(), tell };
        match name {
            Some(name) => {
                let survey = self.full_survey()?;
                let scope = self.scope(&survey, name)?;
                let mut todo = (0, 0);
                survey.content(&scope, |blob| {
                    todo = (todo.0 + 1, todo.1 + blob.size);
                    ControlFlow::Continue(())
                })?;
                if todo.0 == 0 {
                    return Err(self.unknown(&survey, name));
                }
                let mut flow = (round.tell)(Event::Todo(todo.1));
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
                if let Some(error) = failed {
                    return Err(error);
                }
            }
            None => round.everything()?,
        }
        let done = round.done;
        _ = tell(Event::Verified(done));
        Ok(())
    }
}

struct Round<'a> {
    inventory: &'a Inventory,
    /// Names for what is damaged; made when the first one is.
    named: Option<Survey>,
    done: Verified,
    tell: &'a mut dyn FnMut(Event) -> ControlFlow<()>,
}

impl Round<'_> {
    fn everything(&mut self) -> Result<(), InventoryError> {
        let survey = self.inventory.survey()?;
        let mut flow = (self.tell)(Event::Todo(self.inventory.store.usage().bytes));
        let mut after = 0;
        while flow.is_continue() {
            let page = survey.page(after, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            for (_, blob) in &page {
                flow = self.check(blob)?;
                if flow.is_break() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn check(&mut self, blob: &Stored) -> Result<ControlFlow<()>, InventoryError> {
        let reason = match self.read(blob)? {
            Found::Sound => {
                self.done.blobs += 1;
                self.done.bytes += blob.size;
                return Ok(ControlFlow::Continue(()));
            }
            Found::Left => return Ok(ControlFlow::Break(())),
            Found::Gone => return Ok(ControlFlow::Continue(())),
            Found::Damaged(reason) => reason,
        };
        if self.named.is_none() {
            self.named = Some(self.inventory.full_survey()?); // before it goes, and its links with it
        }
        let needed_by = match &self.named {
            Some(survey) => survey.needed_by(&blob.digest, NAMED)?.iter().map(words).collect(),
            None => Vec::new(),
        };
        self.inventory.store.remove(&blob.digest)?;
        (self.inventory.forget)();
        self.done.blobs += 1;
        self.done.bytes += blob.size;
        self.done.damaged += 1;
        let damage = Damage { digest: blob.digest.to_string(), size: blob.size, reason, needed_by };
        Ok((self.tell)(Event::Damaged(damage)))
    }

    fn read(&mut self, of: &Stored) -> Result<Found, InventoryError> {
        let digest = &of.digest;
        let blob = match self.inventory.store.prove(digest) {
            Ok(Some(blob)) => blob,
            Ok(None) if of.proven => return Ok(Found::Gone), // evicted meanwhile
            Ok(None) => return Ok(Found::Damaged("its bytes have another digest".to_owned())),
            Err(error) => return Err(error.into()),
        };
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; PIECE];
        let (mut at, mut told) = (0, 0);
        loop {
            match blob.read_at(at, &mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    at += count as u64;
                }
                Err(error) => return Ok(Found::Damaged(format!("it cannot be read: {error}"))),
            }
            if at - told >= TOLD {
                if (self.tell)(Event::Checked(at - told)).is_break() {
                    return Ok(Found::Left);
                }
                told = at;
            }
        }
        if (self.tell)(Event::Checked(at - told)).is_break() {
            return Ok(Found::Left);
        }
        let found = hasher.finish();
        Ok(if found == *digest { Found::Sound } else { Found::Damaged(format!("its bytes have the digest {found}")) })
    }
}

enum Found {
    Sound,
    Gone,
    Damaged(String),
    /// Nobody listens any more.
    Left,
}

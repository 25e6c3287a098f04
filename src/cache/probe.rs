//! Finds out whether a repository is public: asks with nobody's credentials for the very thing that somebody asked for.
//!
//! Somebody with credentials was served; whether everybody would be is found out in the background, never in a caller's
//! way, at most once within a grant's life for each place. The same where a token that anybody is given was
//! refused: that token may be at fault, or the repository public no more.

use std::sync::Arc;

use super::caller::Caller;
use super::hint::described;
use super::refusals::Refusals;
use super::rights::asked_at::AskedAt;
use super::rights::principal::Principal;
use super::rights::reader::PlaceReader;
use super::rights::rights::{Rights, Yes};
use super::source::{Reach, Said, Source, Subject};
use crate::host::TaskGroup;

/// What gave rise to asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Somebody was given the thing.
    Served,
    /// Somebody was refused.
    Refused,
}

/// Checks in the background, when due, whether anybody may have the `subject` at the reader's place; `nobody` makes a
/// source that asks there without credentials. Returns at once.
pub(crate) fn probe(
    (rights, refusals): (&Arc<Rights>, &Arc<Refusals>),
    tasks: &TaskGroup,
    reader: PlaceReader<'_>,
    subject: Subject,
    occasion: Occasion,
    nobody: impl FnOnce() -> Arc<dyn Source>,
) {
    let (life, was_served) = (reader.trust.lives.life, occasion == Occasion::Served);
    if reader.trust.away || !rights.publics.is_due(reader.place, life, was_served) {
        return;
    }
    let (rights, refusals) = (rights.clone(), refusals.clone());
    let nobody = Caller::new(reader.place.clone(), Principal::Anonymous, nobody(), *reader.trust);
    tasks.spawn_until_stop(async move {
        let asked = AskedAt::now();
        match described(&*nobody.source, &subject, nobody.trust.deadline).await {
            // Else it is a page that answers everything with 200.
            Ok(proof) if proof.reach(&subject, None) == Some(Reach::Place) => {
                let yes = Yes { to: &subject, reach: Reach::Place, asked };
                rights.open(&nobody.place, yes, nobody.trust.forgeable);
            }
            // It is known to be there. Callers that may not read are often told that it is not.
            Err(fault) if was_served && matches!(fault.said, Said::Missing | Said::Denied | Said::Forbidden) => {
                rights.close(&nobody.place, asked);
            }
            Err(fault) => refusals.heed(&nobody, &subject, &fault).await,
            Ok(_) => {}
        }
    });
}

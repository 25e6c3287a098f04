//! Finds out whether a repository is public: asks with nobody's credentials for the very thing that somebody asked for.
//!
//! Somebody with credentials was served; whether everybody would be is found out in the background, never in a caller's
//! way, at most once within a grant's life for each place. The same where a token that anybody is given was
//! refused: that token may be at fault, or the repository public no more.

use std::sync::Arc;

use super::rights::reader::PlaceReader;
use super::rights::rights::{AskedAt, Rights};
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
    rights: &Arc<Rights>,
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
    let (rights, source, place, forgeable) = (rights.clone(), nobody(), reader.place.clone(), reader.trust.forgeable);
    tasks.spawn_until_stop(async move {
        let asked = AskedAt::now();
        match source.prove(&subject).await {
            // Else it is a page that answers everything with 200.
            Ok(proof) if proof.reach(&subject, None) == Some(Reach::Place) => {
                rights.publics.open(&place, asked.time, forgeable);
            }
            // Callers that may not read are often told that it is not there.
            Err(fault) if fault.said == Said::Missing && was_served => rights.close(&place, asked),
            Err(fault) if matches!(fault.said, Said::Denied | Said::Forbidden) => rights.close(&place, asked),
            Ok(_) | Err(_) => {}
        }
    });
}

//! Whether a repository is public: asked with nobody's credentials for the very thing that somebody asked for.
//!
//! Somebody with credentials was served; whether everybody would be is found out behind, never in a caller's
//! way, at most once within a grant's life for each place. The same where a token that anybody is given was
//! refused: that token may be at fault, or the repository public no more.

use super::cache::Asked;
use super::{Cache, Caller, Reach, Said, Subject};

/// What gave rise to asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Somebody was given the thing.
    Served,
    /// Somebody was refused.
    Refused,
}

impl Cache {
    /// Asks behind, if it is time to, whether anybody may have what `nobody`'s source stands for, the `subject`, with
    /// nobody's credentials. Returns at once.
    pub fn probe(&self, nobody: &Caller, subject: Subject, occasion: Occasion) {
        let (life, was_served) = (nobody.trust.lives.life, occasion == Occasion::Served);
        if nobody.trust.away || !self.publics.is_due(&nobody.place, life, was_served) {
            return;
        }
        let (cache, nobody) = (self.clone(), nobody.clone());
        tokio::spawn(async move {
            let asked = Asked::now();
            match nobody.source.prove().await {
                // Else it is a page that answers everything with 200.
                Ok(proof) if proof.reach(subject, None) == Some(Reach::Place) => {
                    cache.publics.open(&nobody.place, asked.time, nobody.trust.forgeable);
                }
                // Who may not read is often told that it is not there.
                Err(fault) if fault.said == Said::Missing && was_served => cache.close(&nobody.place, asked),
                Err(fault) if matches!(fault.said, Said::Denied | Said::Forbidden) => {
                    cache.close(&nobody.place, asked);
                }
                Ok(_) | Err(_) => {}
            }
        });
    }
}

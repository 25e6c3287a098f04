//! Remembers what the hosts of one registry said lately, and decides when that is an outage.

use std::collections::HashMap;

use http::uri::PathAndQuery;
use tokio::time::Instant;

use crate::oci::Authority;
use crate::upstream::http::evidence::Evidence;

/// So many answers of 5xx in a row are an outage; fewer may be about one thing that was asked.
const STORM: u32 = 3;
/// So many hosts are remembered at most: a registry chooses where it redirects.
const CAPACITY: usize = 64;

/// The last word of each host.
#[derive(Debug, Default)]
pub(crate) struct HostHistory(HashMap<Authority, Word>);

#[derive(Clone, Debug, Default)]
struct Word {
    well: Option<Instant>,
    errors: u32,
    /// What the last error was about: the same thing asked again is no further evidence.
    about: Option<PathAndQuery>,
}

/// What a host is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Assessment {
    Well,
    Away,
    /// What it said does not tell.
    Unknown,
}

impl HostHistory {
    /// Hears how something ended that `host` was asked at `begun`: for `target`, where that is known.
    pub(crate) fn hear(
        &mut self,
        host: &Authority,
        target: Option<&PathAndQuery>,
        begun: Instant,
        evidence: Evidence,
    ) -> Assessment {
        if self.0.len() >= CAPACITY && !self.0.contains_key(host) {
            self.0.clear();
        }
        let word = self.0.entry(host.clone()).or_default();
        if evidence == Evidence::Well {
            *word = Word { well: Some(Instant::now()), ..Word::default() };
            return Assessment::Well;
        }
        if matches!(evidence, Evidence::Error | Evidence::Broken) && (target.is_none() || word.about.as_ref() != target)
        {
            word.errors += 1;
            word.about = target.cloned();
        }
        if evidence == Evidence::Garbled {
            word.errors = STORM; // one is enough to have it probed
        }
        let is_storm = evidence == Evidence::Down || word.errors >= STORM;
        let answered_since = word.well.is_some_and(|well| well >= begun);
        if is_storm && !answered_since { Assessment::Away } else { Assessment::Unknown }
    }

    /// Begins anew.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn host(number: usize) -> Authority {
        Authority::parse(&format!("host{number}.test"), 443).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_of_errors_about_several_things_is_away_and_one_good_answer_ends_it() {
        let things = ["/a", "/b", "/b", "/c"].map(PathAndQuery::from_static);
        let mut hosts = HostHistory::default();
        for _ in 0..2 {
            let assessed =
                things.each_ref().map(|thing| hosts.hear(&host(1), Some(thing), Instant::now(), Evidence::Error));
            assert_eq!(assessed, [Assessment::Unknown, Assessment::Unknown, Assessment::Unknown, Assessment::Away]);
            assert_eq!(hosts.hear(&host(1), None, Instant::now(), Evidence::Well), Assessment::Well);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_away_unless_somebody_was_answered_since() {
        let mut hosts = HostHistory::default();
        let begun = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        hosts.hear(&host(1), None, Instant::now(), Evidence::Well);
        assert_eq!(hosts.hear(&host(1), None, begun, Evidence::Down), Assessment::Unknown);
        assert_eq!(hosts.hear(&host(2), None, begun, Evidence::Down), Assessment::Away);
    }

    #[tokio::test]
    async fn a_registry_that_redirects_everywhere_fills_no_memory() {
        let mut hosts = HostHistory::default();
        for number in 0..10 * CAPACITY {
            hosts.hear(&host(number), None, Instant::now(), Evidence::Error);
            assert!(hosts.0.len() <= CAPACITY);
        }
    }
}

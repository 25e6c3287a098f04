//! Remembers how long hosts take to answer, so that a connection that leads nowhere is told from a slow host.
//!
//! A NAT or a balancer may forget a connection and tell nobody: what is sent on it vanishes. An old connection that is silent
//! for longer than its host takes gets a new one beside it. A slow host must not be asked everything twice for that: what
//! it takes is remembered, for content and for questions by themselves, and forgotten by halves.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::oci::Authority;

/// The least time after which an old connection counts as silent.
const LEAST: Duration = Duration::from_secs(1);
/// So many hosts are remembered: a registry chooses where it redirects.
const CAPACITY: usize = 1024;

/// What a request is about: stores that fetch content before they send it are slow with that alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    Content,
    Question,
}

/// The hosts that are slow, or whose connections have led nowhere.
#[derive(Debug, Default)]
pub(crate) struct Patience(Mutex<HashMap<Authority, Habit>>);

#[derive(Clone, Copy, Debug)]
struct Habit {
    content: Duration,
    question: Duration,
    /// Connections that are older are taken for dead.
    doubted: Option<Instant>,
}

impl Habit {
    const ORDINARY: Self = Self { content: LEAST, question: LEAST, doubted: None };

    fn is_ordinary(&self) -> bool {
        self.content == LEAST && self.question == LEAST && self.doubted.is_none()
    }

    fn of(&mut self, about: About) -> &mut Duration {
        match about {
            About::Content => &mut self.content,
            About::Question => &mut self.question,
        }
    }
}

impl About {
    /// A blob's path; another host's paths tell nothing, and are about one thing.
    pub(crate) fn path(path: &str) -> Self {
        if path.contains("/blobs/") { Self::Content } else { Self::Question }
    }
}

impl Patience {
    /// How long an old connection to `host` may be silent.
    pub(crate) fn of(&self, host: &Authority, about: About) -> Duration {
        self.habits().get_mut(host).map_or(LEAST, |habit| *habit.of(about))
    }

    /// An answer came after so long.
    pub(crate) fn answered(&self, host: &Authority, about: About, took: Duration) {
        let needed = LEAST.max(2 * took);
        let mut habits = self.habits();
        if needed == LEAST && !habits.contains_key(host) {
            return;
        }
        let habit = habit(&mut habits, host);
        let patience = habit.of(about);
        *patience = needed.max(*patience / 2);
        if habit.is_ordinary() {
            habits.remove(host);
        }
    }

    /// A new connection of `since` has answered before an old one.
    pub(crate) fn doubt(&self, host: &Authority, since: Instant) {
        habit(&mut self.habits(), host).doubted = Some(since);
    }

    /// Connections of before lead nowhere, perhaps.
    pub(crate) fn doubted(&self, host: &Authority) -> Option<Instant> {
        self.habits().get(host).and_then(|habit| habit.doubted)
    }

    fn habits(&self) -> MutexGuard<'_, HashMap<Authority, Habit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn habit<'a>(habits: &'a mut HashMap<Authority, Habit>, host: &Authority) -> &'a mut Habit {
    if habits.len() >= CAPACITY && !habits.contains_key(host) {
        habits.clear();
    }
    habits.entry(host.clone()).or_insert(Habit::ORDINARY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: usize) -> Authority {
        Authority::parse(&format!("host{number}.test"), 443).unwrap()
    }

    #[test]
    fn a_slow_host_is_waited_for_twice_as_long_until_it_is_quick_again() {
        let (patience, host) = (Patience::default(), host(1));
        let after = |about, took: u64| {
            patience.answered(&host, about, Duration::from_millis(took));
            (patience.of(&host, About::Content).as_millis(), patience.of(&host, About::Question).as_millis())
        };
        assert_eq!(after(About::Question, 400), (1000, 1000));
        assert_eq!(after(About::Content, 5000), (10_000, 1000), "questions are answered as ever");
        assert_eq!(after(About::Content, 4000), (8000, 1000));
        assert_eq!(after(About::Question, 900), (8000, 1800));
        assert_eq!(after(About::Content, 10), (4000, 1800));
        for _ in 0..2 {
            after(About::Content, 10);
            after(About::Question, 10);
        }
        assert!(patience.habits().is_empty(), "an ordinary host is not remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubt_outlives_what_is_quick() {
        let (patience, host) = (Patience::default(), host(1));
        let since = Instant::now();
        patience.doubt(&host, since);
        patience.answered(&host, About::Question, Duration::ZERO);
        assert_eq!(patience.doubted(&host), Some(since));
    }

    #[test]
    fn no_number_of_hosts_fills_the_memory() {
        let patience = Patience::default();
        for number in 0..3 * CAPACITY {
            patience.answered(&host(number), About::Content, LEAST);
            assert!(patience.habits().len() <= CAPACITY);
        }
    }
}

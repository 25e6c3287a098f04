//! Pull limits: what a registry says is left of them, and how sparingly the proxy goes on.
//!
//! Nothing is hard-coded: the headers say the limit, what remains and the window (Docker Hub's documentation,
//! "Usage and limits"). A registry that says nothing has no limit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use tokio::time::Instant;

/// The longest that a 429 is waited out on a client's behalf.
pub const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// The longest that a registry is believed to want to be left alone: more is no number of seconds.
const LONGEST_REST: Duration = Duration::from_secs(24 * 3600);
/// What a `Retry-After` means that nobody understands.
const UNCLEAR_WAIT: Duration = Duration::from_secs(60);
/// The answering server names the source: what is longer is no address and no user.
const SOURCE_LIMIT: usize = 256;

/// What one answer said of a pull limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Pulls a window.
    pub limit: u64,
    /// Of which so many are left.
    pub remaining: u64,
    /// How long until pulls that were made are forgotten.
    pub window: Duration,
    /// Who they are counted for: an address or a user.
    pub source: Option<String>,
}

/// How carefully to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// A tag's freshness is multiplied by this.
    pub freshness: u32,
    /// Whether layers nobody asked for yet may be fetched.
    pub prefetch: bool,
}

impl Quota {
    /// Reads `ratelimit-limit: 100;w=21600`, `ratelimit-remaining` and `docker-ratelimit-source`. `None` where
    /// either number is absent or none.
    #[must_use]
    pub fn parse(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let (limit, window) = amount(text("ratelimit-limit")?)?;
        let (remaining, other) = amount(text("ratelimit-remaining")?)?;
        let source = text("docker-ratelimit-source").filter(|source| source.len() <= SOURCE_LIMIT);
        let window = window.or(other).unwrap_or(Duration::from_secs(6 * 3600));
        Some(Self { limit, remaining: remaining.min(limit), window, source: source.map(str::to_owned) })
    }

    /// What is left decides: above a half nothing changes, below a quarter nothing is fetched ahead.
    #[must_use]
    pub fn stretch(&self) -> Stretch {
        let share = (u128::from(self.remaining) * 100).checked_div(self.limit.into()).unwrap_or(100);
        match share {
            50.. => Stretch::NONE,
            25.. => Stretch { freshness: 4, prefetch: true },
            10.. => Stretch { freshness: 15, prefetch: false },
            _ => Stretch { freshness: 60, prefetch: false },
        }
    }
}

/// `100;w=21600`: a number, and a window in seconds.
fn amount(text: &str) -> Option<(u64, Option<Duration>)> {
    let mut parts = text.split(';').map(str::trim);
    let number = parts.next()?.parse().ok()?;
    let window = parts.find_map(|part| part.strip_prefix("w=")).and_then(|seconds| seconds.trim().parse().ok());
    Some((number, window.map(|seconds: u64| Duration::from_secs(seconds.min(30 * 86_400)))))
}

impl Stretch {
    /// As if there were no limit.
    pub const NONE: Self = Self { freshness: 1, prefetch: true };
}

/// What each registry said last. Cheap to clone; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Quotas(Arc<Mutex<HashMap<Arc<str>, Heard>>>, Arc<Mutex<Throttles>>);

/// Until when each account is throttled at a registry, as the log was told.
type Throttles = HashMap<(Arc<str>, String), Instant>;

/// A throttle without a word on its length counts as over when so long nothing was throttled.
const THROTTLE: Duration = Duration::from_secs(60);
/// So many throttles are remembered.
const THROTTLES: usize = 1024;

#[derive(Clone, Debug)]
struct Heard {
    quota: Quota,
    at: Instant,
}

impl Heard {
    /// Within the window, that is: before all that was counted is forgotten.
    fn is_live(&self) -> bool {
        self.at.elapsed() < self.quota.window
    }
}

impl Quotas {
    /// Takes note of an answer of `registry`, a configured name. One without such headers says nothing.
    pub fn note(&self, registry: &Arc<str>, headers: &HeaderMap) {
        if let Some(quota) = Quota::parse(headers) {
            self.lock().insert(registry.clone(), Heard { quota, at: Instant::now() });
        }
    }

    /// Takes note of a 429: nothing is left, whatever was said before.
    pub fn note_throttled(&self, registry: &Arc<str>) {
        if let Some(heard) = self.lock().get_mut(registry) {
            heard.quota.remaining = 0;
            heard.at = Instant::now();
        }
    }

    /// Whether a 429 of `registry` to `account` begins a throttle; one that comes before an earlier one is over is part of
    /// that. `rest` is how long it asks to be left alone.
    pub(crate) fn begins_throttle(&self, registry: &Arc<str>, account: &str, rest: Option<Duration>) -> bool {
        let mut throttles = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        throttles.retain(|_, until| *until > now);
        if throttles.len() >= THROTTLES {
            return false;
        }
        let until = now + rest.unwrap_or_default().max(THROTTLE);
        throttles.insert((registry.clone(), account.to_owned()), until).is_none()
    }

    /// What is known of `registry` within its window.
    #[must_use]
    pub fn quota(&self, registry: &str) -> Option<Quota> {
        self.lock().get(registry).filter(|heard| heard.is_live()).map(|heard| heard.quota.clone())
    }

    /// How carefully to go on with `registry`.
    #[must_use]
    pub fn stretch(&self, registry: &str) -> Stretch {
        self.quota(registry).map_or(Stretch::NONE, |quota| quota.stretch())
    }

    /// What is left, by registry: for the metrics.
    #[must_use]
    pub fn remaining(&self) -> Vec<(Arc<str>, u64)> {
        let quotas = self.lock();
        let live = quotas.iter().filter(|(_, heard)| heard.is_live());
        live.map(|(registry, heard)| (registry.clone(), heard.quota.remaining)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Heard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a `Retry-After` asks for: what `understood` says of it, and a minute where that is nothing.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    headers.contains_key(RETRY_AFTER).then(|| understood(headers, now).unwrap_or(UNCLEAR_WAIT))
}

/// Seconds, or a date (RFC 9110, 10.2.3), as the answer's own clock has it. Registries also send Unix times, fractions,
/// words and dates that have passed: as seconds, a Unix time would be half a century.
fn understood(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().ok()?)
    } else {
        let said = headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        httpdate::parse_http_date(text).ok()?.duration_since(said.unwrap_or(now)).ok()?
    };
    (wait <= LONGEST_REST).then_some(wait)
}

/// Puts seconds that clients understand in the place of a `Retry-After` that they do not.
pub(crate) fn mend_retry_after(headers: &mut HeaderMap) {
    if headers.contains_key(RETRY_AFTER) && understood(headers, SystemTime::now()).is_none() {
        headers.insert(RETRY_AFTER, UNCLEAR_WAIT.as_secs().into());
    }
}

/// How long to wait before a throttled request is sent once more on the client's behalf: what `Retry-After` asks
/// for if that is short. `None` means that the 429 is passed on at once, with its `Retry-After`.
#[must_use]
pub fn wait_out(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    retry_after(headers, now).filter(|wait| *wait <= LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn quota(limit: &str, remaining: &str) -> Option<Quota> {
        Quota::parse(&headers(&[("ratelimit-limit", limit), ("ratelimit-remaining", remaining)]))
    }

    #[test]
    fn docker_hubs_headers_are_read() {
        let said = headers(&[
            ("ratelimit-limit", "100;w=21600"),
            ("ratelimit-remaining", "20;w=21600"),
            ("docker-ratelimit-source", "192.0.2.7"),
        ]);
        let expected =
            Quota { limit: 100, remaining: 20, window: Duration::from_secs(21_600), source: Some("192.0.2.7".into()) };
        assert_eq!(Quota::parse(&said), Some(expected));
        for (limit, remaining, expected) in [
            ("100", "7", Some((100, 7, 21_600))),
            (" 100 ; w=60 ", "7", Some((100, 7, 60))),
            ("100;x=1;w=60", "700", Some((100, 100, 60))),
            ("100", "7;w=3600", Some((100, 7, 3600))),
            ("", "7", None),
            ("-1", "7", None),
            ("many", "7", None),
            ("100", "", None),
        ] {
            let found = quota(limit, remaining).map(|quota| (quota.limit, quota.remaining, quota.window.as_secs()));
            assert_eq!(found, expected, "{limit} {remaining}");
        }
        assert_eq!(Quota::parse(&HeaderMap::new()), None);
    }

    #[test]
    fn the_less_is_left_the_more_carefully_it_goes_on() {
        let table = [
            (100, 1, true),
            (50, 1, true),
            (49, 4, true),
            (25, 4, true),
            (24, 15, false),
            (10, 15, false),
            (9, 60, false),
            (0, 60, false),
        ];
        for (remaining, freshness, prefetch) in table {
            let stretch = quota("100", &remaining.to_string()).unwrap().stretch();
            assert_eq!(stretch, Stretch { freshness, prefetch }, "{remaining}");
        }
        assert_eq!(quota("0", "0").unwrap().stretch(), Stretch::NONE, "no limit at all");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_is_forgotten_after_its_window() {
        let (quotas, registry) = (Quotas::default(), Arc::from("docker.io"));
        assert_eq!(quotas.stretch("docker.io"), Stretch::NONE);
        quotas.note(&registry, &headers(&[("ratelimit-limit", "100;w=60"), ("ratelimit-remaining", "80")]));
        quotas.note(&registry, &HeaderMap::new());
        assert_eq!(quotas.remaining(), [(registry.clone(), 80)]);
        quotas.note_throttled(&registry);
        assert_eq!(quotas.stretch("docker.io").freshness, 60);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!((quotas.stretch("docker.io"), quotas.remaining()), (Stretch::NONE, Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttle_is_told_once_for_each_account_until_it_is_over() {
        let (quotas, registry) = (Quotas::default(), Arc::from("docker.io"));
        let begins = |account: &str, rest| quotas.begins_throttle(&registry, account, Some(Duration::from_secs(rest)));
        assert!(begins("robot", 100) && begins("anonymous", 5));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(!begins("robot", 5) && !begins("anonymous", 5), "it goes on");
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(begins("robot", 5) && begins("anonymous", 5));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Fri, 20 Nov 2026 10:00:00 GMT").unwrap();
        let table = [
            ("7", Some(7), true),
            ("15", Some(15), true),
            ("16", Some(16), false),
            ("Fri, 20 Nov 2026 10:00:05 GMT", Some(5), true),
            ("Fri, 20 Nov 2026 11:00:00 GMT", Some(3600), false),
            (" 7 ", Some(7), true),
            ("86400", Some(86_400), false),
        ];
        for (text, seconds, waited) in table {
            let mut said = headers(&[("retry-after", text)]);
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(retry_after(&said, now), expected, "{text}");
            assert_eq!(wait_out(&said, now), expected.filter(|_| waited), "{text}");
            if !text.contains("GMT") {
                mend_retry_after(&mut said);
                assert_eq!(said["retry-after"], text, "as it came");
            }
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_retry_after_that_says_nothing_is_a_minute_for_us_and_for_clients() {
        let now = httpdate::parse_http_date("Fri, 20 Nov 2026 10:00:00 GMT").unwrap();
        let table = [
            "soon",
            "",
            "-1",
            "+5",
            "1.5",
            "1795168860",
            "18446744073709551616",
            "86401",
            "5s",
            "Fri, 20 Nov 2026 09:00:00 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "2026-11-20T10:00:05Z",
        ];
        for text in table {
            let mut said = headers(&[("retry-after", text)]);
            assert_eq!(retry_after(&said, now), Some(Duration::from_secs(60)), "{text}");
            assert_eq!(wait_out(&said, now), None, "{text}: no client waits for it");
            mend_retry_after(&mut said);
            assert_eq!(said["retry-after"], "60", "{text}");
        }
    }

    #[test]
    fn a_date_is_read_by_the_clock_of_whoever_sent_it() {
        let now = httpdate::parse_http_date("Fri, 20 Nov 2026 10:00:00 GMT").unwrap();
        let (date, after) = ("Fri, 20 Nov 2026 09:30:00 GMT", "Fri, 20 Nov 2026 09:30:05 GMT");
        let said = headers(&[("retry-after", after), ("date", date)]);
        assert_eq!(retry_after(&said, now), Some(Duration::from_secs(5)));
        let at_once = headers(&[("retry-after", date), ("date", date)]);
        assert_eq!(retry_after(&at_once, now), Some(Duration::ZERO));
    }
}

//! Parses sizes, times and percentages as people write them in a configuration: `100GiB`, `60s`, `15%`.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A number of bytes, written `100GiB`, `5MB` or `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A span of time, written `60s`, `10m`, `7d` or `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// A share of a hundred, written `15%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u8);

/// A value that did not parse, and the expected form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUnit {
    /// For a [`Size`].
    #[error("expected a size such as 100GiB, 5MB or 4096")]
    Size,
    /// For a [`Period`].
    #[error("expected a time such as 60s, 10m or 30d")]
    Period,
    /// For a [`Period`] of more than a century.
    #[error("expected a time of at most 100 years")]
    TooLong,
    /// For a [`Percent`].
    #[error("expected a percentage from 0% to 100%")]
    Percent,
}

/// The longest period: a time plus a period must never overflow.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

impl Period {
    /// Of so many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl FromStr for Size {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        text.parse::<bytesize::ByteSize>().map(|size| Self(size.as_u64())).map_err(|_| BadUnit::Size)
    }
}

impl FromStr for Period {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let span = humantime::parse_duration(text).map_err(|_| BadUnit::Period)?;
        if span <= LONGEST { Ok(Self(span)) } else { Err(BadUnit::TooLong) }
    }
}

impl FromStr for Percent {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let number = text.strip_suffix('%').and_then(|digits| digits.trim_end().parse().ok());
        number.filter(|share| *share <= 100).map(Self).ok_or(BadUnit::Percent)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bytesize::ByteSize(self.0).display().iec().fmt(f)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// Reads a scalar: numbers need no quotes.
struct Scalar<T>(BadUnit, PhantomData<T>);

impl<T: FromStr<Err = BadUnit>> Visitor<'_> for Scalar<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_string().trim_start_matches("expected "))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.trim().parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scalar(BadUnit::Size, PhantomData))
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scalar(BadUnit::Period, PhantomData))
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scalar(BadUnit::Percent, PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_read_as_people_write_them() {
        assert_eq!("100GiB".parse(), Ok(Size(100 << 30)));
        assert_eq!("5MB".parse(), Ok(Size(5_000_000)));
        assert_eq!("4096".parse(), Ok(Size(4096)));
        assert_eq!("0s".parse(), Ok(Period::seconds(0)));
        assert_eq!("30d".parse(), Ok(Period::seconds(30 * 86_400)));
        assert_eq!("15%".parse(), Ok(Percent(15)));
    }

    #[test]
    fn what_is_no_unit_is_refused_with_an_example() {
        for text in ["", "big", "-1GiB", "1XB"] {
            assert_eq!(text.parse::<Size>(), Err(BadUnit::Size), "{text}");
        }
        for text in ["", "60", "soon", "-1s"] {
            assert_eq!(text.parse::<Period>(), Err(BadUnit::Period), "{text}");
        }
        for text in ["", "15", "101%", "%", "-1%"] {
            assert_eq!(text.parse::<Percent>(), Err(BadUnit::Percent), "{text}");
        }
    }

    #[test]
    fn a_period_never_overflows_a_clock() {
        assert_eq!("1000y".parse::<Period>(), Err(BadUnit::TooLong));
        assert!("100y".parse::<Period>().is_ok());
    }

    #[test]
    fn units_print_what_they_parse() {
        for text in ["100.0 GiB", "1.5 MiB"] {
            assert_eq!(text.parse::<Size>().map(|size| size.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(Period::seconds(90).to_string(), "1m 30s");
    }
}

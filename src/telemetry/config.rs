//! Configures how the log is written.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use tracing::level_filters::LevelFilter;

/// The environment variable of `log.level`.
pub const LEVEL_VARIABLE: &str = "PULLTHROUGH_LOG_LEVEL";

/// The `log:` section. A reload puts `level` and `access` into effect; `format` needs a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The least severe lines to write. Default: info.
    pub level: LogLevel,
    /// Text for people or JSON for collectors. Default: text.
    pub format: Format,
    /// The requests that get a line of their own. Default: all.
    pub access: AccessLog,
}

/// The level of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// Trouble of the proxy itself.
    Error,
    /// Also trouble with an upstream or a client.
    Warn,
    /// Also requests and changes of state.
    #[default]
    Info,
    /// Also the steps of requests.
    Debug,
    /// Everything.
    Trace,
}

/// The format of a log line. Both have UTC times (RFC 3339).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `2026-11-20T10:00:00Z INFO message key=value`
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The requests that are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// All of them.
    #[default]
    All,
    /// All but CONNECT, pings and requests for tokens.
    Pulls,
    /// None.
    Off,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Off => Self::OFF,
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

impl<'de> Deserialize<'de> for LogLevel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Word(&["off", "error", "warn", "info", "debug", "trace"], |word| {
            Some(match word {
                "off" | "false" => Self::Off,
                "error" => Self::Error,
                "warn" => Self::Warn,
                "info" => Self::Info,
                "debug" => Self::Debug,
                "trace" => Self::Trace,
                _ => return None,
            })
        }))
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Word(&["text", "json"], |word| match word {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }))
    }
}

impl<'de> Deserialize<'de> for AccessLog {
    /// `true` and `false` are the words of earlier versions; to YAML 1.1, which some tools write, `off` is `false`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Word(&["all", "pulls", "off"], |word| match word {
            "all" | "true" => Some(Self::All),
            "pulls" => Some(Self::Pulls),
            "off" | "false" => Some(Self::Off),
            _ => None,
        }))
    }
}

/// Reads one of a few words, in any case.
struct Word<T>(&'static [&'static str], fn(&str) -> Option<T>);

impl<T> Visitor<'_> for Word<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, word) in self.0.iter().enumerate() {
            let before = match number {
                0 => "",
                _ if number + 1 == self.0.len() => " or ",
                _ => ", ",
            };
            write!(f, "{before}{word}")?;
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.1)(&text.trim().to_ascii_lowercase()).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        (self.1)(if value { "true" } else { "false" }).ok_or_else(|| E::invalid_type(Unexpected::Bool(value), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        serde_yaml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn each_key_takes_its_words_in_any_case() {
        let levels = [
            ("off", LogLevel::Off),
            ("error", LogLevel::Error),
            (" WARN ", LogLevel::Warn),
            ("Info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ];
        for (word, level) in levels {
            assert_eq!(read(&format!("level: '{word}'")).map(|config| config.level), Ok(level), "{word}");
        }
        let choices = [
            ("all", AccessLog::All),
            ("pulls", AccessLog::Pulls),
            ("off", AccessLog::Off),
            ("true", AccessLog::All),
            ("false", AccessLog::Off),
        ];
        for (word, access) in choices {
            assert_eq!(read(&format!("access: {word}")).map(|config| config.access), Ok(access), "{word}");
        }
        assert_eq!(read("format: json").map(|config| config.format), Ok(Format::Json));
        assert_eq!(read("{}"), Ok(Config::default()));
    }

    #[test]
    fn other_words_are_mistakes_that_name_the_words() {
        for text in ["level: 3", "level: loud", "level: pullthrough=debug", "level: ''", "access: 1", "format: true"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read("access: some").unwrap_err().contains("all, pulls or off"));
    }
}

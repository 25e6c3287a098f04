//! Writes the log to standard error: text or JSON, with UTC times (RFC 3339).

use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::SystemTime;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::access;
use super::follow::Following;
use super::text::TextFields;
use super::writer::LogWriter;
use super::{Config, Format};

/// The thread that writes, once the log is started.
static WRITER: OnceLock<Option<LogWriter>> = OnceLock::new();

/// The environment variable that names the level.
pub const LEVEL_VARIABLE: &str = "PULLTHROUGH_LOG_LEVEL";

/// An unknown level. The error does not name its source: [`LEVEL_VARIABLE`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {0:?}; expected off, error, warn, info, debug or trace")]
pub struct BadLevel(String);

/// Reads a level's name.
///
/// # Errors
/// [`BadLevel`] for anything but `off`, `error`, `warn`, `info`, `debug` and `trace`.
pub fn level(text: &str) -> Result<LevelFilter, BadLevel> {
    let number = text.trim().parse::<u8>().is_ok(); // tracing also accepts 0 to 5, which nobody should rely on
    let known = text.trim().parse().ok().filter(|_| !number && !text.trim().is_empty());
    known.ok_or_else(|| BadLevel(text.to_owned()))
}

/// Starts the log of this process. The level comes from [`LEVEL_VARIABLE`], and is info by default. Only the first call
/// has an effect.
///
/// # Errors
/// [`BadLevel`] if the variable holds an unknown level.
pub fn init(config: &Config) -> Result<(), BadLevel> {
    let level = match std::env::var(LEVEL_VARIABLE) {
        Ok(text) => level(&text)?,
        Err(_) => LevelFilter::INFO,
    };
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let subscriber = match WRITER.get_or_init(|| LogWriter::start(io::stderr()).ok()) {
        Some(writer) => subscriber(config, level, colour, move || writer),
        None => subscriber(config, level, colour, io::stderr),
    };
    // A second call succeeds too: the log is running.
    let _ = subscriber.try_init();
    Ok(())
}

/// Waits until all lines are written. Called before the process ends.
pub fn flush() {
    if let Some(Some(writer)) = WRITER.get() {
        writer.flush();
    }
}

fn subscriber<W>(config: &Config, level: LevelFilter, colour: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let registry = tracing_subscriber::registry().with(filter(config, level));
    match config.format {
        Format::Text => {
            let layer = fmt::layer().with_timer(Utc).with_ansi(colour).with_target(false).fmt_fields(TextFields);
            let layer = layer.map_event_format(|format| Following::text(format.with_ansi(colour)));
            Box::new(registry.with(layer.with_writer(writer)))
        }
        Format::Json => {
            let layer = fmt::layer().json().flatten_event(true).with_timer(Utc).with_current_span(false);
            let layer = layer.map_event_format(Following::json);
            Box::new(registry.with(layer.with_writer(writer)))
        }
    }
}

/// Selects the events to write. Dependencies never log below warn, whatever the level: at debug, an HTTP/2
/// library writes whole header maps, tokens included.
fn filter(config: &Config, level: LevelFilter) -> Targets {
    let access = if config.access { level } else { LevelFilter::OFF };
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("pullthrough", level)
        .with_target(access::TARGET, access)
}

struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        // humantime panics before 1970, which an unset clock may show.
        let now = SystemTime::now().max(SystemTime::UNIX_EPOCH);
        write!(writer, "{}", humantime::format_rfc3339_millis(now))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tracing::{debug, info, warn};

    use super::*;
    use crate::host::RequestId;
    use crate::telemetry::AccessLine;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(config: &Config, level: LevelFilter, act: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let sink = buffer.clone();
        let subscriber = subscriber(config, level, false, move || sink.clone());
        tracing::subscriber::with_default(subscriber, act);
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn line() -> AccessLine {
        AccessLine {
            client: "::ffff:10.0.0.7".parse().unwrap(),
            method: http::Method::GET,
            host: "quay.io".into(),
            registry: Some("quay.io".into()),
            repository: Some("org/app".parse().unwrap()),
            reference: None,
            kind: "manifest",
            outcome: "hit",
            status: 200,
            bytes: 1234,
            elapsed: Duration::from_micros(1500),
            request_id: RequestId::next(),
            path: None,
            detail: Some("a b\n2026 forged".into()),
        }
    }

    #[test]
    fn an_access_line_is_one_line_of_text_whatever_it_holds() {
        let line = line();
        let text = logged(&Config::default(), LevelFilter::INFO, || line.emit());
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
        assert_eq!(
            rest.trim_start(),
            format!(
                "INFO access client=10.0.0.7 method=GET host=quay.io registry=quay.io repository=org/app kind=manifest \
                 outcome=hit status=200 bytes=1234 ms=1.5 request_id={} detail=\"a b\\n2026 forged\"\n",
                line.request_id
            )
        );
    }

    #[test]
    fn an_access_line_is_one_object_of_json() {
        let config = Config { format: Format::Json, access: true };
        let text = logged(&config, LevelFilter::INFO, || line().emit());
        assert_eq!(text.lines().count(), 1);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["message"], "access");
        assert_eq!(json["status"], 200);
        assert_eq!(json["ms"], 1.5);
        assert_eq!(json["detail"], "a b\n2026 forged");
        assert_eq!(json.get("reference"), None);
        assert!(humantime::parse_rfc3339(json["timestamp"].as_str().unwrap()).is_ok());
    }

    #[test]
    fn what_is_written_for_a_request_has_its_id_once() {
        let write = |access: &AccessLine| {
            warn!(fault = "a b", "before");
            let entered = access.request_id.enter();
            warn!(fault = "a b", "within");
            access.emit();
            drop(entered);
        };
        let access = line();
        let id = access.request_id.to_string();
        let text = logged(&Config::default(), LevelFilter::INFO, || write(&access));
        let found: Vec<_> = text.lines().map(|line| line.matches(&format!("request_id={id}")).count()).collect();
        assert_eq!(found, [0, 1, 1], "{text}");
        assert!(text.contains(&format!("WARN within fault=\"a b\" request_id={id}\n")), "{text}");
        let config = Config { format: Format::Json, access: true };
        let json = logged(&config, LevelFilter::INFO, || write(&access));
        let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ids: Vec<_> = lines.iter().map(|line| line["request_id"].as_str()).collect();
        assert_eq!(ids, [None, Some(&*id), Some(&*id)], "{json}");
    }

    #[test]
    fn without_access_only_the_access_lines_are_missing() {
        let config = Config { format: Format::Text, access: false };
        let text = logged(&config, LevelFilter::INFO, || {
            line().emit();
            info!("kept");
        });
        assert!(text.contains("kept") && !text.contains("outcome"), "{text}");
    }

    #[test]
    fn dependencies_stay_at_warn_even_when_we_debug() {
        let text = logged(&Config::default(), LevelFilter::DEBUG, || {
            debug!(target: "h2::codec", "headers");
            warn!(target: "h2::codec", "trouble");
            debug!("our own");
        });
        assert!(!text.contains("headers") && text.contains("trouble") && text.contains("our own"), "{text}");
    }

    #[test]
    fn levels_are_words() {
        assert_eq!(level("debug"), Ok(LevelFilter::DEBUG));
        assert_eq!(level(" WARN "), Ok(LevelFilter::WARN));
        for text in ["", "3", "loud", "pullthrough=debug"] {
            assert_eq!(level(text), Err(BadLevel(text.to_owned())), "{text}");
        }
    }
}

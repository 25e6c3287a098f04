//! Writes the log to standard error: text or JSON, with UTC times (RFC 3339).

use std::io::{self, IsTerminal};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber, error};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::access;
use super::follow::Following;
use super::text::TextFields;
use super::writer::LogWriter;
use super::{AccessLog, Config, Format};

/// The thread that writes, once the log is started.
static WRITER: OnceLock<Option<LogWriter>> = OnceLock::new();

/// What is written, once the log is started.
static SELECTION: OnceLock<Selection> = OnceLock::new();

/// Starts the log of this process. Only the first call has an effect.
pub fn init(config: &Config) {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let selection = SELECTION.get_or_init(|| Selection::of(config)).clone();
    let subscriber = match WRITER.get_or_init(|| LogWriter::start(io::stderr(), dropped_of(config.format)).ok()) {
        Some(writer) => subscriber(config.format, selection, colour, move || writer),
        None => subscriber(config.format, selection, colour, io::stderr),
    };
    if subscriber.try_init().is_ok() && config.format == Format::Json {
        std::panic::set_hook(Box::new(|panic| error!("{panic}"))); // as each line is an object
    }
}

/// Puts another level and another choice of access lines into effect. The format stays.
pub fn adopt(config: &Config) {
    if let Some(selection) = SELECTION.get() {
        selection.adopt(config);
    }
}

/// Writes why the process ends, as JSON: an object for each line of `message`.
pub fn fatal(message: &str) {
    init(&Config { format: Format::Json, ..Config::default() });
    message.lines().for_each(|line| error!("{line}"));
    flush();
}

/// Waits until all lines are written. Called before the process ends.
pub fn flush() {
    if let Some(Some(writer)) = WRITER.get() {
        writer.flush();
    }
}

/// The line that says how many lines are missing, in the log's own format.
fn dropped_of(format: Format) -> fn(u64) -> String {
    fn words(lines: u64) -> String {
        format!("{lines} lines of the log were dropped: its reader is too slow")
    }
    match format {
        Format::Text => |lines| format!("{} WARN {}\n", now(), words(lines)),
        Format::Json => {
            |lines| format!("{{\"timestamp\":\"{}\",\"level\":\"WARN\",\"message\":\"{}\"}}\n", now(), words(lines))
        }
    }
}

fn subscriber<W>(format: Format, selection: Selection, colour: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let registry = tracing_subscriber::registry().with(selection);
    match format {
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

/// Selects the events to write; a reload changes it. Each place that logs asks once and is asked again after a change,
/// so that it costs nothing on the way of a request.
#[derive(Clone)]
struct Selection(Arc<ArcSwap<Targets>>);

impl Selection {
    fn of(config: &Config) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(filter(config))))
    }

    fn adopt(&self, config: &Config) {
        self.0.store(Arc::new(filter(config)));
        tracing::callsite::rebuild_interest_cache();
    }
}

impl<S: Subscriber> Layer<S> for Selection {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        Layer::<S>::register_callsite(&**self.0.load(), metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        Layer::<S>::enabled(&**self.0.load(), metadata, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Layer::<S>::max_level_hint(&**self.0.load())
    }
}

/// Dependencies never log below warn, whatever the level: at debug, an HTTP/2 library writes whole header maps, tokens
/// included.
fn filter(config: &Config) -> Targets {
    let level = LevelFilter::from(config.level);
    let if_any = |is_any| if is_any { level } else { LevelFilter::OFF };
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("pullthrough", level)
        .with_target(access::TARGET, if_any(config.access != AccessLog::Off))
        .with_target(access::BESIDES, if_any(config.access == AccessLog::All))
}

/// The time of a line.
fn now() -> humantime::Rfc3339Timestamp {
    // humantime panics before 1970, which an unset clock may show.
    humantime::format_rfc3339_millis(SystemTime::now().max(SystemTime::UNIX_EPOCH))
}

struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", now())
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
    use crate::telemetry::{AccessLine, LogLevel, UpstreamAnswer};

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

    fn logged(config: &Config, act: impl FnOnce()) -> String {
        logged_by(config, |_| act())
    }

    fn logged_by(config: &Config, act: impl FnOnce(&Selection)) -> String {
        let buffer = Buffer::default();
        let (sink, selection) = (buffer.clone(), Selection::of(config));
        let subscriber = subscriber(config.format, selection.clone(), false, move || sink.clone());
        tracing::subscriber::with_default(subscriber, || act(&selection));
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn line() -> AccessLine {
        AccessLine {
            client: "::ffff:10.0.0.7".parse().unwrap(),
            user: None,
            agent: Some(http::HeaderValue::from_static("docker/27.5.1 go/go1.22")),
            door: "proxy",
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
            upstream: None,
            request_id: RequestId::next(),
            path: None,
            detail: Some("a b\n2026 forged".into()),
        }
    }

    #[test]
    fn an_access_line_is_one_line_of_text_whatever_it_holds() {
        let line = line();
        let text = logged(&Config::default(), || line.emit());
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
        assert_eq!(
            rest.trim_start(),
            format!(
                "INFO access client=10.0.0.7 agent=docker/27.5.1 door=proxy method=GET host=quay.io registry=quay.io \
                 repository=org/app kind=manifest outcome=hit status=200 bytes=1234 ms=1.5 request_id={} detail=\"a b\\n2026 forged\"\n",
                line.request_id
            )
        );
    }

    #[test]
    fn an_access_line_is_one_object_of_json() {
        let config = Config { format: Format::Json, ..Config::default() };
        let upstream = UpstreamAnswer { host: "cdn.quay.io".into(), status: None, elapsed: Duration::from_millis(12) };
        let line = AccessLine { upstream: Some(upstream), user: Some("ci".into()), ..line() };
        let text = logged(&config, || line.emit());
        assert_eq!(text.lines().count(), 1);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&json["message"], &json["user"], &json["door"]), (&"access".into(), &"ci".into(), &"proxy".into()));
        assert_eq!((&json["status"], &json["ms"], &json["upstream_ms"]), (&200.into(), &1.5.into(), &12.0.into()));
        assert_eq!((&json["upstream_host"], json.get("upstream_status")), (&"cdn.quay.io".into(), None));
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
        let text = logged(&Config::default(), || write(&access));
        let found: Vec<_> = text.lines().map(|line| line.matches(&format!("request_id={id}")).count()).collect();
        assert_eq!(found, [0, 1, 1], "{text}");
        assert!(text.contains(&format!("WARN within fault=\"a b\" request_id={id}\n")), "{text}");
        let config = Config { format: Format::Json, ..Config::default() };
        let json = logged(&config, || write(&access));
        let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ids: Vec<_> = lines.iter().map(|line| line["request_id"].as_str()).collect();
        assert_eq!(ids, [None, Some(&*id), Some(&*id)], "{json}");
    }

    #[test]
    fn the_choice_of_access_lines_and_the_level_change_while_the_log_runs() {
        let write = |label: &str| {
            for kind in ["blob", "own", "connect", "ping", "token"] {
                AccessLine { kind, ..line() }.emit();
            }
            info!("{label} info");
            debug!("{label} debug");
        };
        let config = |level, access| Config { level, access, ..Config::default() };
        let text = logged_by(&config(LogLevel::Info, AccessLog::Pulls), |selection| {
            write("first");
            selection.adopt(&config(LogLevel::Debug, AccessLog::Off));
            write("second");
            selection.adopt(&config(LogLevel::Warn, AccessLog::All));
            write("third");
            selection.adopt(&config(LogLevel::Info, AccessLog::All));
            write("fourth");
        });
        let words = |line: &str| {
            let word = line.split(' ').find_map(|field| field.strip_prefix("kind=")).map(str::to_owned);
            word.unwrap_or_else(|| line.split_whitespace().skip(2).collect::<Vec<_>>().join(" "))
        };
        let found: Vec<String> = text.lines().map(words).collect();
        let expected = [
            "blob",
            "own",
            "first info",
            "second info",
            "second debug",
            "blob",
            "own",
            "connect",
            "ping",
            "token",
            "fourth info",
        ];
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn dropped_lines_are_told_in_the_format_of_the_log() {
        let json: serde_json::Value = serde_json::from_str(&dropped_of(Format::Json)(3)).unwrap();
        assert_eq!(json["message"], "3 lines of the log were dropped: its reader is too slow");
        assert!(humantime::parse_rfc3339(json["timestamp"].as_str().unwrap()).is_ok());
        assert!(dropped_of(Format::Text)(3).contains("Z WARN 3 lines"));
    }

    #[test]
    fn dependencies_stay_at_warn_even_when_we_debug() {
        let text = logged(&Config { level: LogLevel::Debug, ..Config::default() }, || {
            debug!(target: "h2::codec", "headers");
            warn!(target: "h2::codec", "trouble");
            debug!("our own");
        });
        assert!(!text.contains("headers") && text.contains("trouble") && text.contains("our own"), "{text}");
    }
}

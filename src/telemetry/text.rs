//! Formats a field for the text log: `key=value`, quoted where a space or a quote would mislead.
//!
//! Threat: a client chooses paths and names; with a raw newline or an escape sequence it could forge lines or
//! control the terminal of their reader. Defence: no control character leaves this file unescaped.

use std::error::Error;
use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

use crate::host::chain;

/// Formats the fields of events and spans.
pub(super) struct TextFields;

impl<'writer> FormatFields<'writer> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = Line { writer, first: true, result: Ok(()) };
        fields.record(&mut line);
        line.result
    }
}

struct Line<'writer> {
    writer: Writer<'writer>,
    first: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn write(&mut self, field: &Field, text: &str) {
        if self.result.is_ok() {
            self.result = self.try_write(field.name(), text);
        }
    }

    /// Writes a value that never needs quotes or escapes.
    fn write_plain(&mut self, field: &Field, value: impl Debug) {
        if self.result.is_ok() {
            self.result = self.space().and_then(|()| write!(self.writer, "{}={value:?}", field.name()));
        }
    }

    fn space(&mut self) -> fmt::Result {
        if std::mem::take(&mut self.first) { Ok(()) } else { self.writer.write_char(' ') }
    }

    fn try_write(&mut self, name: &str, text: &str) -> fmt::Result {
        self.space()?;
        if name == "message" {
            return escaped(&mut self.writer, text, false);
        }
        self.writer.write_str(name)?;
        self.writer.write_char('=')?;
        let plain = !text.is_empty() && !text.contains([' ', '"', '\\', '=']);
        if plain {
            return escaped(&mut self.writer, text, false);
        }
        self.writer.write_char('"')?;
        escaped(&mut self.writer, text, true)?;
        self.writer.write_char('"')
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write_plain(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write_plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.write_plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write_plain(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.write(field, &chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.write(field, &format!("{value:?}"));
    }
}

/// Writes `text` with every control character escaped, and also the quotes if it is `quoted`.
fn escaped(writer: &mut impl Write, text: &str, quoted: bool) -> fmt::Result {
    // Most values are plain: digests, names, numbers. Writing them by characters took a tenth of the CPU of a small
    // hit.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !(quoted && matches!(byte, b'"' | b'\\'))) {
        return writer.write_str(text);
    }
    for c in text.chars() {
        // U+2028 and U+2029 break lines in some viewers; the bidirectional controls reorder what is shown.
        let misleading = c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if misleading || (quoted && matches!(c, '"' | '\\')) {
            write!(writer, "{}", c.escape_default())?;
        } else {
            writer.write_char(c)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let table = [
            ("plain", false, "plain"),
            ("a\nb\r\tc", false, "a\\nb\\r\\tc"),
            ("\u{1b}[31m\u{9b}", false, "\\u{1b}[31m\\u{9b}"),
            ("a\u{202e}b\u{2028}", false, "a\\u{202e}b\\u{2028}"),
            ("grüß\"\\", false, "grüß\"\\"),
            ("say \"hi\"", true, "say \\\"hi\\\""),
        ];
        for (text, quoted, expected) in table {
            let mut out = String::new();
            escaped(&mut out, text, quoted).unwrap();
            assert_eq!(out, expected);
        }
    }
}

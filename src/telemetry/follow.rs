//! Adds the id of the request to each line that is written while a request is worked for.
//!
//! The access line has the field by itself. What is written for no request has none.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::host::RequestId;

/// The field's name.
const FIELD: &str = "request_id";

/// A format of lines with the id at the end of each.
pub(super) struct Following<F> {
    format: F,
    append: fn(&str, RequestId) -> String,
}

impl<F> Following<F> {
    /// Lines of text: `... request_id=ID`.
    pub(super) fn text(format: F) -> Self {
        Self { format, append: |line, id| format!("{line} {FIELD}={id}") }
    }

    /// Lines that are each an object of JSON.
    pub(super) fn json(format: F) -> Self {
        let append = |line: &str, id| match line.strip_suffix('}') {
            Some(open) => format!("{open},\"{FIELD}\":\"{id}\"}}"),
            None => line.to_owned(),
        };
        Self { format, append }
    }
}

impl<S, N, F> FormatEvent<S, N> for Following<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let has_one = event.metadata().fields().field(FIELD).is_some();
        let Some(id) = RequestId::current().filter(|_| !has_one) else {
            return self.format.format_event(ctx, writer, event);
        };
        let mut line = String::new();
        self.format.format_event(ctx, Writer::new(&mut line), event)?;
        writeln!(writer, "{}", (self.append)(line.trim_end(), id))
    }
}

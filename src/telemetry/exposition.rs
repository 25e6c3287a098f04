//! Chooses the text format of the metrics by what a scraper accepts, and writes the older one.
//!
//! The encoder knows OpenMetrics 1.0. Prometheus' own text format 0.0.4 has the same samples; it names a counter's family as its
//! samples are named, knows no type `info`, and has no mark for the end.

use std::fmt::Write as _;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' text format 0.0.4.
    Plain,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Exposition {
    /// The one that these values of `Accept` prefer (RFC 9110, 12.5.1). The older format where they do not name OpenMetrics.
    #[must_use]
    pub fn accepted<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let (mut plain, mut open) = (0.0, 0.0);
        for range in values.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.trim().parse::<f64>().ok()).unwrap_or(1.0);
            match kind.as_str() {
                "application/openmetrics-text" => open = weight.max(open),
                "text/plain" | "text/*" | "*/*" => plain = weight.max(plain),
                _ => {}
            }
        }
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Plain }
    }

    /// Its `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The older format of a page in OpenMetrics, in which the help of a family stands before its type.
pub(super) fn plain(page: &str) -> String {
    let (mut out, mut help) = (String::with_capacity(page.len()), "");
    for line in page.lines() {
        let Some(said) = line.strip_prefix("# ") else {
            out.push_str(line);
            out.push('\n');
            continue;
        };
        if let Some(text) = said.strip_prefix("HELP ") {
            help = text;
        }
        let Some((name, kind)) = said.strip_prefix("TYPE ").and_then(|text| text.split_once(' ')) else { continue };
        let (end, kind) = match kind {
            "counter" => ("_total", "counter"),
            "info" => ("_info", "gauge"),
            "unknown" => ("", "untyped"),
            other => ("", other),
        };
        if let Some(help) = std::mem::take(&mut help).strip_prefix(name) {
            let _ = writeln!(out, "# HELP {name}{end}{help}"); // writing to a string does not fail
        }
        let _ = writeln!(out, "# TYPE {name}{end} {kind}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        let table: [(&[&str], Exposition); 11] = [
            (&[], Exposition::Plain),
            (&["*/*"], Exposition::Plain),
            (&["text/plain"], Exposition::Plain),
            (&["text/plain;version=0.0.4"], Exposition::Plain),
            (&["text/html, application/xhtml+xml;q=0.9, */*;q=0.8"], Exposition::Plain),
            (&["application/openmetrics-text"], Exposition::OpenMetrics),
            (&["text/plain", "Application/OpenMetrics-Text; version=1.0.0"], Exposition::OpenMetrics),
            (&["application/openmetrics-text;q=0"], Exposition::Plain),
            (&["application/openmetrics-text;q=0.4,text/plain;version=0.0.4;q=0.5"], Exposition::Plain),
            (
                &["application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                   text/plain;version=0.0.4;q=0.5,*/*;q=0.1"],
                Exposition::OpenMetrics,
            ),
            (
                &["application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                   application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2"],
                Exposition::OpenMetrics,
            ),
        ];
        for (values, expected) in table {
            assert_eq!(Exposition::accepted(values.iter().copied()), expected, "{values:?}");
        }
    }

    #[test]
    fn the_older_format_has_the_same_samples_under_families_of_their_names() {
        let page = "# HELP a_build The version.\n# TYPE a_build info\na_build_info{version=\"1\"} 1\n\
                    # HELP a_bytes Bytes\n# TYPE a_bytes counter\na_bytes_total 5\n# HELP a_up Up\n# TYPE a_up gauge\na_up 1\n\
                    # TYPE a_x unknown\na_x 2\n# HELP a_s Time\n# TYPE a_s histogram\na_s_bucket{le=\"+Inf\"} 1\n# EOF\n";
        let expected = "# HELP a_build_info The version.\n# TYPE a_build_info gauge\na_build_info{version=\"1\"} 1\n\
                        # HELP a_bytes_total Bytes\n# TYPE a_bytes_total counter\na_bytes_total 5\n# HELP a_up Up\n\
                        # TYPE a_up gauge\na_up 1\n# TYPE a_x untyped\na_x 2\n# HELP a_s Time\n# TYPE a_s histogram\n\
                        a_s_bucket{le=\"+Inf\"} 1\n";
        assert_eq!(plain(page), expected);
    }
}

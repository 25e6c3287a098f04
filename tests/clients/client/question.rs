//! Bare questions, put by curl: many URLs at once, in each form that a client has, over HTTP/1.1 or HTTP/2.

use std::fs;

use super::Way;
use crate::lab::command;

/// How a request for content is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Get,
    Head,
    /// The first bytes.
    Range,
    /// All but the first byte.
    Rest,
}

impl Form {
    /// Each of them.
    pub(crate) const ALL: [Self; 4] = [Self::Get, Self::Head, Self::Range, Self::Rest];

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Get => &[],
            Self::Head => &["--head"],
            Self::Range => &["--range", "0-99"],
            Self::Rest => &["--range", "1-"],
        }
    }
}

/// The answers to several requests.
pub(crate) struct Said {
    /// For each URL its status.
    pub(crate) statuses: Vec<u16>,
    /// The versions of HTTP that were spoken, for each URL: `1.1` or `2`.
    pub(crate) versions: Vec<String>,
    /// All heads and bodies, in their order.
    pub(crate) text: Vec<u8>,
}

/// What curl writes after each answer.
const MARK: &str = "\u{2}answer ";
const TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Asks for each of `urls` on one connection for each host, with an `Authorization` header or none.
pub(crate) fn ask(way: &Way, form: Form, h2: bool, authorization: Option<&str>, urls: &[String]) -> Said {
    let home = tempfile::tempdir().unwrap();
    let mut curl = command("curl", home.path());
    curl.args(["--silent", "--show-error", "--include", "--proxy", &way.proxy, "--cacert"]).arg(&way.trust);
    curl.args(["--suppress-connect-headers", "--max-time", "60"]).arg(if h2 { "--http2" } else { "--http1.1" });
    curl.args(["--header", &format!("Accept: {}", TYPES.join(", "))]).args(form.arguments());
    if let Some(value) = authorization {
        curl.args(["--header", &format!("Authorization: {value}")]);
    }
    curl.args(["--write-out", &format!("{MARK}%{{http_code}} %{{http_version}} %{{url}}\n")]);
    for url in urls {
        curl.arg("--output").arg("-").arg(url); // binary bytes too
    }
    let file = home.path().join("said");
    curl.stdout(fs::File::create(&file).unwrap());
    let status = curl.status().unwrap();
    let text = fs::read(&file).unwrap();
    let shown = String::from_utf8_lossy(&text);
    let marks = shown.split(MARK).skip(1).map(|rest| rest.lines().next().unwrap_or_default());
    let (mut statuses, mut versions) = (Vec::new(), Vec::new());
    for (line, url) in marks.zip(urls) {
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(words.get(2), Some(&url.as_str()), "{line}");
        statuses.push(words[0].parse().unwrap());
        versions.push(words[1].to_owned());
    }
    assert_eq!(statuses.len(), urls.len(), "curl: {status}\n{shown}");
    Said { statuses, versions, text }
}

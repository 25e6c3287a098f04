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
    pub(crate) answers: Vec<Answer>,
    /// All heads and bodies, in their order.
    pub(crate) text: String,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) form: Form,
    pub(crate) url: String,
    /// 0 where there was none.
    pub(crate) status: u16,
}

/// What curl writes after each answer.
const MARK: &str = "\u{2}answer ";
const TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Asks for each of `urls` in each form, by HTTP/2 or by HTTP/1.1, with an `Authorization` header or none.
/// One connection for each host, and one program for all: starting it costs more than an answer.
pub(crate) fn ask(way: &Way, forms: &[Form], h2: bool, authorization: Option<&str>, urls: &[String]) -> Said {
    let home = tempfile::tempdir().unwrap();
    let mut curl = command("curl", home.path());
    curl.args(["--silent", "--show-error"]);
    for (index, form) in forms.iter().enumerate() {
        if index > 0 {
            curl.arg("--next"); // what follows holds for these alone
        }
        curl.args(["--include", "--proxy", &way.proxy, "--cacert"]).arg(&way.trust);
        curl.args(["--suppress-connect-headers", "--max-time", "60"]).arg(if h2 { "--http2" } else { "--http1.1" });
        curl.args(["--header", &format!("Accept: {}", TYPES.join(", "))]).args(form.arguments());
        if let Some(value) = authorization {
            curl.args(["--header", &format!("Authorization: {value}")]);
        }
        curl.args(["--write-out", &format!("{MARK}%{{http_code}} %{{http_version}} %{{url}}\n")]);
        for url in urls {
            curl.arg("--output").arg("-").arg(url); // binary bytes too
        }
    }
    let file = home.path().join("said");
    curl.stdout(fs::File::create(&file).unwrap());
    let ended = curl.status().unwrap();
    let shown = fs::read(&file).unwrap();
    let shown = String::from_utf8_lossy(&shown);
    let marks: Vec<_> = shown.split(MARK).skip(1).map(|rest| rest.lines().next().unwrap_or_default()).collect();
    assert_eq!(marks.len(), forms.len() * urls.len(), "curl: {ended}\n{shown}");
    let asked = forms.iter().flat_map(|form| urls.iter().map(move |url| (form, url)));
    let answers = marks.iter().zip(asked).map(|(mark, (form, url))| {
        let (status, rest) = mark.split_once(' ').unwrap();
        let version = if h2 { "2" } else { "1.1" };
        assert_eq!(rest, format!("{version} {url}"), "{form:?}: status {status}");
        Answer { form: *form, url: url.clone(), status: status.parse().unwrap() }
    });
    let rest = shown.split(MARK).skip(1).filter_map(|rest| Some(rest.split_once('\n')?.1));
    let text = shown.split(MARK).take(1).chain(rest).collect();
    Said { answers: answers.collect(), text }
}

//! Request targets as an attacker would spell them: a route of the protocol, and up to three changes to it.

use crate::chance::Chance;

/// A request that is put to one upstream.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) form: Form,
    pub(crate) method: &'static str,
    /// Path and query, with any bytes.
    pub(crate) target: Vec<u8>,
}

/// How it is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `GET /path`, in a tunnel.
    Origin,
    /// `GET https://host/path`, in a tunnel.
    Absolute,
    /// `:path`, in a tunnel.
    H2,
    /// `GET http://host:443/path`, on the proxy's own port.
    Outside,
}

/// Where no rule lets anybody in.
pub(crate) const CLOSED: &str = "closed/";
const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What tells the request of one number in whatever an upstream logs.
pub(crate) fn mark(number: usize) -> String {
    format!("zq{number:05}")
}

/// The number whose mark is in a target, however it is spelt.
pub(crate) fn marked(raw: &str) -> Option<usize> {
    let mut text = raw.as_bytes().to_vec();
    for _ in 0..4 {
        text = decoded(&text);
    }
    let text = text.to_ascii_lowercase();
    let at = text.windows(2).position(|pair| pair == b"zq")?;
    std::str::from_utf8(text.get(at + 2..at + 7)?).ok()?.parse().ok()
}

impl Case {
    /// The request of one number, the same on each run.
    pub(crate) fn of(number: usize, chance: &mut Chance) -> Self {
        let form = match chance.below(12) {
            0..6 => Form::Origin,
            6 | 7 => Form::Absolute,
            8..11 => Form::H2,
            _ => Form::Outside,
        };
        let method = match chance.below(10) {
            0..6 => "GET",
            6 | 7 => "HEAD",
            _ => chance.pick(&["PUT", "POST", "DELETE", "PATCH", "OPTIONS"]),
        };
        let mark = mark(number);
        if chance.below(10) == 0 {
            return Self { form, method: "POST", target: mount(&mark, chance) };
        }
        let mut target = route(&mark, chance).into_bytes();
        for _ in 0..chance.below(6).saturating_sub(2) {
            let changed = change(&target, chance);
            let kept = marked(&String::from_utf8_lossy(&changed)) == Some(number);
            // A line's end within a line of HTTP/1.1 makes two requests, each of which is as it stands there.
            let fits = form == Form::H2 || !changed.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
            if kept && fits {
                target = changed;
            }
        }
        Self { form, method, target }
    }
}

/// A route of the protocol, or something beside it, for a repository of that mark.
fn route(mark: &str, chance: &mut Chance) -> String {
    if chance.below(8) == 0 {
        let beside = [
            "/v1/{}/images",
            "/{}",
            "/v2/{}",
            "/v2/_catalog?last={}",
            "/v2/auth?scope={}",
            "/token?scope={}",
            "/v2/{}/x/y",
        ];
        return chance.pick(&beside).replace("{}", mark);
    }
    let name = chance.pick(&["{}", "lab/{}", "{}/app", "lab/{}/deep", "closed/{}", "closed/{}/app"]);
    let end = match chance.below(7) {
        0 => "/manifests/1.0".to_owned(),
        1 => "/manifests/latest".to_owned(),
        2 => format!("/manifests/{DIGEST}"),
        3 => format!("/blobs/{DIGEST}"),
        4 => "/tags/list".to_owned(),
        5 => format!("/referrers/{DIGEST}"),
        _ => "/blobs/uploads/".to_owned(),
    };
    format!("/v2/{}{end}", name.replace("{}", mark))
}

/// A mount of a blob out of a repository that is closed, its parameter spelt somehow.
fn mount(mark: &str, chance: &mut Chance) -> Vec<u8> {
    let mut from = format!("from={CLOSED}{mark}").into_bytes();
    for _ in 0..chance.below(3) {
        let at = chance.below(from.len() as u64) as usize;
        from = encode(&from, at, chance);
    }
    let from = String::from_utf8(from).unwrap();
    let query = chance.pick(&[
        "mount={d}&{f}",
        "{f}&mount={d}",
        "mount={d}&from=lab/open&{f}",
        "mount={d};{f}",
        "x=%zz&{f}&mount={d}",
    ]);
    format!("/v2/lab/{mark}/blobs/uploads/?{}", query.replace("{d}", DIGEST).replace("{f}", &from)).into_bytes()
}

/// Other spellings of a step in a path, in place of a slash.
const STEPS: [&str; 12] =
    ["//", "/./", "/../", "/x/../", "/%2e/", "/%2e%2e/", "/x/%2E%2e/", "/.%2e/", "%2f", "%2F", "%252f", "/;/"];
/// Bytes that somebody may read in another way.
const BYTES: [&[u8]; 24] = [
    b"%00",
    b"%0a",
    b"%20",
    b" ",
    b";",
    b";x=y",
    b"\\",
    b"%5c",
    b"#",
    b"#f",
    b"%",
    b"%4",
    b"%zz",
    b"\t",
    b"\0",
    b"\xc3\xa9",
    b"%c3%a9",
    b"%c0%af",
    b"+",
    b"?",
    b":",
    b"@",
    b"\r\n",
    b"%0d%0a",
];
/// Other spellings of the first step.
const ROOTS: [&str; 14] = [
    "/V2/",
    "/%762/",
    "/v%32/",
    "//v2/",
    "/./v2/",
    "/x/../v2/",
    "/v2//",
    "/v2%2f",
    "/v2/./",
    "/v2;a=b/",
    "/v2\\",
    "\\v2/",
    "/v2/%2e/",
    "v2/",
];
const QUERIES: [&[u8]; 12] = [
    b"?n=1",
    b"?n=%31",
    b"?a;b",
    b"?%zz",
    b"?a=%00",
    b"??",
    b"?a=b&a=c",
    b"?a=%26b%3dc",
    b"?+=+",
    b"?",
    b"?a=b#c",
    b"?last=\xc3\xa9",
];

fn change(target: &[u8], chance: &mut Chance) -> Vec<u8> {
    let at = chance.below(target.len() as u64) as usize;
    match chance.below(8) {
        0 | 1 => encode(target, at, chance),
        2 => {
            let slashes: Vec<usize> = (0..target.len()).filter(|at| target[*at] == b'/').collect();
            let Some(at) = slashes.get(chance.below(slashes.len().max(1) as u64) as usize) else {
                return target.to_vec();
            };
            [&target[..*at], chance.pick(&STEPS).as_bytes(), &target[at + 1..]].concat()
        }
        3 => [target, chance.pick(&[b"/".as_slice(), b"/.", b"/..", b"%2f", chance_of(&BYTES, at)])].concat(),
        4 => [&target[..at], chance.pick(&BYTES), &target[at..]].concat(),
        5 => {
            let mut changed = target.to_vec();
            if changed[at].is_ascii_alphabetic() {
                changed[at] ^= 0x20;
            }
            changed
        }
        6 => {
            let rest = target.strip_prefix(b"/v2/").unwrap_or(target);
            [chance.pick(&ROOTS).as_bytes(), rest].concat()
        }
        _ => [target, chance.pick(&QUERIES)].concat(),
    }
}

fn chance_of(list: &[&'static [u8]], at: usize) -> &'static [u8] {
    list[at % list.len()]
}

/// One byte as its code, or as the code of its code.
fn encode(target: &[u8], at: usize, chance: &mut Chance) -> Vec<u8> {
    let byte = target[at];
    let code = match chance.below(4) {
        0 => format!("%{byte:02X}"),
        1 => format!("%25{byte:02x}"),
        _ => format!("%{byte:02x}"),
    };
    [&target[..at], code.as_bytes(), &target[at + 1..]].concat()
}

/// With each whole code of a byte taken for that byte.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match code {
            Some(byte) if *first == b'%' => {
                plain.push(byte);
                rest = &tail[2..];
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

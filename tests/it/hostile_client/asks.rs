//! Requests that are well formed and make no sense, or too much of it: ranges, conditions, types, credentials, queries,
//! tokens. Asked of a registry inside CONNECT, in both protocols, of content that is cached.
//!
//! A cell has the status, how long the body is in bytes (`B`), and how many requests went upstream (`^`).

use pullthrough::wire::Body;

use super::site::{QUAY, Site};
use super::table::Observed;
use crate::support::client::{Session, whole};

/// One question; `BLOB` and `MANIFEST` in its path stand for digests.
struct Ask {
    kind: &'static str,
    method: &'static str,
    path: String,
    fields: Vec<(&'static str, String)>,
    body: String,
}

const BLOB: &str = "/v2/open/app/blobs/BLOB";
const TAG: &str = "/v2/open/app/manifests/latest";
const LIST: &str = "/v2/open/app/tags/list";
const TOKEN: &str = "/v2/_pullthrough/token";

fn ask(kind: &'static str, path: &str, fields: &[(&'static str, &str)]) -> Ask {
    let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Ask { kind, method: "GET", path: path.to_owned(), fields, body: String::new() }
}

fn range(kind: &'static str, value: &str) -> Ask {
    ask(kind, BLOB, &[("range", value)])
}

fn post(kind: &'static str, media_type: &'static str, form: &str) -> Ask {
    Ask { method: "POST", body: form.to_owned(), ..ask(kind, TOKEN, &[("content-type", media_type)]) }
}

fn list<T: std::fmt::Display>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

fn ranges() -> Vec<Ask> {
    let singles = |count: u32| format!("bytes={}", list((0..count).map(|at| format!("{0}-{0}", at * 2))));
    vec![
        range("a range", "bytes=10-19"),
        range("500 ranges of a byte", &singles(500)),
        range("5,000 ranges of a byte", &singles(5000)),
        range("1,000 times the whole", &format!("bytes={}", list((0..1000).map(|_| "0-")))),
        range("ranges that overlap", "bytes=0-600,500-999,100-200"),
        range("ranges backwards", "bytes=900-999,0-9"),
        range("ranges that touch", "bytes=0-9,10-19"),
        range("a range of huge numbers", "bytes=18446744073709551615-18446744073709551616"),
        range("a range of 2,000 digits", &format!("bytes=0-{}", "9".repeat(2000))),
        range("the last 10^30 bytes", &format!("bytes=-1{}", "0".repeat(30))),
        range("the last 0 bytes", "bytes=-0"),
        range("a range behind the end", "bytes=1000-"),
        range("a range backwards", "bytes=9-5"),
        range("a range with two dashes", "bytes=0--5"),
        range("a range with a sign", "bytes=+0-5"),
        range("a range without numbers", "bytes=-"),
        range("a range of another unit", "lines=1-2"),
        range("a range without a unit", "0-5"),
        range("a range with spaces", "bytes = 0 - 5"),
        range("an empty range", ""),
        range("a list with an empty range", "bytes=0-4,,10-14"),
        ask("two fields of ranges", BLOB, &[("range", "bytes=0-4"), ("range", "bytes=10-14")]),
        ask("a range if nonsense", BLOB, &[("range", "bytes=0-4"), ("if-range", "nonsense")]),
        ask("a range if a date", BLOB, &[("range", "bytes=0-4"), ("if-range", "Thu, 01 Jan 1970 00:00:00 GMT")]),
        ask("a range of a manifest", TAG, &[("range", "bytes=0-4")]),
        ask("a range of a list", LIST, &[("range", "bytes=0-4")]),
    ]
}

fn conditions() -> Vec<Ask> {
    let many = list((0..2000).map(|number| format!("\"{number}\"")));
    vec![
        ask("If-None-Match: *", BLOB, &[("if-none-match", "*")]),
        ask("If-None-Match of nonsense", BLOB, &[("if-none-match", "W/W/\"\"\",,*x")]),
        ask("If-None-Match of 2,000 tags", BLOB, &[("if-none-match", &many)]),
        ask("If-None-Match without quotation marks", TAG, &[("if-none-match", "sha256:00")]),
        ask("If-Match of another", BLOB, &[("if-match", "\"other\"")]),
        ask("If-Modified-Since of nonsense", BLOB, &[("if-modified-since", "yesterday")]),
        ask("If-Unmodified-Since 1970", BLOB, &[("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT")]),
        ask("a condition and a range", BLOB, &[("if-none-match", "*"), ("range", "bytes=0-4")]),
        ask("a condition on what is not there", "/v2/open/app/manifests/none", &[("if-none-match", "*")]),
    ]
}

fn types() -> Vec<Ask> {
    let many = list((0..3000).map(|number| format!("a/t{number}")));
    vec![
        ask("Accept of 3,000 types", TAG, &[("accept", &many)]),
        ask("Accept of nothing", TAG, &[("accept", "")]),
        ask("Accept of nonsense", TAG, &[("accept", ";;/,=;q=")]),
        ask("Accept of everything but at 0", TAG, &[("accept", "*/*;q=0")]),
        ask("Accept of HTML", TAG, &[("accept", "text/html")]),
        ask("Accept-Encoding of gzip", BLOB, &[("accept-encoding", "gzip, identity;q=0")]),
        ask("Accept-Language and Cache-Control", BLOB, &[("accept-language", "tlh"), ("cache-control", "no-store")]),
        ask("Expect of a miracle", BLOB, &[("expect", "a-miracle")]),
    ]
}

fn credentials() -> Vec<Ask> {
    let with = |kind, value: &str| ask(kind, TAG, &[("authorization", value)]);
    vec![
        with("an empty Authorization", ""),
        with("a scheme alone", "Basic"),
        with("Basic of nonsense", "Basic !!!"),
        with("Basic without a colon", "Basic eHh4"),
        with("Basic of NULs", "Basic AAA6AAA="),
        with("Basic of no UTF-8", "Basic //46/v8="),
        with("an empty bearer", "Bearer "),
        with("a bearer of 50,000 letters", &format!("Bearer {}", "x".repeat(50_000))),
        with("a bearer like one of ours", "Bearer pullthrough-local.AAAA.BBBB"),
        with("Negotiate", "Negotiate YII="),
        with("Digest", "Digest username=\"x\", realm=\"y\""),
        with("a scheme that nobody has", "Pigeon coo"),
        ask("two Authorizations", TAG, &[("authorization", "Basic YTpi"), ("authorization", "Basic Yzpk")]),
        ask("Proxy-Authorization of nonsense", TAG, &[("proxy-authorization", "Basic !!!")]),
        ask("Proxy-Authorization of no UTF-8", TAG, &[("proxy-authorization", "Basic //46/v8=")]),
        ask("1,000 cookies", TAG, &[("cookie", &"a=b; ".repeat(1000))]),
    ]
}

fn queries() -> Vec<Ask> {
    let of = |kind, query: &str| ask(kind, &format!("{LIST}?{query}"), &[]);
    vec![
        of("a query", "n=5"),
        of("a query of nothing", ""),
        of("a query of separators", "&&&&"),
        of("a negative number", "n=-1"),
        of("a parameter twice", "n=1&n=2"),
        of("a semicolon", "n=1;last=x"),
        of("a broken escape", "n=%zz"),
        of("an escaped NUL", "last=%00"),
        of("an escaped line end", "last=%0d%0aX:%20y"),
        of("bytes that are no UTF-8, escaped", "last=%ff%fe"),
        of("a plus and a space", "last=a+b%20c"),
        of("a question mark", "last=a?b"),
        of("a query of 50,000 letters", &"x".repeat(50_000)),
        ask("a query on a blob", &format!("{BLOB}?X-Amz-Signature=x"), &[]),
        ask("a query on a tag", &format!("{TAG}?tag=other"), &[]),
        ask("a query on the ping", "/v2/?from=internal", &[]),
        ask("a path of 50,000 letters", &format!("/v2/{}/manifests/latest", "x".repeat(50_000)), &[]),
        ask("a path of 5,000 segments", &format!("/v2/{}manifests/latest", "a/".repeat(5000)), &[]),
        ask("a tag of 200 letters", &format!("/v2/open/app/manifests/{}", "x".repeat(200)), &[]),
        ask("a digest in upper case", "/v2/open/app/blobs/sha256:ABCDEF", &[]),
    ]
}

fn tokens() -> Vec<Ask> {
    let of = |kind, query: &str| ask(kind, &format!("{TOKEN}?{query}"), &[]);
    const FORM: &str = "application/x-www-form-urlencoded";
    vec![
        of("a token", "scope=repository:open/app:pull"),
        of("a token for nothing", ""),
        of("a token to push", "scope=repository:open/app:pull,push"),
        of("a token for everything", "scope=registry:catalog:*"),
        of("a scope of nonsense", "scope=::::"),
        of("a scope without a name", "scope=repository::pull"),
        of("an empty scope", "scope="),
        of("2,000 scopes", &"scope=repository:a:pull&".repeat(2000)),
        of("a scope with a broken escape", "scope=%zz"),
        of("a scope with an escaped line end", "scope=repository:a%0ab:pull"),
        of("two services", "service=a&service=b"),
        ask("a token with a broken password", TOKEN, &[("authorization", "Basic !!!")]),
        Ask { method: "PUT", ..of("a token by PUT", "") },
        Ask { method: "HEAD", ..of("a token by HEAD", "") },
        post("a form of nothing", FORM, ""),
        post("a form that is no form", FORM, "{\"scope\": \"repository:open/app:pull\"}"),
        post("a form with a broken escape", FORM, "grant_type=%zz"),
        post("a form of another type", "application/json", "scope=repository:open/app:pull"),
        post("a form with two passwords", FORM, "grant_type=password&username=a&password=b&password=c"),
        post("a form of 100,000 letters", FORM, &format!("scope={}", "x".repeat(100_000))),
        Ask { body: "x".to_owned(), ..of("a token by GET with a body", "") },
    ]
}

async fn answer(session: &mut Session, site: &Site, ask: &Ask) -> String {
    let path = ask.path.replace("BLOB", &site.image.layers[0].to_string());
    let before = site.reached();
    let fields: Vec<(&str, &str)> = ask.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let body = if ask.body.is_empty() { Body::empty() } else { Body::full(ask.body.clone()) };
    let Ok(answer) = session.send(ask.method, &path, &fields, body).await else { return "end".to_owned() };
    let answer = whole(answer).await;
    let length = match &answer.body {
        Ok(bytes) if answer.status.is_success() => format!(" {}B", bytes.len()),
        Ok(_) => String::new(),
        Err(_) => " cut".to_owned(),
    };
    let reached = site.reached() - before;
    let reached = if reached > 0 { format!(" ^{reached}") } else { String::new() };
    format!("{}{length}{reached}", answer.status.as_u16())
}

async fn compare(asks: Vec<Ask>, expected: &str) {
    // Each protocol has a site of its own, so that what one has learnt the other does not know.
    let (one, two) = (Site::new("").await, Site::new("").await);
    let mut observed = Observed::at(vec!["HTTP/1.1", "HTTP/2"]);
    for ask in &asks {
        let first = answer(&mut one.proxy.client().session(QUAY).await, &one, ask).await;
        let second = answer(&mut two.proxy.client().h2().session(QUAY).await, &two, ask).await;
        observed.row(ask.kind, vec![first, second]);
        one.is_well(ask.kind).await;
        two.is_well(ask.kind).await;
    }
    observed.compare(expected);
}

#[tokio::test]
async fn ranges_and_conditions_that_make_no_sense_are_answered_as_the_table_says() {
    compare([ranges(), conditions()].into_iter().flatten().collect(), include_str!("ranges.txt")).await;
}

#[tokio::test]
async fn types_and_credentials_that_make_no_sense_are_answered_as_the_table_says() {
    compare([types(), credentials()].into_iter().flatten().collect(), include_str!("credentials.txt")).await;
}

#[tokio::test]
async fn queries_and_tokens_that_make_no_sense_are_answered_as_the_table_says() {
    compare([queries(), tokens()].into_iter().flatten().collect(), include_str!("queries.txt")).await;
}

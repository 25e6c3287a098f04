//! Redirects are followed as clients would, and give nothing away.

use super::*;

const SECRETS: [(&str, &str); 4] =
    [("authorization", "Bearer t0p"), ("cookie", "a=b"), ("private-token", "t0p"), ("x-registry-auth", "t0p")];

fn with_secrets(path: &str) -> Request<()> {
    let mut request = Request::get(path).header("accept", "*/*").header("range", "bytes=1-2");
    for (name, value) in SECRETS {
        request = request.header(name, value);
    }
    request.body(()).unwrap()
}

/// A registry whose blobs are at a CDN.
struct Pair {
    registry: Registry,
    cdn: Registry,
    upstream: Upstream,
    path: String,
}

const CONTENT: &[u8] = b"the layer's bytes";

impl Pair {
    fn new() -> Self {
        let registry = Registry::start("quay.io");
        let cdn = registry.sibling(Setup::named("cdn.quay.io"));
        let digest = registry.push_blob("org/app", CONTENT);
        let upstream = upstream(&hosts(&[&cdn]), &[&registry]);
        Self { registry, cdn, upstream, path: format!("/v2/org/app/blobs/{digest}") }
    }

    fn redirect(&self, status: u16, location: &str) {
        self.registry.script("*/blobs/*", Act::Redirect { status, location: location.to_owned() });
    }

    async fn fetch(&self, request: Request<()>) -> Result<Response<Body>, Error> {
        self.upstream.fetch(&endpoint(&self.registry), request).await
    }
}

#[tokio::test]
async fn every_redirect_status_is_followed() {
    for status in [301, 302, 303, 307, 308] {
        let pair = Pair::new();
        pair.redirect(status, &format!("{}{{path}}?sig=s", pair.cdn.url()));
        let answer = pair.fetch(get(&pair.path)).await.unwrap();
        let hop = answer.extensions().get::<FinalHop>().unwrap();
        assert_eq!(
            (hop.redirects, hop.authority.to_string()),
            (1, format!("cdn.quay.io:{}", pair.cdn.address().port()))
        );
        assert_eq!(bytes(answer).await.unwrap(), CONTENT, "{status}");
        assert_eq!(pair.cdn.requests()[0].query, "sig=s");
    }
}

#[tokio::test]
async fn other_statuses_are_the_callers_business() {
    for status in [300, 305, 401, 404, 503] {
        let pair = Pair::new();
        pair.redirect(status, &format!("{}{{path}}", pair.cdn.url()));
        let mut asked = get(&pair.path);
        asked.headers_mut().insert("if-none-match", "\"x\"".parse().unwrap()); // else 304 is no answer
        assert_eq!(pair.fetch(asked).await.unwrap().status(), status);
        assert_eq!(pair.cdn.count("*"), 0);
    }
    // That something has not changed is an answer to a condition, and there was none.
    let pair = Pair::new();
    pair.redirect(304, &format!("{}{{path}}", pair.cdn.url()));
    assert!(matches!(pair.fetch(get(&pair.path)).await, Err(Error::Misfit { .. })));
}

#[tokio::test]
async fn send_follows_nothing() {
    let pair = Pair::new();
    pair.redirect(307, &format!("{}{{path}}", pair.cdn.url()));
    let answer = pair.upstream.send(&endpoint(&pair.registry), exchange(&pair.path)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(pair.cdn.count("*"), 0);
}

#[tokio::test]
async fn head_stays_head_on_every_hop() {
    for status in [302, 303, 307] {
        let pair = Pair::new();
        pair.redirect(status, &format!("{}{{path}}", pair.cdn.url()));
        let answer = pair.fetch(Request::head(&pair.path).body(()).unwrap()).await.unwrap();
        assert_eq!(answer.headers()["content-length"], CONTENT.len().to_string());
        assert_eq!((pair.cdn.count("HEAD *"), pair.cdn.count("GET *")), (1, 0));
    }
}

#[tokio::test]
async fn a_relative_location_stays_on_the_host_and_its_connection() {
    let pair = Pair::new();
    pair.registry.script("/v2/*", Act::Redirect { status: 302, location: "/downloads{path}".to_owned() });
    let answer = pair.fetch(with_secrets(&pair.path)).await.unwrap();
    assert_eq!(bytes(answer).await.unwrap(), CONTENT[1..3]);
    let seen = pair.registry.requests();
    assert_eq!(seen[1].path, format!("/downloads{}", pair.path));
    assert_eq!(seen[1].headers["authorization"], "Bearer t0p");
    assert_eq!(pair.registry.connections(), 1);
}

#[tokio::test]
async fn several_hops_are_followed() {
    let pair = Pair::new();
    let to_cdn = Act::Redirect { status: 307, location: format!("{}/first{{path}}", pair.cdn.url()) };
    pair.registry.script_times(1, "*", to_cdn);
    pair.cdn.script("/first*", Act::Redirect { status: 302, location: "/second".to_owned() });
    pair.cdn
        .script("/second", Act::Redirect { status: 301, location: format!("{}{}", pair.registry.url(), pair.path) });
    let answer = pair.fetch(get(&pair.path)).await.unwrap();
    assert_eq!(answer.extensions().get::<FinalHop>().unwrap().redirects, 3);
    assert_eq!(bytes(answer).await.unwrap(), CONTENT);
    assert_eq!((pair.registry.count("*"), pair.cdn.count("*")), (2, 2));
}

#[tokio::test]
async fn credentials_do_not_leave_and_do_not_return() {
    let pair = Pair::new();
    pair.registry.script_times(
        1,
        "*/blobs/*",
        Act::Redirect { status: 307, location: format!("{}{{path}}", pair.cdn.url()) },
    );
    pair.cdn.script("*", Act::Redirect { status: 307, location: format!("{}{{path}}", pair.registry.url()) });
    let answer = pair.fetch(with_secrets(&pair.path)).await.unwrap();
    assert_eq!(bytes(answer).await.unwrap(), CONTENT[1..3]);
    let (home, away) = (pair.registry.requests(), pair.cdn.requests());
    assert_eq!((home.len(), away.len()), (2, 1));
    for (name, value) in SECRETS {
        assert_eq!(home[0].headers[name], value);
        assert!(!away[0].headers.contains_key(name), "{name} left");
        assert!(!home[1].headers.contains_key(name), "{name} came back");
    }
    for seen in [&away[0], &home[1]] {
        assert_eq!(
            (&seen.headers["accept"], &seen.headers["range"]),
            (&"*/*".parse().unwrap(), &"bytes=1-2".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn another_port_of_the_same_name_is_another_host() {
    let registry = Registry::start("quay.io");
    let other = registry.sibling(Setup::named("quay.io"));
    let digest = registry.push_blob("a", CONTENT);
    let upstream = upstream(&hosts(&[&other]), &[&registry]);
    registry.script("*", Act::Redirect { status: 307, location: format!("{}{{path}}", other.url()) });
    let request = with_secrets(&format!("/v2/a/blobs/{digest}"));
    assert_eq!(upstream.fetch(&endpoint(&registry), request).await.unwrap().status(), 206);
    assert!(!other.requests()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_loop_ends_after_ten_redirects() {
    let pair = Pair::new();
    pair.redirect(302, "{path}");
    let error = pair.fetch(get(&pair.path)).await.unwrap_err();
    assert!(matches!(error, Error::Redirects { limit: 10, .. }), "{error}");
    assert_eq!(pair.registry.count("*"), 11);
}

#[tokio::test]
async fn ten_redirects_are_not_too_many() {
    let pair = Pair::new();
    pair.registry.script_times(10, "*", Act::Redirect { status: 302, location: "{path}".to_owned() });
    assert_eq!(bytes(pair.fetch(get(&pair.path)).await.unwrap()).await.unwrap(), CONTENT);
}

#[tokio::test]
async fn no_redirect_leads_from_https_to_http() {
    let pair = Pair::new();
    let plain = pair.registry.sibling(Setup { certificate: None, ..Setup::named("plain.example") });
    pair.redirect(307, &format!("{}{{path}}?sig=secret", plain.url()));
    let error = pair.fetch(get(&pair.path)).await.unwrap_err();
    assert!(matches!(error, Error::InsecureRedirect { .. }), "{error}");
    assert_eq!(plain.connections(), 0);
}

#[tokio::test]
async fn http_may_redirect_to_https() {
    let plain = Registry::plain("plain.example");
    let secure = plain.sibling(Setup::named("quay.io"));
    let digest = plain.push_blob("a", CONTENT);
    let upstream = upstream(&hosts(&[&secure]), &[&plain]);
    plain.script("*", Act::Redirect { status: 301, location: format!("{}{{path}}", secure.url()) });
    let answer = upstream.fetch(&endpoint(&plain), with_secrets(&format!("/v2/a/blobs/{digest}"))).await.unwrap();
    assert_eq!(bytes(answer).await.unwrap(), CONTENT[1..3]);
    assert!(!secure.requests()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_location_that_leads_nowhere_is_an_error_without_its_text() {
    for location in ["ftp://cdn.quay.io/secret", "https://user:secret@cdn.quay.io/", "https://cdn quay.io/secret"] {
        let pair = Pair::new();
        pair.redirect(302, location);
        let error = pair.fetch(get(&pair.path)).await.unwrap_err();
        assert!(matches!(error, Error::BadLocation { .. }), "{location}: {error}");
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
    let pair = Pair::new();
    pair.registry.script("*", Act::Status(302));
    assert!(matches!(pair.fetch(get(&pair.path)).await.unwrap_err(), Error::BadLocation { .. }));
}

#[tokio::test]
async fn a_hop_obeys_the_address_rules() {
    let inside = Registry::plain("inside.example");
    let at = inside.address();
    let port = at.port();
    for location in [
        format!("https://127.0.0.1:{port}/"),
        format!("https://[::ffff:127.0.0.1]:{port}/"),
        format!("https://127.1:{port}/"),
        format!("https://2130706433:{port}/"),
        format!("https://0x7f000001:{port}/"),
        format!("https://localhost:{port}/"),
        format!("https://0.0.0.0:{port}/"),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "https://10.0.0.1/".to_owned(),
        "https://[::1]/".to_owned(),
    ] {
        let pair = Pair::new();
        pair.redirect(307, &location);
        let error = pair.fetch(get(&pair.path)).await.unwrap_err();
        assert!(matches!(error, Error::Forbidden(_)), "{location}: {error}");
    }
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn a_signed_query_is_in_no_error() {
    let pair = Pair::new();
    pair.redirect(307, &format!("{}{{path}}?X-Amz-Signature=t0psecret", pair.cdn.url()));
    pair.cdn.script("*", Act::Reset);
    let error = pair.fetch(get(&pair.path)).await.unwrap_err();
    assert!(matches!(error, Error::Exchange { .. }));
    let mut text = format!("{error:?}");
    let mut next: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = next {
        text.push_str(&error.to_string());
        next = error.source();
    }
    assert!(!text.contains("t0psecret"), "{text}");
}

#[tokio::test]
async fn a_redirect_whose_announced_body_never_comes_costs_nothing() {
    for length in ["Content-Length: 154", "Transfer-Encoding: chunked"] {
        let cdn = Registry::start("cdn.quay.io");
        let digest = cdn.push_blob("a", CONTENT);
        let path = format!("/v2/a/blobs/{digest}");
        let head = format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {}{path}\r\n{length}\r\n\r\n", cdn.url());
        let raw = Raw::start("raw.test", b"http/1.1", Play::Still(head.into_bytes()));
        let config = EndpointConfig {
            address: Some(raw.address()),
            ca_file: Some(lab::ca_file()),
            ..EndpointConfig::of_url("https://raw.test".to_owned())
        };
        let upstream = Upstream::new(&hosts(&[&cdn]), std::slice::from_ref(&config), AddressRules::default()).unwrap();
        let to = Endpoint::parse(&config).unwrap();
        let begun = std::time::Instant::now();
        for _ in 0..20 {
            assert_eq!(bytes(upstream.fetch(&to, get(&path)).await.unwrap()).await.unwrap(), CONTENT);
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{length}: {:?}", begun.elapsed());
        eventually("what is not drained is closed", || raw.open_connections() == 0).await;
    }
}

//! Pages: what answers 200 in a registry's place opens nothing, is kept nowhere, and is nobody's word.
//!
//! A gateway, a captive portal or a maintenance page answers whoever has no token, or everybody, whatever is asked.

use pullthrough::oci::{Algorithm, Digest};

use super::layer;
use super::private::{ALICE, EXAMPLE, bearer};
use crate::support::client::Whole;
use crate::support::{Act, Image, Line, Plan, Proxy, Registry, Tokens, basic_value};

const LENGTH: usize = 4000;
const LOGIN: &str = "https://login.example.net/sso?back={path}";

/// What stands in for the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Html,
    /// HTML of the very length of the layer that is asked for.
    HtmlOfThatLength,
    /// A redirect to a foreign host that shows HTML.
    Login,
    /// JSON that is no manifest.
    Json,
    Text,
    Untyped,
}

const PAGES: [Page; 6] = [Page::Html, Page::HtmlOfThatLength, Page::Login, Page::Json, Page::Text, Page::Untyped];

fn answer(status: u16, media_type: &str, body: impl Into<String>) -> Act {
    let headers = if media_type.is_empty() { vec![] } else { vec![("content-type".into(), media_type.into())] };
    Act::Answer { status, headers, body: body.into() }
}

impl Page {
    fn body(self) -> String {
        match self {
            Self::Html | Self::Login | Self::Untyped => "<html>log in</html>".to_owned(),
            Self::HtmlOfThatLength => format!("{:<LENGTH$}", "<html>log in</html>"),
            Self::Json => r#"{"schemaVersion":2,"message":"down for maintenance"}"#.to_owned(),
            Self::Text => "down for maintenance".to_owned(),
        }
    }

    fn act(self) -> Act {
        match self {
            Self::Html | Self::HtmlOfThatLength => answer(200, "text/html; charset=utf-8", self.body()),
            Self::Login => Act::Redirect { status: 302, location: LOGIN.to_owned() },
            Self::Json => answer(200, "application/json", self.body()),
            Self::Text => answer(200, "text/plain", self.body()),
            Self::Untyped => answer(200, "", self.body()),
        }
    }
}

/// A registry with tokens, Alice, who has pulled `team/secret:1`, and a login page elsewhere.
struct Place {
    registry: Registry,
    _others: [Registry; 2],
    proxy: Proxy,
    image: Image,
    alice: String,
}

impl Place {
    async fn new() -> Self {
        let tokens = Tokens::new().user("alice", "secret-a", &["team/*"]).user("bob", "secret-b", &[]);
        let (registry, auth) = (Registry::start("registry.example.com"), Registry::start("auth.example.com"));
        let login = Registry::start("login.example.net");
        login.script("*", Page::Login.html());
        auth.serve_tokens(&tokens);
        registry.require_token(&tokens, "https://auth.example.com/token");
        let plan = Plan::new().registry(&registry, "token_hosts: [auth.example.com], tags: {fresh_for: 0s}");
        let proxy = plan.host("auth.example.com", &auth).host("login.example.net", &login).start().await;
        let image = registry.push_image("team/secret", "1", &[layer(LENGTH, 1)]);
        let alice = bearer(&proxy.client(), ALICE, "team/secret").await;
        let place = Self { registry, _others: [auth, login], proxy, image, alice };
        for path in place.secrets() {
            assert_eq!(place.ask("GET", &path, Some(&place.alice)).await.status, 200, "{path}");
        }
        for digest in [&place.image.digest, &place.image.layers[0], &place.image.config] {
            place.proxy.stored(digest).await;
        }
        place
    }

    fn secrets(&self) -> [String; 3] {
        [
            "/v2/team/secret/manifests/1".to_owned(),
            format!("/v2/team/secret/manifests/{}", self.image.digest),
            format!("/v2/team/secret/blobs/{}", self.image.layers[0]),
        ]
    }

    async fn ask(&self, method: &str, path: &str, authorization: Option<&str>) -> Whole {
        let headers = authorization.map(|value| ("authorization", value));
        self.proxy.client().session(EXAMPLE).await.ask(method, path, headers.as_slice()).await
    }

    /// Shows the page to whoever is not Alice.
    fn show(&self, page: Page) -> Line {
        self.registry.script("*", Act::Unless(self.alice.clone(), Box::new(page.act())))
    }

    /// Neither nobody nor `caller` reads anything of Alice's.
    async fn is_closed(&self, caller: Option<&str>, how: &str) {
        for path in self.secrets() {
            for method in ["GET", "HEAD"] {
                for one in [None, caller] {
                    assert_eq!(self.ask(method, &path, one).await.status, 401, "{how}: then {method} {path} {one:?}");
                }
            }
        }
    }
}

impl Page {
    fn html(self) -> Act {
        answer(200, "text/html", self.body())
    }
}

/// Everything that can be asked for there.
fn questions(image: &Image, page: Page) -> Vec<(&'static str, String, bool)> {
    let of = |name: &str| format!("/v2/team/secret/{name}");
    let chosen = Digest::of(Algorithm::Sha256, page.body().as_bytes());
    let contents = [
        of("manifests/1"),
        of("manifests/2"),
        of(&format!("manifests/{}", image.digest)),
        of(&format!("blobs/{}", image.layers[0])),
        of(&format!("blobs/{}", image.config)),
        // Whoever has seen the page knows its digest.
        of(&format!("manifests/{chosen}")),
        of(&format!("blobs/{chosen}")),
    ];
    let others = [of("tags/list"), of(&format!("referrers/{}", image.digest)), "/v2/".to_owned()];
    let contents = contents.into_iter().map(|path| (path, true));
    let all: Vec<_> = contents.chain(others.into_iter().map(|path| (path, false))).collect();
    ["GET", "HEAD"]
        .into_iter()
        .flat_map(|method| all.iter().map(move |(path, is)| (method, path.clone(), *is)))
        .collect()
}

async fn opens_nothing(page: Page, caller: Option<&str>) {
    let mut place = Place::new().await;
    let stored = place.proxy.files();
    for (method, path, is_content) in questions(&place.image, page) {
        let how = format!("{page:?} to {caller:?} for {method} {path}");
        let shown = place.show(page);
        let got = place.ask(method, &path, caller).await;
        let is_chosen = path.contains(&Digest::of(Algorithm::Sha256, page.body().as_bytes()).hex());
        if is_content && method == "GET" && !is_chosen {
            assert!(got.status == 502 || got.body.is_err(), "{how}: {got:?}");
        }
        place.registry.unscript(shown);
        place.is_closed(caller, &how).await;
    }
    let tag = place.ask("GET", &place.secrets()[0], Some(&place.alice)).await;
    assert_eq!(tag.header("docker-content-digest"), place.image.digest.to_string(), "{page:?}");
    // Who asks for it as a blob by its own digest is given that content, if it is not HTML, and nothing else.
    let kept = usize::from(matches!(page, Page::Json | Page::Text | Page::Untyped));
    assert_eq!(place.proxy.files(), (stored.0 + kept, 0), "{page:?} {caller:?}: no page is kept");
    place.proxy.restart().await;
    place.is_closed(caller, &format!("{page:?} to {caller:?}, after a restart")).await;
}

#[tokio::test]
async fn a_page_opens_nothing_to_nobody_whatever_was_asked_and_is_kept_nowhere() {
    for page in PAGES {
        opens_nothing(page, None).await;
    }
}

#[tokio::test]
async fn a_page_opens_nothing_to_who_made_up_credentials() {
    for page in PAGES {
        opens_nothing(page, Some(&basic_value("mallory", "guess"))).await;
    }
}

#[tokio::test]
async fn a_page_costs_few_requests_each_time_it_is_shown() {
    let place = Place::new().await;
    let shown = place.show(Page::Html);
    let chosen = Digest::of(Algorithm::Sha256, Page::Html.body().as_bytes()).hex();
    let mut asked = Vec::new();
    for (method, path, is_content) in questions(&place.image, Page::Html) {
        if !is_content || path.contains(&chosen) {
            continue;
        }
        let mut twice = [0, 0];
        for count in &mut twice {
            place.registry.forget();
            assert_eq!(place.ask(method, &path, None).await.status, 502, "{method} {path}");
            *count = place.registry.requests().len();
        }
        asked.push(twice);
    }
    // By GET: a known tag, a new one, a manifest, two blobs; then the same by HEAD. What HEAD does not tell, GET does.
    let expected = [2, 1, 2, 2, 2, 2, 2, 2, 2, 2].map(|count| [count; 2]);
    assert_eq!(asked, expected);
    place.registry.unscript(shown);
    place.is_closed(None, "pages that were counted").await;
}

//! HEAD is a hint: whatever it is answered by, GET decides, and what is learnt of a host's HEAD costs nothing afterwards.

use futures_util::future::join_all;

use super::private::bearer;
use super::{QUAY, layer};
use crate::support::client::{Client, Whole};
use crate::support::{Act, INDEX, Image, MANIFEST, Plan, Proxy, Registry, Setup, Tokens};

const REALM: &str = "https://auth.example.com/token";

/// In whose name is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Anonymous,
    Token,
    Held,
}

/// A registry that does something with HEAD, or redirects to a host that does.
struct Cell {
    name: String,
    registry: Registry,
    cdn: Option<Registry>,
    caller: Caller,
}

impl Cell {
    fn new(number: usize, act: &Act, is_behind: bool, caller: Caller, tokens: &Tokens) -> Self {
        let registry = Registry::start(&format!("r{number}.example.com"));
        let cdn = is_behind.then(|| registry.sibling(Setup::named(&format!("cdn{number}.example.com"))));
        if caller != Caller::Anonymous {
            registry.require_token(tokens, REALM);
        }
        if let Some(cdn) = &cdn {
            let location = format!("https://{}{{path}}", cdn.name());
            registry.script("/v2/a/*", Act::Redirect { status: 307, location });
        }
        cdn.as_ref().unwrap_or(&registry).script("HEAD /v2/a/*", act.clone());
        Self { name: format!("{act:?} behind a redirect: {is_behind}, {caller:?}"), registry, cdn, caller }
    }

    fn entry(&self) -> String {
        let tags = "prefetch: off, tags: {fresh_for: 0s, deadline: 8s}";
        match self.caller {
            Caller::Anonymous => tags.to_owned(),
            Caller::Token => format!("{tags}, token_hosts: [auth.example.com]"),
            Caller::Held => format!(
                "{tags}, realms: ['{REALM}'], auth: {{username: alice, password: secret-a, repositories: ['*']}}"
            ),
        }
    }

    /// Who does something with HEAD.
    fn refuser(&self) -> &Registry {
        self.cdn.as_ref().unwrap_or(&self.registry)
    }

    async fn ask(&self, client: &Client, method: &str, path: &str, token: &str) -> Whole {
        let headers: &[(&str, &str)] = if self.caller == Caller::Token { &[("authorization", token)] } else { &[] };
        client.session(&format!("{}:443", self.registry.name())).await.ask(method, path, headers).await
    }

    /// All questions, the ones after the others.
    async fn run(&self, proxy: &Proxy, token: &str) {
        let (client, name) = (&proxy.client(), self.name.as_str());
        let ask = async |method: &str, path: &str| self.ask(client, method, path, token).await;
        let push = |seed: u64| self.registry.push_image("a", "1", &[layer(3000, seed)]);
        let tag = "/v2/a/manifests/1";
        let is = |answer: &Whole, image: &Image, how: &str| {
            let digest = image.digest.to_string();
            assert_eq!(
                (answer.status.as_u16(), answer.header("docker-content-digest")),
                (200, &*digest),
                "{name}: {how}"
            );
            assert_eq!(answer.header("content-length"), image.manifest.len().to_string(), "{name}: {how}");
        };
        let first = push(1);
        is(&ask("GET", tag).await, &first, "it is not known yet");
        is(&ask("HEAD", tag).await, &first, "HEAD of a known tag");
        let heads = self.refuser().count(&format!("HEAD {tag}"));
        let moved = push(2);
        let got = ask("GET", tag).await;
        is(&got, &moved, "the tag has moved");
        assert_eq!(got.bytes(), &moved.manifest, "{name}");
        is(&ask("HEAD", tag).await, &moved, "HEAD");
        if self.caller == Caller::Anonymous {
            let now = self.refuser().count(&format!("HEAD {tag}"));
            // Behind a redirect once more, with a token of that host's own.
            let most = if self.cdn.is_some() { 3 } else { 2 };
            assert!(heads == now && heads <= most, "{name}: once is enough, and once with a token: {heads}, {now}");
        }
        let third = push(3);
        let by_digest = format!("/v2/a/manifests/{}", third.digest);
        is(&ask("HEAD", &by_digest).await, &third, "HEAD by digest");
        is(&ask("GET", &by_digest).await, &third, "GET by digest");
        let blob = format!("/v2/a/blobs/{}", third.layers[0]);
        let head = ask("HEAD", &blob).await;
        assert_eq!((head.status.as_u16(), head.header("content-length")), (200, "3000"), "{name}: HEAD of a blob");
        let asked = self.refuser().requests();
        let mut gets = asked.iter().filter(|seen| seen.path == blob && seen.method == "GET");
        assert!(
            gets.all(|seen| seen.headers.get("range").is_some_and(|range| range == "bytes=0-0")),
            "{name}: one byte"
        );
        let got = ask("GET", &blob).await;
        assert!(got.status == 200 && *got.bytes() == layer(3000, 3), "{name}: GET of a blob");
        proxy.stored(&third.layers[0]).await;
        let none = format!("/v2/a/blobs/sha256:{}", "0".repeat(64));
        // What is absent behind a redirect is that host's word, and not the registry's.
        for absent in ["/v2/a/manifests/none", &none].iter().filter(|_| self.cdn.is_none()) {
            assert_eq!(ask("HEAD", absent).await.status, 404, "{name}: {absent}");
        }
        // Rights, the public mark and what is cached are as before.
        self.registry.forget();
        for path in [&by_digest, &blob] {
            assert_eq!(ask("GET", path).await.status, 200, "{name}: {path}");
        }
        assert_eq!(self.registry.count("GET *"), 0, "{name}: nothing was taken away");
        assert_eq!(self.registry.count("/v2/"), 0, "{name}: no outage is suspected");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_head_is_answered_by_get_decides_and_nothing_is_taken_away() {
    let challenge = Act::Answer {
        status: 401,
        headers: vec![("www-authenticate".into(), format!("Bearer realm=\"{REALM}\",service=\"lab\""))],
        body: String::new(),
    };
    let statuses = [401, 403, 404, 405, 429, 500, 501, 503].map(Act::Status);
    let acts: Vec<Act> = statuses.into_iter().chain([challenge, Act::Reset, Act::Silence]).collect();
    let tokens = Tokens::new().user("alice", "secret-a", &["a"]);
    let auth = Registry::start("auth.example.com");
    auth.serve_tokens(&tokens);
    let mut cells = Vec::new();
    for caller in [Caller::Anonymous, Caller::Token, Caller::Held] {
        for is_behind in [false, true] {
            for act in &acts {
                cells.push(Cell::new(cells.len(), act, is_behind, caller, &tokens));
            }
        }
    }
    let mut plan = Plan::new().host("auth.example.com", &auth);
    for cell in &cells {
        plan = plan.registry(&cell.registry, &cell.entry());
        if let Some(cdn) = &cell.cdn {
            plan = plan.host(cdn.name(), cdn);
        }
    }
    let proxy = plan.start().await;
    let token = bearer(&proxy.client(), Some(("alice", "secret-a")), "a").await;
    join_all(cells.iter().map(|cell| cell.run(&proxy, &token))).await;
}

async fn quay(tags: &str) -> (Registry, Proxy) {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, &format!("prefetch: off, tags: {{fresh_for: {tags}}}")).start().await;
    (registry, proxy)
}

async fn ask(proxy: &Proxy, method: &str, path: &str) -> Whole {
    proxy.client().session(QUAY).await.ask(method, path, &[]).await
}

#[tokio::test]
async fn the_type_that_get_says_counts_and_else_the_manifests_own() {
    for by_get in [None, Some("text/plain")] {
        let (registry, proxy) = quay("1h").await;
        let image = registry.push_image("a", "1", &[layer(100, 1)]);
        registry.script("HEAD *", Act::Header("content-type".into(), INDEX.into()));
        if let Some(by_get) = by_get {
            registry.script("GET *", Act::Header("content-type".into(), by_get.into()));
        }
        let by_digest = format!("/v2/a/manifests/{}", image.digest);
        let tag = "/v2/a/manifests/1";
        assert_eq!(ask(&proxy, "HEAD", tag).await.header("content-type"), INDEX, "nothing else is known yet");
        for (method, path) in [("GET", tag), ("HEAD", tag), ("GET", &by_digest), ("HEAD", &by_digest)] {
            let answer = ask(&proxy, method, path).await;
            assert_eq!(
                (answer.status.as_u16(), answer.header("content-type")),
                (200, MANIFEST),
                "{method} {path} {by_get:?}"
            );
        }
        assert_eq!(registry.count("GET *"), 1, "fetched once");
    }
}

#[tokio::test]
async fn the_type_of_a_tag_that_is_revalidated_stays_that_of_get() {
    let (registry, proxy) = quay("0s").await;
    registry.push_image("a", "1", &[layer(100, 1)]);
    registry.script("HEAD *", Act::Header("content-type".into(), INDEX.into()));
    for method in ["GET", "HEAD", "GET", "HEAD"] {
        assert_eq!(ask(&proxy, method, "/v2/a/manifests/1").await.header("content-type"), MANIFEST, "{method}");
    }
    assert_eq!((registry.count("GET *"), registry.count("HEAD *")), (1, 3), "HEAD is still first");
}

#[tokio::test]
async fn a_length_of_0_in_answer_to_head_is_not_said_and_not_believed() {
    let (registry, proxy) = quay("1h").await;
    let image = registry.push_image("a", "1", &[layer(100, 1)]);
    registry.script("HEAD *", Act::WrongLength(-10_000_000));
    let length = image.manifest.len().to_string();
    for _ in 0..2 {
        let head = ask(&proxy, "HEAD", "/v2/a/manifests/1").await;
        assert_eq!((head.status.as_u16(), head.header("content-length")), (200, &*length));
    }
    let blob = ask(&proxy, "HEAD", &format!("/v2/a/blobs/{}", image.layers[0])).await;
    assert_eq!((blob.status.as_u16(), blob.header("content-length")), (200, ""));
    let empty = registry.push_blob("a", Vec::new());
    let blob = ask(&proxy, "HEAD", &format!("/v2/a/blobs/{empty}")).await;
    assert_eq!((blob.status.as_u16(), blob.header("content-length")), (200, "0"), "this one is empty");
}

#[tokio::test]
async fn a_tag_whose_digest_the_registry_does_not_have_is_got_by_the_tag() {
    // HEAD says another's digest; or the registry has its manifests by tag alone.
    for refusal in [404, 403, 401] {
        for lies in [true, false] {
            let (registry, proxy) = quay("0s").await;
            let first = registry.push_image("a", "1", &[layer(100, 1)]);
            let refused = registry.script("GET */manifests/sha256*", Act::Status(refusal));
            if lies {
                let other = Registry::start("other.example.com").push_image("a", "1", &[layer(100, 9)]);
                registry.script("HEAD *", Act::Header("docker-content-digest".into(), other.digest.to_string()));
            }
            let how = format!("{refusal}, HEAD lies: {lies}");
            assert_eq!(ask(&proxy, "HEAD", "/v2/a/manifests/1").await.status, 200, "{how}");
            let got = ask(&proxy, "GET", "/v2/a/manifests/1").await;
            assert_eq!((got.status.as_u16(), got.bytes()), (200, &first.manifest), "{how}");
            let moved = registry.push_image("a", "1", &[layer(100, 2)]);
            let got = ask(&proxy, "GET", "/v2/a/manifests/1").await;
            assert_eq!((got.status.as_u16(), got.bytes()), (200, &moved.manifest), "{how}: moved");
            registry.unscript(refused);
            // What was proven in between stands.
            registry.forget();
            let by_digest = format!("/v2/a/manifests/{}", moved.digest);
            assert_eq!(ask(&proxy, "GET", &by_digest).await.bytes(), &moved.manifest, "{how}");
            assert_eq!(registry.requests().len(), 0, "{how}");
        }
    }
}

#[tokio::test]
async fn a_head_that_works_is_asked_first_and_one_fault_of_it_is_forgiven() {
    let (registry, proxy) = quay("0s").await;
    registry.push_image("a", "1", &[layer(100, 1)]);
    let tag = "/v2/a/manifests/1";
    for _ in 0..2 {
        assert_eq!(ask(&proxy, "GET", tag).await.status, 200);
    }
    registry.script_times(1, "HEAD *", Act::Status(503));
    for _ in 0..3 {
        assert_eq!(ask(&proxy, "GET", tag).await.status, 200);
    }
    assert_eq!((registry.count("GET *"), registry.count("HEAD *")), (2, 4), "one GET for the fault, and HEAD goes on");
}

#[tokio::test]
async fn a_stale_token_is_renewed_once_and_then_head_is_told() {
    let tokens = Tokens::new().public("a").user("alice", "secret-a", &["a"]);
    let registry = Registry::start("quay.io");
    registry.serve_tokens(&tokens);
    registry.require_token(&tokens, "https://quay.io/token");
    let auth = "auth: {username: alice, password: secret-a, repositories: ['*']}";
    let proxy =
        Plan::new().registry(&registry, &format!("prefetch: off, tags: {{fresh_for: 0s}}, {auth}")).start().await;
    let tag = "/v2/a/manifests/1";
    registry.push_image("a", "1", &[layer(100, 1)]);
    assert_eq!(ask(&proxy, "GET", tag).await.status, 200);
    let is_told = || registry.requests().iter().any(|seen| seen.method == "HEAD" && seen.status == Some(200));
    crate::support::eventually("whether it is public was asked", is_told).await;
    tokens.revoke_all();
    registry.forget();
    let answer = ask(&proxy, "GET", tag).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("cache-status")),
        (200, "pullthrough; fwd=stale; fwd-status=200")
    );
    let heads =
        [registry.count(&format!("HEAD {tag}")), registry.count("/token"), registry.count(&format!("GET {tag}"))];
    assert_eq!(heads, [2, 1, 0], "HEAD with the old token and with a new one");
}

#[tokio::test]
async fn a_challenge_that_get_repeats_is_believed_of_head_for_a_while() {
    let tokens = Tokens::new().public("a");
    let registry = Registry::start("quay.io");
    registry.serve_tokens(&tokens);
    registry.require_token(&tokens, "https://quay.io/token");
    let (proxy, tag) = (Plan::new().registry(&registry, "").start().await, "/v2/a/manifests/1");
    for _ in 0..3 {
        let answer = ask(&proxy, "HEAD", tag).await;
        assert_eq!(answer.status, 401);
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer:?}");
    }
    assert_eq!((registry.count(&format!("HEAD {tag}")), registry.count(&format!("GET {tag}"))), (3, 1));
}

#[tokio::test]
async fn whether_a_repository_is_public_is_told_by_nobodys_get_where_head_is_refused() {
    for status in [401, 403, 404, 500] {
        let tokens = Tokens::new().public("public/*").user("alice", "secret-a", &["public/*", "team/*"]);
        let (registry, auth) = (Registry::start("registry.example.com"), Registry::start("auth.example.com"));
        auth.serve_tokens(&tokens);
        registry.require_token(&tokens, REALM);
        registry.script("HEAD *", Act::Status(status));
        let plan =
            Plan::new().registry(&registry, "token_hosts: [auth.example.com], tags: {fresh_for: 1h}, prefetch: off");
        let proxy = plan.host("auth.example.com", &auth).start().await;
        for (repository, is_public) in [("public/app", true), ("team/app", false)] {
            registry.push_image(repository, "1", &[layer(100, 1)]);
            let tag = format!("/v2/{repository}/manifests/1");
            let alice = bearer(&proxy.client(), Some(("alice", "secret-a")), repository).await;
            let alices = super::private::ask(&proxy.client(), "GET", &tag, Some(&alice)).await;
            assert_eq!(alices.status, 200, "{status} {repository}");
            let is_theirs = |seen: &crate::support::Seen| {
                seen.path == tag
                    && seen.method == "GET"
                    && seen.headers.get("authorization").is_none_or(|v| *v != *alice)
            };
            let asked = || registry.requests().iter().filter(|seen| is_theirs(seen) && seen.status.is_some()).count();
            crate::support::eventually("nobody's GET was answered", || asked() >= 2 || (is_public && asked() >= 1))
                .await;
            let nobodys = async || super::private::ask(&proxy.client(), "GET", &tag, None).await.status;
            if is_public {
                crate::support::until("it is public", async || nobodys().await == 200).await;
            } else {
                assert_eq!(nobodys().await, 401, "{status}: it is not opened by this");
            }
        }
    }
}

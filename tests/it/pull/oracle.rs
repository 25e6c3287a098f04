//! A registry's owner learns nothing of what the cache holds of others: the same answer either way, to the client and
//! in the registry's own log.

use std::time::Duration;

use super::QUAY;
use super::layer;
use super::private::{ALICE, EXAMPLE, bearer};
use crate::support::{Act, Image, MANIFEST, Plan, Proxy, Registry, Tokens, eventually};

/// A private registry with an image that Alice may read, and quay.io, whose owner knows its digests and sizes.
struct Beside {
    _registries: [Registry; 2],
    owners: Registry,
    proxy: Proxy,
    image: Image,
}

const SECRET: usize = 30_000;
/// One for each question: what came of one does not touch the next.
const LAYERS: u64 = 24;

impl Beside {
    async fn new(is_stored: bool) -> Self {
        let tokens = Tokens::new().user("alice", "secret-a", &["team/*"]);
        let (registry, auth) = (Registry::start("registry.example.com"), Registry::start("auth.example.com"));
        auth.serve_tokens(&tokens);
        registry.require_token(&tokens, "https://auth.example.com/token");
        let owners = Registry::start("quay.io");
        let plan = Plan::new().registry(&registry, "token_hosts: [auth.example.com]").registry(&owners, "");
        let proxy = plan.host("auth.example.com", &auth).start().await;
        let layers: Vec<_> = (0..LAYERS).map(|seed| layer(SECRET, seed)).collect();
        let image = registry.push_image("team/app", "1", &layers);
        if is_stored {
            let alice = bearer(&proxy.client(), ALICE, "team/app").await;
            let mut session = proxy.client().session(EXAMPLE).await;
            for (noun, digest) in image.layers.iter().map(|one| ("blobs", one)).chain([("manifests", &image.digest)]) {
                let path = format!("/v2/team/app/{noun}/{digest}");
                assert_eq!(session.ask("GET", &path, &[("authorization", &alice)]).await.status, 200);
                proxy.stored(digest).await;
            }
        }
        Self { _registries: [registry, auth], owners, proxy, image }
    }

    /// What a client is told, in short, and what the owner's registry sees meanwhile.
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (String, Vec<String>) {
        self.owners.forget();
        let got = self.proxy.client().session(QUAY).await.ask(method, path, headers).await;
        let told: Vec<_> = ["content-length", "content-type", "etag", "content-range", "cache-status", "proxy-status"]
            .map(|name| format!("{name}: {}", got.header(name)))
            .into();
        let body = got.body.as_ref().map_or("broken", |_| "whole");
        let seen = self.owners.requests();
        let range = |seen: &crate::support::Seen| seen.headers.get("range").map(|value| format!("{value:?}"));
        let seen = seen.iter().map(|seen| format!("{} {} {:?}", seen.method, seen.path, range(seen))).collect();
        (format!("{} {told:?} {body}", got.status), seen)
    }
}

/// What the owner's registry says to everything: with or without the digest, of the right length or another.
fn words(digest: &str, length: usize, media_type: &str) -> Vec<Vec<(String, String)>> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let lengths = [length, length + 1];
    let mut all = Vec::new();
    for length in lengths {
        let plain = vec![pair("content-type", media_type), pair("x-length", &length.to_string())];
        all.push(plain.clone());
        all.push([plain, vec![pair("docker-content-digest", digest)]].concat());
    }
    all
}

async fn told(is_stored: bool) -> Vec<(String, String, Vec<String>)> {
    let beside = Beside::new(is_stored).await;
    let image = &beside.image;
    let mut all = Vec::new();
    let mut layers = image.layers.iter();
    for noun in ["manifests", "blobs"] {
        for (method, asked) in ["HEAD", "GET"].into_iter().flat_map(|method| (0..3).map(move |asked| (method, asked))) {
            for word in 0..4 {
                let (digest, length, media_type) = match noun {
                    "manifests" => (&image.digest, image.manifest.len(), MANIFEST),
                    _ => (layers.next().unwrap(), SECRET, "application/octet-stream"),
                };
                let (tag, headers) =
                    (format!("\"{digest}\""), words(&digest.to_string(), length, media_type)[word].clone());
                let said: usize = headers[1].1.parse().unwrap();
                let answer = Act::Answer { status: 200, headers: headers.clone(), body: "x".repeat(said) };
                let line = beside.owners.script("*", answer);
                let asked = [None, Some(("range", "bytes=0-9")), Some(("if-none-match", tag.as_str()))][asked];
                let path = format!("/v2/any/{noun}/{digest}");
                let (got, seen) = beside.ask(method, &path, asked.as_slice()).await;
                // A wrong blob breaks before its head is out, or after: by chance.
                let got = if method == "GET" && noun == "blobs" { String::new() } else { got };
                all.push((format!("{method} {path} {asked:?} to {headers:?}"), got, seen));
                beside.owners.unscript(line);
            }
        }
    }
    all
}

#[tokio::test]
async fn whether_a_private_content_is_stored_is_told_to_no_other_registry() {
    let (without, with) = (told(false).await, told(true).await);
    assert_eq!(without.len(), 48);
    for (without, with) in without.iter().zip(&with) {
        assert_eq!(without, with);
        assert!(!with.2.is_empty(), "{with:?}: asked of the registry itself");
    }
}

#[tokio::test]
async fn what_is_fetched_ahead_tells_no_registry_what_is_stored() {
    for is_stored in [false, true] {
        let beside = Beside::new(is_stored).await;
        let secret = format!("/v2/any/blobs/{}", beside.image.layers[0]);
        let [config, own] = [2, 3].map(|seed| beside.owners.push_blob("any", layer(1000, seed)));
        let listed: Vec<_> =
            [own, beside.image.layers[0]].iter().map(|digest| format!(r#"{{"digest":"{digest}"}}"#)).collect();
        let manifest =
            format!(r#"{{"schemaVersion":2,"config":{{"digest":"{config}"}},"layers":[{}]}}"#, listed.join(","));
        beside.owners.push_manifest("any", Some("1"), MANIFEST, manifest);
        let mut session = beside.proxy.client().session(QUAY).await;
        assert_eq!(session.get("/v2/any/manifests/1").await.status, 200);
        assert_eq!(session.get(&format!("/v2/any/blobs/{own}")).await.status, 200);
        eventually("the secret one is asked for", || beside.owners.count(&secret) > 0).await;
        tokio::time::timeout(Duration::from_secs(10), beside.proxy.stored(&config)).await.unwrap();
    }
}

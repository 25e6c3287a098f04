//! A registry that redirects to another one is no way past the rules of that one.

use pullthrough::oci::Digest;

use super::judged::audited;
use super::layer;
use crate::support::client::Client;
use crate::support::{Act, Gate, Image, Plan, Proxy, Registry, Setup, Tokens, eventually};

const EVIL: &str = "evil.test:443";
const INSIDE: &str = "inside.test:443";
/// The client that may not read `internal/app`.
const BARRED: &str = "127.0.0.9";

const DENIED: &str = "{name: not-you, effect: deny, networks: [127.0.0.9/32], registries: [inside.test], \
                      repositories: ['internal/*']}";
/// The same by what is allowed.
const ALLOWED: &str = "{name: you, effect: allow, networks: [127.0.0.1/32]}, \
                       {name: outside, effect: allow, registries: [evil.test]}";

/// Two registries, of which one redirects what is asked of its `to/app` to the other's `internal/app`.
struct Lab {
    evil: Registry,
    inside: Registry,
    /// A host that is no registry of the configuration.
    third: Registry,
    proxy: Proxy,
    image: Image,
    folder: tempfile::TempDir,
}

impl Lab {
    async fn start(rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inside = Registry::start("inside.test");
        let evil = inside.sibling(Setup::named("evil.test"));
        let image = inside.push_image("internal/app", "1", &[layer(100_000, 1)]);
        for (asked, led) in [("manifests/*", "manifests"), ("blobs/*", "blobs"), ("referrers/*", "referrers")] {
            for last in std::iter::once("1".to_owned()).chain(digests(&image).map(Digest::to_string)) {
                let location = format!("{}/v2/internal/app/{led}/{last}", inside.url());
                let pattern = format!("/v2/to/app/{}", asked.replace('*', &last));
                evil.script(&pattern, Act::Redirect { status: 307, location });
            }
        }
        let location = format!("{}/v2/internal/app/tags/list", inside.url());
        evil.script("/v2/to/app/tags/list", Act::Redirect { status: 307, location });
        let audit = folder.path().join("audit.log").display().to_string();
        let plan = Plan::new().registry(&evil, "tags: {fresh_for: 60s}, auth: anonymous, prefetch: 0");
        let plan = plan.registry(&inside, "").host(&format!("inside.test:{}", inside.address().port()), &inside);
        let inside_at = format!("inside.test:{}", inside.address().port());
        let rules = rules.replace("[inside.test]", &format!("[inside.test, '{inside_at}']"));
        let plan = plan.raw_registry(&format!("'{inside_at}': {{}}"));
        let third = inside.sibling(Setup::named("third.test"));
        let plan = plan.host("third.test", &third);
        let proxy = plan.clients(&format!("audit: '{audit}', rules: [{rules}]")).start().await;
        Self { evil, inside, third, proxy, image, folder }
    }

    fn client(&self, is_barred: bool) -> Client {
        if is_barred { self.proxy.client().from(BARRED) } else { self.proxy.client() }
    }

    fn paths(&self) -> Vec<String> {
        let (manifest, layer) = (self.image.digest, self.image.layers[0]);
        ["tags/list".to_owned(), "manifests/1".into(), format!("manifests/{manifest}"), format!("blobs/{layer}")].into()
    }

    async fn ask(&self, is_barred: bool, method: &str, path: &str) -> (u16, usize) {
        let path = format!("/v2/to/app/{path}");
        let answer = self.client(is_barred).session(EVIL).await.ask(method, &path, &[]).await;
        (answer.status.as_u16(), answer.body.map_or(0, |body| body.len()))
    }

    fn asked(&self) -> usize {
        self.evil.count("*") + self.inside.count("*")
    }
}

fn digests(image: &Image) -> impl Iterator<Item = &Digest> {
    image.layers.iter().chain([&image.digest, &image.config])
}

#[tokio::test]
async fn whoever_may_not_read_a_repository_reads_it_by_no_redirect_of_another_registry() {
    for rules in [DENIED, ALLOWED] {
        for method in ["GET", "HEAD"] {
            let lab = Lab::start(rules).await;
            let named = lab.client(true).get(INSIDE, "/v2/internal/app/manifests/1").await;
            assert_eq!(named.status, 403);
            let mut refused = 1;
            // The scripted registry knows no HEAD of a list.
            for path in lab.paths().into_iter().filter(|path| method == "GET" || path != "tags/list") {
                // Whoever comes first, and whatever was learnt by others.
                for is_barred in [true, false, true] {
                    let (status, length) = lab.ask(is_barred, method, &path).await;
                    assert_eq!(status, if is_barred { 403 } else { 200 }, "{rules}: {method} {path}");
                    assert!(!is_barred || length < 300, "{rules}: {method} {path}");
                    refused += usize::from(is_barred);
                }
            }
            eventually("each refusal has its line", || audited(&lab.folder, 403) == refused).await;
            let text = std::fs::read_to_string(lab.folder.path().join("audit.log")).unwrap();
            assert!(text.contains("internal/app\""), "{text}");
        }
    }
}

#[tokio::test]
async fn what_others_have_read_by_a_redirect_is_no_hit_for_whoever_may_not_also_after_a_restart() {
    let mut lab = Lab::start(DENIED).await;
    for path in lab.paths() {
        assert_eq!(lab.ask(false, "GET", &path).await.0, 200, "{path}");
    }
    for digest in digests(&lab.image).filter(|digest| **digest != lab.image.config) {
        lab.proxy.stored(digest).await;
    }
    for _ in 0..2 {
        let before = lab.asked();
        for path in &lab.paths()[1..] {
            assert_eq!(lab.ask(true, "GET", path).await.0, 403, "{path}");
        }
        assert_eq!(lab.asked(), before, "what is known needs no question");
        for path in &lab.paths()[1..] {
            assert_eq!(lab.ask(false, "GET", path).await.0, 200, "{path}");
        }
        assert_eq!(lab.inside.count("GET */blobs/*"), 1, "and a hit stays one");
        lab.proxy.restart().await;
    }
}

#[tokio::test]
async fn a_hop_on_the_way_to_a_host_that_wants_a_token_is_not_forgotten() {
    let lab = Lab::start(DENIED).await;
    let bytes = layer(5000, 9);
    let digest = lab.third.push_blob("open/app", bytes);
    let tokens = Tokens::new().public("open/*");
    lab.third.require_token(&tokens, "https://third.test/token");
    lab.third.serve_tokens(&tokens);
    let path = format!("/v2/to/app/blobs/{digest}");
    let led = format!("{}/v2/internal/app/blobs/{digest}", lab.inside.url());
    lab.evil.script(&format!("GET {path}"), Act::Redirect { status: 307, location: led });
    let location = format!("https://third.test/v2/open/app/blobs/{digest}");
    lab.inside.script(&format!("GET */{digest}"), Act::Redirect { status: 307, location });
    let refused = lab.client(true).get(EVIL, &path).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    assert_eq!(lab.client(false).get(EVIL, &path).await.status, 200);
    assert!(lab.third.count("GET /token*") > 0, "the third one wanted a token");
    assert_eq!(lab.client(true).get(EVIL, &path).await.status, 403, "nor is it a hit");
}

#[tokio::test]
async fn a_download_that_is_continued_by_a_redirect_breaks_off_for_whoever_may_not_read_there() {
    let lab = Lab::start(DENIED).await;
    let bytes = layer(3_000_000, 7);
    let digest = lab.inside.push_blob("internal/app", bytes.clone());
    lab.evil.push_blob("to/app", bytes.clone());
    let path = format!("/v2/to/app/blobs/{digest}");
    let gate = Gate::new();
    lab.inside.script(&format!("GET */{digest}"), Act::Wait(gate.clone()));
    let location = format!("{}/v2/internal/app/blobs/{digest}", lab.inside.url());
    // The first question is answered by the registry itself, up to there; the rest comes by the other one.
    lab.evil.script(&format!("GET {path}"), Act::Redirect { status: 307, location });
    lab.evil.script_times(1, &format!("GET {path}"), Act::Cut(1_000_000));
    let (barred, allowed) = (lab.client(true), lab.client(false));
    let barred = tokio::spawn(async move { barred.get(EVIL, &path).await });
    eventually("the rest is asked for elsewhere", || lab.inside.count(&format!("GET */{digest}")) > 0).await;
    let path = format!("/v2/to/app/blobs/{digest}");
    let allowed = tokio::spawn(async move { allowed.get(EVIL, &path).await });
    gate.open();
    let (barred, allowed) = (barred.await.unwrap(), allowed.await.unwrap());
    assert!(barred.body.is_err() || barred.status == 403, "{:?}", barred.status);
    assert_eq!(allowed.bytes(), &bytes);
}

#[tokio::test]
async fn a_redirect_to_a_signed_address_is_the_registrys_own_answer_also_at_another_registrys_host() {
    let lab = Lab::start(DENIED).await;
    let bytes = layer(50_000, 3);
    let digest = lab.inside.push_blob("internal/app", bytes.clone());
    let location = format!("{}/storage/{digest}?signature=s", lab.inside.url());
    lab.evil.script(&format!("/v2/to/app/blobs/{digest}"), Act::Redirect { status: 307, location });
    let body = String::from_utf8(vec![b'x'; 1000]).unwrap();
    let digest_of = Digest::of(pullthrough::oci::Algorithm::Sha256, body.as_bytes());
    let location = format!("{}/storage/{digest_of}?signature=s", lab.inside.url());
    lab.evil.script(&format!("/v2/to/app/blobs/{digest_of}"), Act::Redirect { status: 307, location });
    let headers = vec![("content-type".to_owned(), "application/octet-stream".to_owned())];
    lab.inside.script("/storage/*", Act::Answer { status: 200, headers, body: body.clone() });
    let answer = lab.client(true).get(EVIL, &format!("/v2/to/app/blobs/{digest_of}")).await;
    assert_eq!((answer.status.as_u16(), answer.bytes().len()), (200, 1000));
}

#[tokio::test]
async fn a_registry_of_the_presets_that_redirects_to_where_everybody_may_read_needs_one_rule() {
    let artifacts = Registry::start("us-docker.pkg.dev");
    let k8s = artifacts.sibling(Setup::named("registry.k8s.io"));
    let image = artifacts.push_image("k8s-artifacts-prod/images/pause", "1", &[]);
    artifacts.push_image("team/private", "1", &[layer(10, 1)]);
    let port = artifacts.address().port();
    for (asked, led) in [("pause", "k8s-artifacts-prod/images/pause"), ("other", "team/private")] {
        let location = format!("https://us-docker.pkg.dev:{port}/v2/{led}/manifests/1");
        k8s.script(&format!("/v2/{asked}/manifests/1"), Act::Redirect { status: 307, location });
    }
    let plan = Plan::new().registry(&k8s, "").host(&format!("us-docker.pkg.dev:{port}"), &artifacts);
    let plan = plan.raw_registry(&format!("'*.pkg.dev': {{}}, 'us-docker.pkg.dev:{port}': {{}}"));
    let proxy = plan.clients("rules: [{name: k8s, effect: allow, registries: [registry.k8s.io]}]").start().await;
    let mut session = proxy.client().session("registry.k8s.io:443").await;
    assert_eq!(session.get("/v2/other/manifests/1").await.status, 403);
    let pause = session.get("/v2/pause/manifests/1").await;
    assert_eq!(pause.status, 200, "{pause:?}");
    assert_eq!(pause.header("docker-content-digest"), image.digest.to_string());
}

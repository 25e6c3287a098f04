//! A registry that falls silent and is back: nobody waits for what was asked before, and what was asked goes through.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{QUAY, layer};
use crate::support::client::Whole;
use crate::support::{Act, Image, Plan, Proxy, Registry, Setup, eventually, until};

/// What clients wait for an answer; a question that hangs would be answered with 503 after 25 s.
const SOON: Duration = Duration::from_secs(20);
const HASTY: &str = "tags: {fresh_for: 0s, deadline: 1s}";

async fn hasty(registry: &Registry) -> Proxy {
    Plan::new().registry(registry, HASTY).start().await
}

async fn ask(proxy: &Proxy, method: &str, path: &str) -> Whole {
    let mut session = proxy.client().session(QUAY).await;
    let asked = tokio::time::timeout(SOON, session.ask(method, path, &[]));
    asked.await.unwrap_or_else(|_| panic!("{method} {path} hangs"))
}

/// What waits for the registry's deadline, and the pattern of its first question.
fn watched(image: &Image) -> [(&'static str, String); 5] {
    [
        ("GET", "/v2/a/manifests/1".to_owned()),
        ("HEAD", "/v2/a/manifests/1".to_owned()),
        ("GET", format!("/v2/a/manifests/{}", image.digest)),
        ("HEAD", format!("/v2/a/manifests/{}", image.digest)),
        ("HEAD", format!("/v2/a/blobs/{}", image.layers[0])),
    ]
}

#[tokio::test]
async fn a_question_that_hangs_is_asked_anew_when_the_registry_turns_out_to_be_there() {
    let image = Registry::start("quay.io").push_image("a", "1", &[layer(1000, 1)]);
    for (method, path) in watched(&image) {
        let registry = Registry::start("quay.io");
        let proxy = hasty(&registry).await;
        registry.push_image("a", "1", &[layer(1000, 1)]);
        registry.script_times(1, &format!("{method} {path}"), Act::Silence);
        let got = ask(&proxy, method, &path).await;
        assert_eq!(got.status, 200, "{method} {path}: {got:?}");
        assert_eq!(registry.count(&path), 2, "{method} {path}: again, or by GET where HEAD hangs");
    }
}

#[tokio::test]
async fn nobody_joins_a_question_of_before_an_outage() {
    let image = Registry::start("quay.io").push_image("a", "1", &[layer(1000, 2)]);
    let blob = ("GET", format!("/v2/a/blobs/{}", image.layers[0]));
    for (method, path) in watched(&image).into_iter().chain([blob]) {
        let registry = Registry::start("quay.io");
        let proxy = hasty(&registry).await;
        registry.push_image("a", "1", &[layer(1000, 2)]);
        let silence = registry.script("*", Act::Silence);
        let first = tokio::spawn({
            let (client, path) = (proxy.client(), path.clone());
            async move { client.session(QUAY).await.ask(method, &path, &[]).await.status.as_u16() }
        });
        eventually("it hangs", || registry.count(&path) == 1).await;
        // Whatever else is asked opens the outage.
        until("the registry is away", async || {
            let other = ask(&proxy, "GET", "/v2/other/manifests/1").await;
            matches!(other.status.as_u16(), 401 | 503)
        })
        .await;
        let asked = registry.count(&path);
        assert!(asked == 1 || (method == "HEAD" && asked == 2), "{method} {path}: by GET where HEAD hangs");
        let joined = ask(&proxy, method, &path).await;
        assert!(matches!(joined.status.as_u16(), 401 | 503), "{method} {path}: {joined:?}");
        assert_eq!(registry.count(&path), asked, "{method} {path}: nobody asks while it is away");
        registry.unscript(silence);
        until("it pulls again", async || ask(&proxy, method, &path).await.status == 200).await;
        assert!(matches!(first.await.unwrap(), 200 | 401 | 503));
    }
}

#[tokio::test]
async fn a_download_that_hangs_is_asked_anew_when_somebody_comes_for_it() {
    let registry = Registry::start("quay.io");
    let proxy = hasty(&registry).await;
    let digest = registry.push_blob("a", layer(50_000, 3));
    let path = format!("/v2/a/blobs/{digest}");
    registry.script_times(1, "GET */blobs/*", Act::Silence);
    let first = tokio::spawn({
        let (client, path) = (proxy.client(), path.clone());
        async move { client.get(QUAY, &path).await.status.as_u16() }
    });
    eventually("it hangs", || registry.count(&path) == 1).await;
    let second = async {
        until("it is asked anew", async || {
            let mut session = proxy.client().session(QUAY).await;
            let patient = tokio::time::timeout(Duration::from_millis(500), session.get(&path));
            patient.await.is_ok_and(|got| got.status == 200 && got.bytes().len() == 50_000)
        })
        .await;
    };
    let (first, ()) = tokio::join!(first, second);
    assert_eq!(first.unwrap(), 200, "who waited before is served by the same");
    assert_eq!(registry.count(&path), 2);
}

/// Passes connections on to a registry; those that are there when it is frozen lead nowhere from then on.
struct Relay {
    at: SocketAddr,
    frozen: watch::Sender<u64>,
}

impl Relay {
    async fn to(registry: &Registry) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, to) = (listener.local_addr().unwrap(), registry.address());
        let frozen = watch::Sender::new(0);
        let ice = frozen.clone();
        tokio::spawn(async move {
            loop {
                let (mut from, _) = listener.accept().await.unwrap();
                let mut ice = ice.subscribe();
                tokio::spawn(async move {
                    let mut on = TcpStream::connect(to).await.unwrap();
                    let is_frozen = tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut from, &mut on) => false,
                        _ = ice.changed() => true,
                    };
                    if is_frozen {
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Self { at, frozen }
    }

    fn freeze(&self) {
        self.frozen.send_modify(|count| *count += 1);
    }

    async fn proxy(&self, registry: &Registry) -> Proxy {
        let ca_file = registry.ca_file();
        let endpoint = format!("{{url: 'https://quay.io', address: '{}', ca_file: '{}'}}", self.at, ca_file.display());
        Plan::new().raw_registry(&format!("'quay.io': {{endpoints: [{endpoint}], {HASTY}}}")).start().await
    }
}

#[tokio::test]
async fn connections_that_lead_nowhere_are_left_and_not_tried_one_by_one() {
    for h2 in [true, false] {
        let registry = Registry::with(Setup { h2, ..Setup::named("quay.io") });
        let relay = Relay::to(&registry).await;
        let proxy = relay.proxy(&registry).await;
        let image = registry.push_image("a", "1", &[layer(1000, 4)]);
        // Several at a time, so that HTTP/1.1 has several connections in each pool: of what is read here, and of what
        // clients read at their pace.
        for slow in ["*/tags/list", "*/manifests/none*"] {
            let slow = registry.script(slow, Act::Delay(Duration::from_millis(200)));
            let paths = (0..3).flat_map(|n| ["/v2/a/tags/list".to_owned(), format!("/v2/a/manifests/none{n}")]);
            futures_util::future::join_all(paths.map(async |path| ask(&proxy, "GET", &path).await)).await;
            registry.unscript(slow);
        }
        relay.freeze();
        let got = ask(&proxy, "GET", &format!("/v2/a/manifests/{}", image.digest)).await;
        assert_eq!(got.status, 200, "HTTP/2 {h2}: {got:?}");
        assert_eq!(ask(&proxy, "GET", "/v2/a/tags/list").await.status, 200, "HTTP/2 {h2}");
    }
}

#[tokio::test]
async fn a_download_cut_off_from_its_registry_goes_on_when_somebody_comes_for_it() {
    let registry = Registry::start("quay.io");
    let relay = Relay::to(&registry).await;
    let proxy = relay.proxy(&registry).await;
    let bytes = layer(2 << 20, 5);
    let digest = registry.push_blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{digest}");
    let gate = crate::support::Gate::new();
    registry.script_times(1, "GET */blobs/*", Act::Hold(1 << 20, gate.clone()));
    let first = tokio::spawn({
        let (client, path) = (proxy.client(), path.clone());
        async move { client.get(QUAY, &path).await }
    });
    eventually("the first half has come", || proxy.files().1 >= 1 && registry.count(&path) == 1).await;
    let part = proxy.client().session(QUAY).await.ask("GET", &path, &[("range", "bytes=0-1000000")]).await;
    assert_eq!(part.bytes().len(), 1_000_001);
    relay.freeze();
    gate.open();
    // Another question misses its deadline, and finds the registry there.
    assert_eq!(ask(&proxy, "GET", "/v2/a/manifests/none").await.status, 404);
    let second = ask(&proxy, "GET", &path).await;
    assert!(*second.bytes() == bytes);
    assert!(*first.await.unwrap().bytes() == bytes, "who had the first half has the rest of it");
}

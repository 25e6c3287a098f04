//! A registry with its token service and its CDN, an image that was pulled through the proxy, and one that was not.

use pullthrough::oci::{Algorithm, Digest};
use pullthrough::wire::Body;

use crate::pull::layer;
use crate::support::client::{Whole, whole};
use crate::support::{Act, Image, Plan, Proxy, Registry, Setup, Tokens};

/// The parts of one registry, behind one proxy.
pub(super) struct Net {
    pub(super) registry: Registry,
    pub(super) auth: Registry,
    pub(super) cdn: Registry,
    pub(super) proxy: Proxy,
    pub(super) warm: Image,
    pub(super) cold: Image,
}

/// What ended a pull before its time: a status, or 0 where an answer broke off.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) status: u16,
    #[expect(dead_code, reason = "for who reads what failed")]
    at: String,
}

impl Failed {
    fn of(answer: &Whole, at: &str) -> Self {
        let status = if answer.status.is_success() { 0 } else { answer.status.as_u16() };
        Self { status, at: at.to_owned() }
    }
}

impl Net {
    /// The names of its parts end with `number`, so that several write into one log.
    pub(super) async fn start(number: usize) -> Self {
        let tokens = Tokens::new().public("*");
        let name = |part: &str| format!("{part}{number}.test");
        let registry = Registry::with(Setup { h2: false, ..Setup::named(&name("registry")) });
        let auth = Registry::with(Setup { h2: false, ..Setup::named(&name("auth")) });
        let cdn = registry.sibling(Setup { h2: false, ..Setup::named(&name("cdn")) });
        auth.serve_tokens(&tokens);
        registry.require_token(&tokens, &format!("https://{}/token", auth.name()));
        registry.redirect_blobs(&format!("https://{}", cdn.name()));
        let more = format!("token_hosts: [{}], tags: {{fresh_for: 0s, deadline: 3s}}, push: allow", auth.name());
        let plan = Plan::new().registry(&registry, &more).host(auth.name(), &auth).host(cdn.name(), &cdn);
        let proxy = plan.upstream("first_byte_timeout: 5s").impatient().start().await;
        let warm = registry.push_image("warm", "1", &[layer(100_000, 1), layer(1000, 2)]);
        let cold = registry.push_image("cold", "1", &[layer(100_000, 3), layer(1000, 4)]);
        let net = Self { registry, auth, cdn, proxy, warm, cold };
        net.pull_warm().await.expect("nothing is wrong yet");
        for digest in digests(&net.warm) {
            net.proxy.stored(digest).await;
        }
        net
    }

    pub(super) async fn pull_warm(&self) -> Result<(), Failed> {
        pull(&self.proxy, self.registry.name(), "warm", &self.warm).await
    }

    pub(super) async fn pull_cold(&self) -> Result<(), Failed> {
        pull(&self.proxy, self.registry.name(), "cold", &self.cold).await
    }

    /// A token to pull from there.
    pub(super) async fn token(&self, repository: &str) -> String {
        let challenge = format!("Bearer realm=\"https://{}/token\"", self.auth.name());
        token(&self.proxy, &challenge, repository).await.unwrap()
    }

    /// How many manifests and blobs of an image were sent for, those aside that are refused for their token: so a refused
    /// HEAD is told from one that is refused for being a HEAD.
    pub(super) fn downloads(&self, image: &Image) -> usize {
        let of = |server: &Registry| {
            let asked = server.requests().into_iter().filter(|seen| seen.method == "GET" && seen.status != Some(401));
            asked.filter(|seen| digests(image).any(|digest| seen.path.ends_with(&digest.to_string()))).count()
        };
        of(&self.registry) + of(&self.cdn)
    }

    /// How many of an image's manifests and blobs are stored.
    pub(super) fn stored(&self, image: &Image) -> usize {
        digests(image).filter(|digest| self.proxy.blob_file(digest).exists()).count()
    }
}

pub(super) fn digests(image: &Image) -> impl Iterator<Item = &Digest> {
    image.layers.iter().chain([&image.config, &image.digest])
}

/// Pulls as an anonymous client does, which believes nothing that has not the digest it asked for.
pub(super) async fn pull(proxy: &Proxy, registry: &str, repository: &str, image: &Image) -> Result<(), Failed> {
    let mut session = proxy.client().session(&format!("{registry}:443")).await;
    let ping = session.get("/v2/").await;
    let authorization = match ping.status.as_u16() {
        200 => None,
        401 => Some(token(proxy, ping.header("www-authenticate"), repository).await?),
        _ => return Err(Failed::of(&ping, "/v2/")),
    };
    let headers = authorization.as_deref().map(|value| ("authorization", value));
    let tag = (format!("/v2/{repository}/manifests/1"), &image.digest);
    let manifest = (format!("/v2/{repository}/manifests/{}", image.digest), &image.digest);
    let blobs = image.layers.iter().chain([&image.config]);
    let blobs = blobs.map(|digest| (format!("/v2/{repository}/blobs/{digest}"), digest));
    for (path, digest) in [tag, manifest].into_iter().chain(blobs) {
        let answer = session.ask("GET", &path, headers.as_slice()).await;
        match &answer.body {
            Ok(bytes) if answer.status == 200 => {
                assert_eq!(Digest::of(Algorithm::Sha256, bytes), *digest, "{path}: wrong bytes");
            }
            _ => return Err(Failed::of(&answer, &path)),
        }
    }
    Ok(())
}

/// What a token service gives, wherever a challenge says that it is.
async fn token(proxy: &Proxy, challenge: &str, repository: &str) -> Result<String, Failed> {
    let realm = challenge.split("realm=\"https://").nth(1).and_then(|rest| rest.split('"').next());
    let (host, path) = realm.and_then(|realm| realm.split_once('/')).expect("a challenge has a realm");
    let path = format!("/{path}?service=lab&scope=repository:{repository}:pull");
    let mut session = proxy.client().session(&format!("{host}:443")).await;
    let Ok(answer) = session.send("GET", &path, &[], Body::empty()).await else {
        return Err(Failed { status: 0, at: "the token".to_owned() });
    };
    let answer = whole(answer).await;
    let told = answer.body.as_ref().ok().and_then(|body| serde_json::from_slice::<serde_json::Value>(body).ok());
    match told.as_ref().and_then(|told| told["token"].as_str()) {
        Some(token) if answer.status == 200 => Ok(format!("Bearer {token}")),
        _ => Err(Failed::of(&answer, "the token")),
    }
}

/// A page in the place of whatever was asked for.
pub(super) fn page() -> Act {
    let headers = vec![("content-type".to_owned(), "text/html".to_owned())];
    Act::Answer { status: 200, headers, body: "<html>sign in</html>".to_owned() }
}

//! What strange registries do, one case a line or two.

use std::fs;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RANGE,
    WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{Method, Response};

use super::quirk::{answer, change, cut, cut_each, instead, manifest_field, redirect, refuse_head, throttle};
use crate::lab::{Body, Image, Lab, Quirk, command, plain, run};

/// One strangeness.
pub(super) struct Case {
    /// What the registry does.
    pub(super) name: &'static str,
    /// The registry that clients ask.
    pub(super) registry: &'static str,
    /// The registry that has the image, where that is another.
    pub(super) published_at: Option<&'static str>,
    /// The proxy has pulled the tag before, when it meant another image.
    pub(super) moves: bool,
    /// Docker waits so long before it resumes that its direct pull is left out: through the proxy it may not fail.
    pub(super) docker_waits: bool,
    /// Streams of an HTTP/2 connection to the registry.
    streams: Option<u32>,
    site: fn(&Image) -> Option<Arc<dyn Quirk>>,
    cdn: fn(&Image) -> Option<Arc<dyn Quirk>>,
    token: fn(&Image) -> Option<Arc<dyn Quirk>>,
}

impl Case {
    /// The sites of the registry behave so from now on.
    pub(super) fn begin(&self, lab: &Lab, image: &Image) {
        let registry = if self.registry == QUAY { &lab.quay } else { &lab.docker };
        registry.site.allow_streams(self.streams);
        registry.site.behave((self.site)(image));
        if let Some(cdn) = &registry.cdn {
            cdn.behave((self.cdn)(image));
        }
        lab.token.behave((self.token)(image));
    }

    /// Every site is plain again.
    pub(super) fn end(lab: &Lab) {
        for (_, registry) in lab.registries() {
            registry.site.allow_streams(None);
            registry.site.behave(None);
            registry.cdn.iter().for_each(|cdn| cdn.behave(None));
        }
        lab.token.behave(None);
    }
}

/// A registry without tokens and without a CDN.
const QUAY: &str = "quay.io";
/// One with both.
const HUB: &str = "docker.io";

const PLAIN: Case = Case {
    name: "nothing strange",
    registry: HUB,
    published_at: None,
    moves: false,
    docker_waits: false,
    streams: None,
    site: |_| None,
    cdn: |_| None,
    token: |_| None,
};

/// Where the largest layer is cut.
const KEPT: usize = 1_000_000;

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Everything that is tried.
pub(super) const CASES: &[Case] = &[
    PLAIN,
    // HEAD is a hint.
    Case { name: "HEAD of manifests: 401", registry: QUAY, site: |_| Some(refuse_head(401, "/manifests/")), ..PLAIN },
    Case { name: "HEAD of manifests: 403", site: |_| Some(refuse_head(403, "/manifests/")), ..PLAIN },
    Case { name: "HEAD of manifests: 404", site: |_| Some(refuse_head(404, "/manifests/")), ..PLAIN },
    Case { name: "HEAD of manifests: 405", site: |_| Some(refuse_head(405, "/manifests/")), ..PLAIN },
    Case { name: "HEAD of manifests: 500", site: |_| Some(refuse_head(500, "/manifests/")), ..PLAIN },
    Case { name: "HEAD of manifests: 501", site: |_| Some(refuse_head(501, "/manifests/")), ..PLAIN },
    Case { name: "HEAD of anything: 403", site: |_| Some(refuse_head(403, "")), ..PLAIN },
    Case { name: "HEAD of blobs: 404", registry: QUAY, site: |_| Some(refuse_head(404, "/blobs/")), ..PLAIN },
    Case { name: "HEAD behind the redirect: 403", cdn: |_| Some(refuse_head(403, "")), ..PLAIN },
    Case {
        name: "a moved tag, HEAD of manifests: 401",
        moves: true,
        site: |_| Some(refuse_head(401, "/manifests/")),
        ..PLAIN
    },
    Case {
        name: "a moved tag, HEAD of manifests: 403",
        moves: true,
        site: |_| Some(refuse_head(403, "/manifests/")),
        ..PLAIN
    },
    Case {
        name: "a moved tag, HEAD of manifests: 404",
        moves: true,
        registry: QUAY,
        site: |_| Some(refuse_head(404, "/manifests/")),
        ..PLAIN
    },
    Case {
        name: "a moved tag, HEAD of manifests: 500",
        moves: true,
        site: |_| Some(refuse_head(500, "/manifests/")),
        ..PLAIN
    },
    Case {
        name: "HEAD names another type",
        site: |_| Some(manifest_field(true, CONTENT_TYPE, Some("text/plain"))),
        ..PLAIN
    },
    Case { name: "HEAD says length 0", site: |_| Some(manifest_field(true, CONTENT_LENGTH, Some("0"))), ..PLAIN },
    Case { name: "a manifest by digest: 404", site: |image| Some(refuse_digest(image, 404)), ..PLAIN },
    Case { name: "a manifest by digest: 403", registry: QUAY, site: |image| Some(refuse_digest(image, 403)), ..PLAIN },
    // Shapes of answers.
    Case { name: "manifests without a type", site: |_| Some(manifest_field(false, CONTENT_TYPE, None)), ..PLAIN },
    Case {
        name: "manifests of type text/plain",
        registry: QUAY,
        site: |_| Some(manifest_field(false, CONTENT_TYPE, Some("text/plain; charset=utf-8"))),
        ..PLAIN
    },
    Case {
        name: "manifests of type application/json",
        site: |_| Some(manifest_field(false, CONTENT_TYPE, Some("application/json"))),
        ..PLAIN
    },
    Case { name: "manifests whose type has a parameter", site: |_| Some(with_parameter()), ..PLAIN },
    Case { name: "manifests without a digest", site: |_| Some(manifest_field(false, DIGEST, None)), ..PLAIN },
    Case {
        name: "a manifest that is gzip-coded in any case",
        registry: QUAY,
        site: |image| Some(gzipped(image)),
        ..PLAIN
    },
    Case { name: "manifests only for their very type in Accept", site: |_| Some(very_type()), ..PLAIN },
    Case { name: "blobs as text/html", cdn: |_| Some(blob_type("text/html")), ..PLAIN },
    Case { name: "blobs without a length", cdn: |_| Some(without_length()), ..PLAIN },
    Case { name: "/v2/ answers 404", registry: QUAY, site: |_| Some(ping(404)), ..PLAIN },
    Case { name: "/v2/ answers 403", registry: QUAY, site: |_| Some(ping(403)), ..PLAIN },
    Case { name: "/v2/ answers 500", registry: QUAY, site: |_| Some(ping(500)), ..PLAIN },
    // Tokens.
    Case { name: "expires_in is null", token: |_| Some(expires("null")), ..PLAIN },
    Case { name: "expires_in is 0", token: |_| Some(expires("0")), ..PLAIN },
    Case { name: "a challenge with an unquoted scope", site: |_| Some(unquoted()), ..PLAIN },
    Case { name: "once 429, Retry-After: 0.5", site: |_| Some(throttle(429, "0.5")), ..PLAIN },
    Case { name: "once 429, Retry-After: soon", registry: QUAY, site: |_| Some(throttle(429, "soon")), ..PLAIN },
    Case { name: "once 503, Retry-After: 1", registry: QUAY, site: |_| Some(throttle(503, "1")), ..PLAIN },
    // Resuming.
    Case { name: "a layer is cut, its rest is had", docker_waits: true, cdn: |_| Some(cut(KEPT, 206, 0)), ..PLAIN },
    Case { name: "a layer is cut, its rest: 416 for ever", cdn: |_| Some(cut(KEPT, 416, usize::MAX)), ..PLAIN },
    Case {
        name: "a layer is cut, its rest: 400 for ever",
        docker_waits: true,
        cdn: |_| Some(cut(KEPT, 400, usize::MAX)),
        ..PLAIN
    },
    Case {
        name: "a layer is cut, its rest: 401 once",
        docker_waits: true,
        registry: QUAY,
        site: |_| Some(cut(KEPT, 401, 1)),
        ..PLAIN
    },
    Case { name: "a layer is cut, its rest: 403 once", docker_waits: true, cdn: |_| Some(cut(KEPT, 403, 1)), ..PLAIN },
    Case { name: "a layer is cut, its rest: 429 once", docker_waits: true, cdn: |_| Some(cut(KEPT, 429, 1)), ..PLAIN },
    Case { name: "a layer is cut, its rest: 500 once", docker_waits: true, cdn: |_| Some(cut(KEPT, 500, 1)), ..PLAIN },
    Case {
        name: "ranges are ignored, one answer is cut",
        docker_waits: true,
        cdn: |_| Some(without_ranges()),
        ..PLAIN
    },
    Case { name: "each answer ends after 1 MB", docker_waits: true, cdn: |_| Some(cut_each(KEPT)), ..PLAIN },
    // Redirects and connections.
    Case {
        name: "everything redirects to a registry that challenges",
        registry: QUAY,
        published_at: Some(HUB),
        site: |_| Some(redirect("", "registry-1.docker.io")),
        ..PLAIN
    },
    Case {
        name: "repositories redirect to a registry that challenges",
        registry: QUAY,
        published_at: Some(HUB),
        site: |_| Some(redirect("/lab/", "registry-1.docker.io")),
        ..PLAIN
    },
    Case {
        name: "everything redirects to an open registry",
        published_at: Some(QUAY),
        site: |_| Some(redirect("", "quay.io")),
        ..PLAIN
    },
    Case { name: "a CDN that refuses Authorization", cdn: |_| Some(no_authorization()), ..PLAIN },
    Case { name: "HTTP/2 with one stream", registry: QUAY, streams: Some(1), ..PLAIN },
];

/// Refuses the image's manifest by its digest.
fn refuse_digest(image: &Image, status: u16) -> Arc<dyn Quirk> {
    let end = format!("/manifests/{}", image.digest);
    instead(move |head| head.uri.path().ends_with(&end).then(|| answer(status)))
}

/// Adds `charset` to the type of a manifest.
fn with_parameter() -> Arc<dyn Quirk> {
    change(|head, mut answer| {
        let value = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if let Some(value) = value.filter(|_| head.uri.path().contains("/manifests/")) {
            let value = HeaderValue::from_str(&format!("{value}; charset=utf-8")).unwrap();
            answer.headers_mut().insert(CONTENT_TYPE, value);
        }
        answer
    })
}

/// Answers a GET of the image's manifest with `Content-Encoding: gzip` to those that did not refuse it and to those that did.
fn gzipped(image: &Image) -> Arc<dyn Quirk> {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(image.file(&image.digest), folder.path().join("manifest")).unwrap();
    run(command("gzip", folder.path()).arg("manifest"), std::time::Duration::from_secs(20)).unwrap();
    let coded = fs::read(folder.path().join("manifest.gz")).unwrap();
    change(move |head, old| {
        let asked = head.method == Method::GET && head.uri.path().contains("/manifests/");
        if !asked || !old.status().is_success() {
            return old;
        }
        let mut answer = plain(old.status(), coded.clone());
        for name in [CONTENT_TYPE, DIGEST] {
            if let Some(value) = old.headers().get(&name) {
                answer.headers_mut().insert(name, value.clone());
            }
        }
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        answer
    })
}

/// Answers 406 where Accept does not name the manifest's own type; `*/*` names none.
fn very_type() -> Arc<dyn Quirk> {
    change(|head, old| {
        let kind = old.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let named =
            head.headers.get_all(ACCEPT).iter().any(|value| value.to_str().is_ok_and(|value| value.contains(kind)));
        if head.uri.path().contains("/manifests/") && old.status().is_success() && !named { answer(406) } else { old }
    })
}

fn blob_type(value: &'static str) -> Arc<dyn Quirk> {
    change(move |_, mut answer| {
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(value));
        answer
    })
}

/// Sends whole blobs in chunks.
fn without_length() -> Arc<dyn Quirk> {
    change(|head, mut answer| {
        if head.method == Method::GET && !head.headers.contains_key(RANGE) {
            answer.headers_mut().remove(CONTENT_LENGTH);
        }
        answer
    })
}

fn ping(status: u16) -> Arc<dyn Quirk> {
    instead(move |head| (head.uri.path() == "/v2/").then(|| answer(status)))
}

/// A token service whose `expires_in` is `value`.
fn expires(value: &'static str) -> Arc<dyn Quirk> {
    change(move |_, answer| {
        if !answer.status().is_success() {
            return answer;
        }
        let (mut head, body) = answer.into_parts();
        head.headers.remove(CONTENT_LENGTH);
        let written = body.map_frame(move |frame| match frame.into_data() {
            Ok(data) => {
                let text =
                    String::from_utf8_lossy(&data).replace("\"expires_in\":300", &format!("\"expires_in\":{value}"));
                Frame::data(text.into())
            }
            Err(frame) => frame,
        });
        Response::from_parts(head, written.boxed_unsync())
    })
}

/// Takes the quotes from the scope of a challenge.
fn unquoted() -> Arc<dyn Quirk> {
    change(|_, mut answer| {
        let value = answer.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        if let Some((start, scope)) = value.and_then(|value| value.split_once("scope=")) {
            let value = HeaderValue::from_str(&format!("{start}scope={}", scope.replace('"', ""))).unwrap();
            answer.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
        answer
    })
}

/// Answers every GET by the whole, and breaks the first long answer off.
fn without_ranges() -> Arc<dyn Quirk> {
    Arc::new(WithoutRanges(cut(KEPT, 206, 0)))
}

struct WithoutRanges(Arc<dyn Quirk>);

impl Quirk for WithoutRanges {
    fn ask(&self, head: &mut Parts) {
        head.headers.remove(RANGE);
    }

    fn change(&self, head: &Parts, answer: Response<Body>) -> Response<Body> {
        self.0.change(head, answer)
    }
}

/// Answers 400 to a request with credentials, as S3 does to one that is signed in its URL.
fn no_authorization() -> Arc<dyn Quirk> {
    instead(|head| head.headers.contains_key(AUTHORIZATION).then(|| answer(400)))
}

//! How a scripted registry answers one request: as the distribution-spec says, except where the script does.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, IF_RANGE,
    LOCATION, RANGE, WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use pullthrough::oci::{Algorithm, Digest};
use pullthrough::wire::Body;
use serde_json::json;

use super::script::{Act, Length, Part};
use super::server::{Seen, Shared};
use super::stream;
use super::token::{Verdict, basic, decoded};

/// The status of a [`Part`] that is no answer: the connection breaks, or the stream is reset.
const RESET: u16 = 0;
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The head of an answer and the bytes that it is about.
struct Draft {
    status: u16,
    headers: HeaderMap,
    bytes: Bytes,
    length: Length,
}

pub(super) async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let place = shared.see(seen(&request));
    let acts = shared.acts(method.as_str(), &path);
    for act in &acts {
        match act {
            Act::Delay(time) => tokio::time::sleep(*time).await,
            Act::Wait(gate) => gate.passed().await,
            Act::Silence => std::future::pending().await,
            Act::ToRange(act) if matches!(**act, Act::Silence) && request.headers().contains_key(RANGE) => {
                std::future::pending().await
            }
            Act::Reset => return Err(std::io::Error::other("reset by the script")),
            _ => {}
        }
    }
    let mut draft = match scripted(&acts, &request) {
        Some(draft) => draft,
        None => honest(&shared, request, &acts).await,
    };
    if draft.status == RESET {
        return Err(std::io::Error::other("reset by the script"));
    }
    shared.answered(place, draft.status);
    if acts.iter().any(|act| matches!(act, Act::Coded)) && draft.status == 200 {
        compress(&mut draft);
    }
    distort(&mut draft, &acts);
    Ok(response(draft, &method, &acts))
}

fn seen(request: &Request<Incoming>) -> Seen {
    let uri = request.uri();
    let host = request.headers().get("host").and_then(|value| value.to_str().ok());
    Seen {
        method: request.method().to_string(),
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        headers: request.headers().clone(),
        version: request.version(),
        authority: uri.authority().map(ToString::to_string).or(host.map(str::to_owned)).unwrap_or_default(),
        status: None,
    }
}

/// What the script says instead of an honest answer: a challenge first, then anything else.
fn scripted<B>(acts: &[Act], request: &Request<B>) -> Option<Draft> {
    let path = request.uri().path();
    let to_others = acts.iter().find_map(|act| match act {
        Act::Unless(authorization, act) => {
            let is_theirs = request.headers().get("authorization").is_some_and(|value| value == authorization);
            if is_theirs { None } else { instead(act, request.method(), path) }
        }
        Act::UnlessAccepts(media_type, act) => {
            let said = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
            let is_named = said.flat_map(|value| value.split(',')).any(|name| name.trim() == *media_type);
            if is_named { None } else { instead(act, request.method(), path) }
        }
        Act::ToRange(act) if request.headers().contains_key(RANGE) => instead(act, request.method(), path),
        Act::ToOpenRange(act) if request.headers().get(RANGE).is_some_and(|range| range.as_bytes().ends_with(b"-")) => {
            instead(act, request.method(), path)
        }
        _ => None,
    });
    if to_others.is_some() {
        return to_others;
    }
    if request.method() == Method::HEAD && acts.iter().any(|act| matches!(act, Act::NoHead)) {
        return Some(error(405, "UNSUPPORTED")); // before it looks who asks
    }
    let challenged = acts.iter().find_map(|act| match act {
        Act::Bearer(tokens, realm) => {
            let repository = split(path).map(|(name, _, _)| name);
            let verdict = tokens.judge(request.headers(), repository);
            (verdict != Verdict::Allowed).then(|| unauthorized(&bearer_challenge(realm, request, verdict)))
        }
        Act::Basic(user, password) => (basic(request.headers()) != Some((user.clone(), password.clone())))
            .then(|| unauthorized("Basic realm=\"lab\"")),
        _ => None,
    });
    challenged.or_else(|| acts.iter().find_map(|act| instead(act, request.method(), path)))
}

fn instead(act: &Act, method: &Method, path: &str) -> Option<Draft> {
    let head = method == Method::HEAD;
    match act {
        Act::Status(status) if *status >= 400 => Some(error(*status, "SCRIPTED")),
        Act::Status(status) => Some(plain(*status, "")),
        Act::Answer { status, headers, body } => {
            let mut draft = plain(*status, body);
            for (name, value) in headers {
                draft.headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            Some(draft)
        }
        Act::Redirect { status, location } => {
            let mut draft = plain(*status, "elsewhere");
            let location = HeaderValue::from_bytes(location.replace("{path}", path).as_bytes()).unwrap();
            draft.headers.insert(LOCATION, location);
            Some(draft)
        }
        Act::EveryHead if head => {
            let mut draft = plain(200, "");
            draft.bytes = Bytes::from_static(&[0; 1234]);
            let named = path.rsplit('/').next().filter(|last| last.parse::<Digest>().is_ok());
            let invented = Digest::of(Algorithm::Sha256, path.as_bytes()).to_string();
            draft.headers.insert(DIGEST, named.unwrap_or(&invented).parse().unwrap());
            Some(draft)
        }
        _ => None,
    }
}

fn bearer_challenge<B>(realm: &str, request: &Request<B>, verdict: Verdict) -> String {
    let mut challenge = format!("Bearer realm=\"{realm}\",service=\"lab\"");
    if let Some((name, _, _)) = split(request.uri().path()) {
        let actions = if matches!(request.method().as_str(), "GET" | "HEAD") { "pull" } else { "pull,push" };
        challenge.push_str(&format!(",scope=\"repository:{name}:{actions}\""));
    }
    if verdict == Verdict::InsufficientScope {
        challenge.push_str(",error=\"insufficient_scope\"");
    }
    challenge
}

fn unauthorized(challenge: &str) -> Draft {
    let mut draft = error(401, "UNAUTHORIZED");
    draft.headers.insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
    draft
}

/// Repository, noun and the rest of a path; whatever stands before `/v2/` is ignored.
fn split(path: &str) -> Option<(&str, &str, &str)> {
    let (_, path) = path.split_once("/v2/")?;
    ["/blobs/uploads", "/manifests/", "/blobs/", "/tags/list", "/referrers/"].into_iter().find_map(|noun| {
        let (name, rest) = path.rsplit_once(noun)?;
        Some((name, noun.trim_matches('/'), rest.trim_start_matches('/')))
    })
}

async fn honest(shared: &Shared, request: Request<Incoming>, acts: &[Act]) -> Draft {
    let path = request.uri().path().to_owned();
    let tokens = shared.tokens.lock().unwrap().clone();
    if let (Some(tokens), "/token") = (&tokens, path.as_str()) {
        let issued = if request.method() == Method::POST {
            let form = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            tokens.issue_form(&String::from_utf8_lossy(&form))
        } else {
            tokens.issue(request.headers(), request.uri().query().unwrap_or_default())
        };
        return issued.map_or_else(|| unauthorized("Basic realm=\"lab\""), |body| typed("application/json", body));
    }
    if path == "/v2/" {
        return typed("application/json", "{}");
    }
    let Some((name, noun, rest)) = split(&path) else { return error(404, "NOT_FOUND") };
    match (request.method().as_str(), noun) {
        ("GET" | "HEAD", "blobs" | "manifests") => content(shared, name, noun, rest, request.headers(), acts),
        ("GET", "tags/list") => tags(shared, name),
        ("GET", "referrers") => {
            let index = json!({"schemaVersion": 2, "mediaType": super::INDEX, "manifests": []});
            typed(super::INDEX, index.to_string())
        }
        ("DELETE", "blobs/uploads") if shared.content.lock().unwrap().uploads.remove(rest).is_some() => plain(204, ""),
        ("DELETE", _) if shared.content.lock().unwrap().remove(name, rest) => plain(202, ""),
        ("POST" | "PATCH" | "PUT", _) => {
            let (name, rest) = (name.to_owned(), rest.to_owned());
            push(shared, &name, noun == "manifests", &rest, request, acts).await
        }
        _ => error(404, "NAME_UNKNOWN"),
    }
}

fn tags(shared: &Shared, name: &str) -> Draft {
    match shared.content.lock().unwrap().tags(name) {
        Some(tags) => typed("application/json", json!({"name": name, "tags": tags}).to_string()),
        None => error(404, "NAME_UNKNOWN"),
    }
}

fn content(shared: &Shared, name: &str, noun: &str, rest: &str, asked: &HeaderMap, acts: &[Act]) -> Draft {
    let held = shared.content.lock().unwrap();
    let found = if noun == "manifests" {
        held.manifest(name, rest)
    } else {
        held.blob(name, rest).map(|bytes| (rest.to_owned(), "application/octet-stream".to_owned(), bytes))
    };
    drop(held);
    let Some((digest, media_type, mut bytes)) = found else {
        return error(404, if noun == "manifests" { "MANIFEST_UNKNOWN" } else { "BLOB_UNKNOWN" });
    };
    for act in acts {
        if let Act::WrongByte(at) = act {
            let mut wrong = bytes.to_vec();
            wrong[*at as usize] ^= 1;
            bytes = wrong.into();
        }
    }
    let mut draft = typed(&media_type, bytes);
    let etag = format!("\"{digest}\"");
    draft.headers.insert(DIGEST, digest.parse().unwrap());
    draft.headers.insert(ETAG, etag.parse().unwrap());
    draft.headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let ignored = noun == "manifests" || acts.iter().any(|act| matches!(act, Act::IgnoreRange));
    let unchanged = asked.get(IF_RANGE).is_none_or(|value| *value == etag.as_str());
    match asked.get(RANGE).and_then(|value| value.to_str().ok()) {
        Some(range) if !ignored && unchanged => match acts.iter().find_map(|act| part(act, range, &draft.bytes)) {
            Some(part) => parted(draft, part),
            None => ranged(draft, range),
        },
        _ => draft,
    }
}

fn part(act: &Act, range: &str, bytes: &Bytes) -> Option<Part> {
    let Act::PartOf(make) = act else { return None };
    let from = range.strip_prefix("bytes=")?.split('-').next()?.parse().ok()?;
    Some(make(from, bytes))
}

fn parted(draft: Draft, part: Part) -> Draft {
    let mut draft = Draft { status: part.status, bytes: part.bytes, length: part.length, ..draft };
    if let Some(range) = part.range {
        draft.headers.insert(CONTENT_RANGE, range.parse().unwrap());
    }
    draft
}

/// One range; several are answered with the whole, as S3 does.
fn ranged(mut draft: Draft, range: &str) -> Draft {
    let length = draft.bytes.len() as u64;
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|spec| spec.split_once('-')) else { return draft };
    let (from, to) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) => (first, last.saturating_add(1).min(length)),
        (Ok(first), Err(_)) if last.is_empty() => (first, length),
        (Err(_), Ok(last)) if first.is_empty() => (length.saturating_sub(last), length),
        _ => return draft,
    };
    if from >= to {
        let mut draft = error(416, "RANGE_INVALID");
        draft.headers.insert(CONTENT_RANGE, format!("bytes */{length}").parse().unwrap());
        return draft;
    }
    draft.status = 206;
    draft.headers.insert(CONTENT_RANGE, format!("bytes {from}-{}/{length}", to - 1).parse().unwrap());
    draft.bytes = draft.bytes.slice(from as usize..to as usize);
    draft
}

async fn push(
    shared: &Shared,
    name: &str,
    is_manifest: bool,
    rest: &str,
    request: Request<Incoming>,
    acts: &[Act],
) -> Draft {
    let is_kept = !acts.iter().any(|act| matches!(act, Act::Swallow));
    let (head, mut body) = request.into_parts();
    let mut received = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return error(400, "BLOB_UPLOAD_INVALID") };
        let Ok(data) = frame.into_data() else {
            shared.trailed.fetch_add(1, Ordering::SeqCst);
            continue;
        };
        shared.uploaded.fetch_add(data.len() as u64, Ordering::SeqCst);
        if is_kept {
            received.extend_from_slice(&data);
        }
    }
    let query = head.uri.query().unwrap_or_default();
    let parameter = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)).map(decoded);
    let mut held = shared.content.lock().unwrap();
    if is_manifest {
        let media_type =
            head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or(super::MANIFEST);
        let digest = held.put_manifest(name, Some(rest), media_type, received.into());
        let digest = if rest.contains(':') { rest.to_owned() } else { digest.to_string() };
        return located(201, &format!("/v2/{name}/manifests/{digest}"), Some(&digest));
    }
    if let (Some(digest), Some(from)) = (parameter("mount="), parameter("from="))
        && let Some(blob) = held.blob(&from, &digest)
    {
        held.put_blob(name, &digest, blob);
        return located(201, &format!("/v2/{name}/blobs/{digest}"), Some(&digest));
    }
    let id = if rest.is_empty() { format!("upload-{}", held.uploads.len() + 1) } else { rest.to_owned() };
    let mut upload = held.uploads.remove(&id).unwrap_or_default();
    let begins = head.headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok()?.split('-').next()?.parse().ok());
    if begins.is_some_and(|begins: usize| begins != upload.len()) {
        held.uploads.insert(id, upload);
        return error(416, "BLOB_UPLOAD_INVALID");
    }
    upload.extend(received);
    if let Some(digest) = parameter("digest=") {
        let right =
            !is_kept || digest.parse().is_ok_and(|asked: Digest| Digest::of(asked.algorithm(), &upload) == asked);
        if !right {
            return error(400, "DIGEST_INVALID");
        }
        held.put_blob(name, &digest, upload.into());
        return located(201, &format!("/v2/{name}/blobs/{digest}"), Some(&digest));
    }
    let range = format!("0-{}", upload.len().saturating_sub(1));
    held.uploads.insert(id.clone(), upload);
    let mut draft = located(202, &format!("/v2/{name}/blobs/uploads/{id}"), None);
    draft.headers.insert(RANGE, range.parse().unwrap());
    draft
}

fn located(status: u16, location: &str, digest: Option<&str>) -> Draft {
    let mut draft = plain(status, "");
    draft.headers.insert(LOCATION, location.parse().unwrap());
    if let Some(digest) = digest {
        draft.headers.insert(DIGEST, digest.parse().unwrap());
    }
    draft
}

fn plain(status: u16, body: &str) -> Draft {
    Draft { headers: HeaderMap::new(), bytes: Bytes::copy_from_slice(body.as_bytes()), status, length: Length::True }
}

fn typed(media_type: &str, body: impl Into<Bytes>) -> Draft {
    let mut draft = Draft { status: 200, headers: HeaderMap::new(), bytes: body.into(), length: Length::True };
    draft.headers.insert(CONTENT_TYPE, media_type.parse().unwrap());
    draft
}

fn error(status: u16, code: &str) -> Draft {
    let body = json!({"errors": [{"code": code, "message": "said by the scripted registry"}]});
    Draft { status, ..typed("application/json", body.to_string()) }
}

fn compress(draft: &mut Draft) {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&draft.bytes).unwrap();
    draft.bytes = encoder.finish().unwrap().into();
    draft.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
}

/// Lies in the head of a good answer.
fn distort(draft: &mut Draft, acts: &[Act]) {
    let mut length = match draft.length {
        Length::True => Some(draft.bytes.len() as i64),
        Length::Unsaid => None,
        Length::Said(length) => Some(length as i64),
    };
    for act in acts {
        match act {
            Act::NoDigest => {
                draft.headers.remove(DIGEST);
            }
            Act::WrongLength(by) => length = length.map(|length| length + by),
            Act::NoLength => length = None,
            Act::Header(name, value) => {
                draft.headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            _ => {}
        }
    }
    if let Some(length) = length.filter(|_| !matches!(draft.status, 204 | 304)) {
        draft.headers.insert(CONTENT_LENGTH, length.max(0).into());
    }
}

fn response(draft: Draft, method: &Method, acts: &[Act]) -> Response<Body> {
    let body = if method == Method::HEAD { Body::empty() } else { stream::body(draft.bytes, acts) };
    let mut response = Response::new(body);
    *response.status_mut() = draft.status.try_into().unwrap();
    *response.headers_mut() = draft.headers;
    response
}

//! Asks a registry in one caller's name: endpoint by endpoint, until one gives an answer that counts.
//!
//! A question for the registry goes to its own host, or to an endpoint marked authoritative, and to no other. Where
//! anybody may read, a refused token is not the end: nobody's is tried. Every call asks anew from the registry on, so
//! an expired signed URL is never met twice.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue, IF_RANGE, RANGE, USER_AGENT, VIA,
};
use http::{Method, Response, StatusCode, Version};
use http_body_util::BodyExt;
use tracing::debug;

use super::answer_head::{self, Interval};
use super::{coding, page, redirected};
use crate::cache::{Carried, Detours, Fault, FaultKind, Origins, Place, Retry, Said, Subject, Validator};
use crate::oci::{Accept, Authority, Digest, Look, MANIFEST_LIMIT, OtherTypes, Repository};
use crate::proxy::answer::{self, Refused};
use crate::proxy::asked::AskedUpstream;
use crate::proxy::registry::registry::Registry;
use crate::telemetry::Kind;
use crate::upstream::{self, Downloads, Endpoint, Error, FinalHop, Outage, Upstream};
use crate::upstream::{AskAs, LedTo};
use crate::upstream::{AskError, Authenticated, Sending, is_foreign, retry_after, wants_a_token};
use crate::wire::{Body, Pseudonym};

/// How long a manifest's body may take: enough for the largest at 2 Mbit/s.
const MANIFEST_TIME: Duration = Duration::from_secs(60);

/// One repository of a registry, and in whose name it is asked there.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) upstream: Upstream,
    pub(crate) authenticated: Authenticated,
    pub(crate) outage: Outage,
    pub(crate) asked: AskedUpstream,
    pub(crate) detours: Detours,
    pub(crate) registry: Arc<Registry>,
    pub(crate) host: Authority,
    pub(crate) repository: Repository,
    pub(crate) ask_as: AskAs,
    /// What it carries of the caller's own credentials.
    pub(crate) carried: Carried,
    /// Anybody may read here, as far as is known.
    pub(crate) public: bool,
    pub(crate) manner: Manner,
    /// The client for which it is asked: of its share of the bandwidth.
    pub(crate) client: IpAddr,
}

/// What goes along of the client's own request: what it calls itself, and the types that it alone knows.
#[derive(Clone)]
pub(crate) struct Manner {
    user_agent: Option<HeaderValue>,
    others: OtherTypes,
    /// The proxies that it has come through, this one included: parents are told, and detect a loop by it.
    via: Option<HeaderValue>,
}

impl Manner {
    /// `told` is the pseudonym of this proxy, where there are parents to tell.
    pub(crate) fn of(headers: &HeaderMap, told: Option<&Pseudonym>) -> Self {
        let via = told.and_then(|us| HeaderValue::from_str(&us.via_entries(headers, Version::HTTP_11)).ok());
        Self { user_agent: headers.get(USER_AGENT).cloned(), others: accepted(headers).1, via }
    }
}

/// What the client accepts: the class by which a tag's answer is kept, and the types that are not known here.
pub(crate) fn accepted(headers: &HeaderMap) -> (Accept, OtherTypes) {
    let said = headers.get_all(ACCEPT).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let said: Vec<_> = said.collect();
    Accept::parse_all(said.iter().map(AsRef::as_ref))
}

impl Ask {
    /// The same repository asked with nobody's credentials.
    pub(crate) fn for_nobody(&self) -> Self {
        Self { ask_as: AskAs::Nobody, carried: Carried::Own, public: false, ..self.clone() }
    }

    /// Content by digest may come from any of the `origins`; what a tag is, and who may read, only the registry says.
    fn endpoints(&self, method: &Method, subject: &Subject, origins: Origins) -> Arc<[Endpoint]> {
        let by_digest = !matches!(subject, Subject::Tag(..));
        if by_digest && origins == Origins::Any && *method == Method::GET {
            self.registry.endpoints(&self.host)
        } else {
            self.registry.deciding_endpoints(&self.host)
        }
    }

    /// Asks the endpoints in turn, well ones first, until one gives an answer that counts. What a mirror refuses
    /// says nothing about the content; the registry's own word is final, except that it is throttled. Answers with
    /// the endpoint, too.
    pub(crate) async fn ask(
        &self,
        method: Method,
        subject: &Subject,
        options: &FetchOptions,
    ) -> Result<(Response<Body>, Endpoint), Fault> {
        let endpoints = self.endpoints(&method, subject, options.origins);
        let mut order = self.upstream.order(&endpoints);
        let well = order.iter().take_while(|endpoint| self.upstream.is_well(endpoint)).count();
        order[..well].rotate_left(options.way.checked_rem(well).unwrap_or(0));
        // What failed with this very content waits until all others were asked, well or not.
        order.sort_by_key(|endpoint| options.last.iter().position(|name| **name == *endpoint.name()));
        let mut decided = None;
        let mut last = None;
        for endpoint in order {
            match self.ask_at(endpoint, &method, subject, options).await {
                Ok(response) => return Ok((response, endpoint.clone())),
                Err(fault) if !endpoint.authoritative() => {
                    debug!(endpoint = endpoint.name(), %fault, "endpoint failed");
                    last = Some(Fault { said: Said::Nothing, ..fault });
                }
                Err(fault) if fault.said != Said::Nothing => return Err(fault),
                Err(fault) => {
                    debug!(endpoint = endpoint.name(), %fault, "endpoint failed");
                    decided = Some(fault);
                }
            }
        }
        Err(decided.or(last).unwrap_or_else(|| Fault::new(Retry::Never, answer::NoEndpoint)))
    }

    async fn ask_at(
        &self,
        endpoint: &Endpoint,
        method: &Method,
        subject: &Subject,
        options: &FetchOptions,
    ) -> Result<Response<Body>, Fault> {
        let mut headers = HeaderMap::new();
        let accept = match subject {
            // By digest there is one answer, whatever a caller accepts: a registry must not say 404 for its type.
            Subject::Manifest(_) => Some(Accept::EVERYTHING.with(&self.manner.others)),
            // The class that an answer is kept by: what the caller wrote besides would change the answer for others.
            Subject::Tag(_, accept) => Some(*accept),
            Subject::Blob(_) => None,
        };
        if let Some(accept) = accept {
            headers.insert(ACCEPT, value(&accept.header(&self.manner.others))?);
        }
        // Ours to say even where the client said nothing: a library's default would be another program's name.
        headers.insert(USER_AGENT, self.manner.user_agent.clone().unwrap_or(answer::USER_AGENT_VALUE));
        headers.extend(self.manner.via.iter().map(|value| (VIA, value.clone())));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity")); // bytes are what the digest names
        if let Some(range) = options.range() {
            headers.insert(RANGE, value(&range)?);
            let known = options.validators.iter().find(|known| *known.endpoint == *endpoint.name());
            if let Some(known) = known {
                headers.insert(IF_RANGE, value(&known.tag)?);
            }
        }
        let target = path(&self.repository, subject);
        let sending = Sending {
            registry: self.registry.name(),
            realms: self.registry.realms(),
            endpoint,
            repository: &self.repository,
            method,
            target: &target,
            headers: &headers,
            downloads: options.downloads,
            patience: options.patience,
        };
        let ask_as = self.registry.name_for(endpoint, &self.ask_as);
        // What has answered until now is not waited for as long as what may have to fetch the content first.
        let upstream = if options.resumes { &self.upstream.hasty() } else { &self.upstream };
        let mut answered = self.send(upstream, &ask_as, kind(subject), &sending).await;
        let is_refused = match &answered {
            Ok(response) => response.status() == StatusCode::UNAUTHORIZED && !is_foreign(response, endpoint),
            Err(ask_error) => ask_error.exchange().is_none_or(|error| matches!(error, Error::ConnectionBound { .. })),
        };
        // The rest of what this caller was given is checked by its digest for every reader.
        if is_refused && (self.public || options.resumes) && !matches!(ask_as, AskAs::Nobody) {
            answered = match (answered, self.send(upstream, &AskAs::Nobody, kind(subject), &sending).await) {
                (_, Ok(nobodys)) if self.public || nobodys.status().is_success() => Ok(nobodys),
                (_, nobodys) if self.public => nobodys,
                (refused, _) => refused,
            };
        }
        let response = answered.map_err(answer::fault_of_ask_error)?;
        if response.status().is_success() || response.status().is_redirection() {
            return self
                .fitting(response, method, subject, options.span, endpoint)
                .await
                .map(|response| self.counted(response));
        }
        if let AskAs::Caller(None) = ask_as
            && response.status() == StatusCode::UNAUTHORIZED
            && !is_foreign(&response, endpoint)
            && wants_a_token(response.headers())
        {
            let refused = refused(Refused::read(response, endpoint).await, options.span);
            return Err(Fault { said: Said::Challenged, ..refused });
        }
        // A foreign host's challenge is no word of the registry: it would send credentials to a token service of its choice.
        let foreign = response.extensions().get::<FinalHop>().filter(|hop| hop.authority != *endpoint.authority());
        if let Some(hop) = foreign {
            let (authority, status) = (hop.authority.clone(), response.status());
            if let Some(url) = response.extensions().get().and_then(LedTo::open_url) {
                return Err(Fault::new(Retry::Never, answer::HandedOver { authority, url }));
            }
            let kind = answer::kind_of(status);
            return Err(Fault {
                unfit: options.span.is_some() && is_about_range(status),
                retry_after: retry_after(response.headers(), SystemTime::now()),
                ..Fault::new(Retry::Again, answer::Elsewhere { authority, status }).of(kind)
            });
        }
        Err(refused(Refused::read(response, endpoint).await, options.span))
    }

    /// A success, if it is one for what was asked: else another endpoint may give it.
    async fn fitting(
        &self,
        response: Response<Body>,
        method: &Method,
        subject: &Subject,
        span: Option<Interval>,
        endpoint: &Endpoint,
    ) -> Result<Response<Body>, Fault> {
        answer_head::part(&response, span)?;
        let (digest, look) = (answer_head::digest(response.headers()), answer_head::proof(response.headers()).look());
        match subject {
            Subject::Blob(wanted) if *method == Method::GET && look == Look::Page && digest != Some(*wanted) => {
                page::unlabelled(response).await.ok_or_else(|| Fault::new(Retry::Again, answer::Page))
            }
            // Only the registry's own word is final.
            Subject::Manifest(wanted) if *method == Method::GET && !endpoint.authoritative() => {
                let (mut parts, body) = response.into_parts();
                let bytes = read(&parts.headers, body, endpoint, Some(*wanted)).await?;
                if Digest::of(wanted.algorithm(), &bytes) != *wanted {
                    let why = "another manifest than the one asked for";
                    return Err(Fault::new(Retry::Again, answer::Misfit { status: parts.status, why }));
                }
                parts.headers.remove(CONTENT_ENCODING);
                Ok(Response::from_parts(parts, Body::full(bytes)))
            }
            _ => Ok(response),
        }
    }

    async fn send(
        &self,
        upstream: &Upstream,
        ask_as: &AskAs,
        kind: Kind,
        sending: &Sending<'_>,
    ) -> Result<Response<Body>, AskError> {
        let question = AskedUpstream::begin(kind, sending.endpoint.authority());
        let answered = self.authenticated.ask(upstream, ask_as, sending).await;
        let detours = answered.as_ref().map_or_else(|_| Vec::new(), redirected::detours);
        if !detours.is_empty() {
            let place = Place { registry: self.registry.origin(&self.host), repository: self.repository.clone() };
            self.detours.note(&place, detours).await;
        }
        self.asked.note_asked(&question, answered.as_ref());
        answered
    }

    /// Counts the body's bytes as they arrive.
    fn counted(&self, response: Response<Body>) -> Response<Body> {
        let metrics = self.asked.metrics().clone();
        response.map(|body| {
            let body = self.upstream.share(self.client, body);
            Body::wrap(body.map_frame(move |frame| {
                if let Some(data) = frame.data_ref() {
                    metrics.upstream_bytes(data.len() as u64);
                }
                frame
            }))
        })
    }
}

/// How a request is made, besides what it is for.
#[derive(Default)]
pub(crate) struct FetchOptions {
    pub(crate) origins: Origins,
    pub(crate) span: Option<Interval>,
    pub(crate) validators: Vec<Validator>,
    pub(crate) way: usize,
    pub(crate) last: Vec<Arc<str>>,
    pub(crate) downloads: Downloads,
    pub(crate) resumes: bool,
    /// How long the head of an answer is waited for, where that is less than the registry's time for a first byte.
    pub(crate) patience: Option<Duration>,
}

fn kind(subject: &Subject) -> Kind {
    match subject {
        Subject::Blob(_) => Kind::Blob,
        Subject::Manifest(_) | Subject::Tag(..) => Kind::Manifest,
    }
}

fn path(repository: &Repository, subject: &Subject) -> String {
    match subject {
        Subject::Blob(digest) => format!("/v2/{repository}/blobs/{digest}"),
        Subject::Manifest(digest) => format!("/v2/{repository}/manifests/{digest}"),
        Subject::Tag(tag, _) => format!("/v2/{repository}/manifests/{tag}"),
    }
}

impl FetchOptions {
    /// The `Range` header.
    fn range(&self) -> Option<String> {
        self.span.map(|(from, to)| match to {
            None => format!("bytes={from}-"),
            Some(to) => format!("bytes={from}-{}", to.saturating_sub(1)),
        })
    }
}

/// Whether a refusal of a question for a part may be about its being one: the whole, or another part, may be granted.
fn is_about_range(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 405 | 406 | 412 | 416 | 417 | 422 | 501)
}

/// What the registry's own status means for the content, or the part of it, asked for.
fn refused(refused: Refused, span: Option<Interval>) -> Fault {
    let retry_after = retry_after(&refused.headers, SystemTime::now());
    let kind = match refused.status {
        StatusCode::RANGE_NOT_SATISFIABLE => FaultKind::NoSuchPart(answer_head::length_beyond(&refused.headers)),
        status => answer::kind_of(status),
    };
    if span.is_some() && is_about_range(refused.status) {
        return Fault { said: Said::Refused, retry_after, ..Fault::new(Retry::Again, refused).of(kind).unfit() };
    }
    let (retry, said) = match refused.status {
        StatusCode::NOT_FOUND | StatusCode::GONE if refused.is_own_word() => (Retry::Never, Said::Missing),
        StatusCode::UNAUTHORIZED => (Retry::Never, Said::Denied),
        StatusCode::FORBIDDEN => (Retry::Never, Said::Forbidden),
        StatusCode::TOO_MANY_REQUESTS => (Retry::Never, Said::Nothing),
        StatusCode::LOOP_DETECTED => (Retry::Never, Said::Nothing),
        status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => (Retry::Again, Said::Nothing),
        _ => (Retry::Never, Said::Refused),
    };
    Fault { retry, said, retry_after, ..Fault::new(retry, refused).of(kind) }
}

/// All of a manifest, without a coding that was not asked for.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    endpoint: &Endpoint,
    wanted: Option<Digest>,
) -> Result<Bytes, Fault> {
    let is_coded = coding::is_gzip(headers);
    let read = upstream::collect(body, endpoint.authority(), MANIFEST_LIMIT, MANIFEST_TIME).await;
    let read = read.map(|came| if is_coded { coding::plain(came, wanted, MANIFEST_LIMIT) } else { came });
    read.map_err(|cause| match Error::of_body(&cause) {
        Some(full @ Error::Full { .. }) => answer::fault_of(full.clone()),
        _ => Fault::new(Retry::Again, cause),
    })
}

fn value(text: &str) -> Result<HeaderValue, Fault> {
    HeaderValue::from_str(text).map_err(|cause| Fault::new(Retry::Never, cause))
}

//! Translates the head of one answer: the challenge, the places that it names, and what it says of the host as a whole.

use http::header::{
    CONTENT_LOCATION, HeaderMap, HeaderName, HeaderValue, LINK, LOCATION, SET_COOKIE, STRICT_TRANSPORT_SECURITY,
    WWW_AUTHENTICATE,
};
use http::{Method, Response, StatusCode};

use super::links;
use super::place::{AskedPlace, Led, written_name};
use crate::oci::{Challenge, Code, Route};
use crate::proxy::respond::{self, CACHE_STATUS, Failure, Rendered};
use crate::proxy::tokens::local::{LOCAL_TOKEN_PATH, LocalTokens};
use crate::upstream;

/// What a server says of itself to browsers, and here would say of the mirror.
const OF_THE_HOST: [HeaderName; 11] = [
    CONTENT_LOCATION,
    SET_COOKIE,
    STRICT_TRANSPORT_SECURITY,
    HeaderName::from_static("alt-svc"),
    HeaderName::from_static("authentication-info"),
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("nel"),
    HeaderName::from_static("oci-namespace"), // the client's own is echoed
    HeaderName::from_static("refresh"),
    HeaderName::from_static("report-to"),
    HeaderName::from_static("set-cookie2"),
];
/// What a client without any right is told, so that it does not try the same again.
const NO_RIGHT: &str = "insufficient_scope";

/// One answer to a mirror's client.
pub(crate) struct MirrorAnswer<'a> {
    pub(crate) place: &'a AskedPlace<'a>,
    pub(crate) method: &'a Method,
    /// The mirror knows its clients by passwords of its own.
    pub(crate) has_logins: bool,
}

/// Whether there is anything in an answer that a mirror's client would get in other words. There is not in what is cached.
pub(crate) fn is_to_translate<B>(response: &Response<B>) -> bool {
    let names = |name: &HeaderName| *name == LINK || *name == LOCATION || *name == WWW_AUTHENTICATE;
    response.status() == StatusCode::UNAUTHORIZED
        || response.headers().keys().any(|name| names(name) || OF_THE_HOST.contains(name))
}

impl MirrorAnswer<'_> {
    /// The answer as a client of the mirror may have it.
    pub(crate) fn translated(&self, rendered: Rendered) -> Rendered {
        let mut rendered = match rendered.response.status() {
            StatusCode::UNAUTHORIZED if !self.place.naming.takes_credentials => self.without_credentials(rendered),
            status if status.is_redirection() && self.reads() => self.redirected(rendered),
            _ => rendered,
        };
        let status = rendered.response.status();
        let headers = rendered.response.headers_mut();
        let said = upstream::challenges(headers);
        headers.remove(WWW_AUTHENTICATE);
        for name in OF_THE_HOST {
            headers.remove(name);
        }
        if status == StatusCode::UNAUTHORIZED
            && let Ok(challenge) = HeaderValue::from_str(&self.challenge(&said).to_string())
        {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        links::rewrite(headers, self.place);
        self.relocate(headers);
        rendered
    }

    /// A refusal of what no credentials of the client's can change: the registry is not asked with them by this name. A mirror with
    /// passwords of its own does not ask for one again. Else the registry's own words are the client's, and ours stand beside.
    fn without_credentials(&self, mut rendered: Rendered) -> Rendered {
        let message = if self.reads() {
            "the registry does not give this to everybody, and this mirror's name takes no credentials for it"
        } else {
            "the registry does not let everybody push or delete, and this mirror's name takes no credentials for it"
        };
        if self.has_logins {
            let speaker = rendered.speaker; // it is the registry that refuses, in other words
            let failure = Failure::new(StatusCode::FORBIDDEN, Code::Denied, "http_request_denied", message);
            return Rendered { speaker, ..replaced(rendered, &failure) };
        }
        if self.place.route.repository().is_some()
            && let Ok(told) = HeaderValue::from_str(&format!("pullthrough; details=\"{message}\""))
        {
            rendered.response.headers_mut().insert(respond::PROXY_STATUS, told);
            rendered.reason.get_or_insert_with(|| message.to_owned());
        }
        rendered
    }

    /// Our own challenge in the place of what was `said`: to get a token here, for what the client calls the repository.
    fn challenge(&self, said: &[Challenge]) -> Challenge {
        if matches!(self.place.route, Route::Other(path) if path.as_str() == LOCAL_TOKEN_PATH) {
            return Challenge::Basic { realm: Some("pullthrough".to_owned()) };
        }
        let theirs = Challenge::bearer(said);
        let scopes: Vec<String> = match (self.place.route.repository(), theirs) {
            (None, None) => Vec::new(),
            // Some registries name a repository of nobody's in their ping.
            (None, Some(theirs)) => theirs.scopes.iter().filter(|scope| named(scope).is_none()).cloned().collect(),
            (Some(own), theirs) => {
                let written = |name: &str| written_name(self.place.naming, own, name);
                let asked = theirs.map(|theirs| &theirs.scopes[..]).unwrap_or_default().iter();
                let asked = asked.filter_map(|scope| {
                    let (name, actions) = named(scope)?;
                    let name = self.without_prefix(name)?;
                    Some(format!("repository:{}:{actions}", written(name)))
                });
                let asked: Vec<String> = asked.collect();
                let is_named =
                    asked.iter().any(|scope| named(scope).is_some_and(|(name, _)| name == written(own.as_str())));
                if is_named { asked } else { vec![format!("repository:{}:{}", written(own.as_str()), self.actions())] }
            }
        };
        let mut ours = LocalTokens::challenge(&self.place.naming.base, scopes);
        ours.error = match self.place.naming.takes_credentials {
            true => theirs.and_then(|theirs| theirs.error.clone()),
            false => Some(NO_RIGHT.to_owned()),
        };
        Challenge::Bearer(ours)
    }

    /// A repository as the registry's endpoint calls it, by the registry's own name.
    fn without_prefix<'b>(&self, name: &'b str) -> Option<&'b str> {
        let endpoints = self.place.registry.deciding_endpoints(self.place.authority);
        endpoints.iter().find_map(|endpoint| match endpoint.prefix() {
            "" => Some(name),
            prefix => name.strip_prefix(prefix)?.strip_prefix('/'),
        })
    }

    fn actions(&self) -> &'static str {
        match *self.method {
            Method::GET | Method::HEAD => "pull",
            Method::DELETE => "delete",
            _ => "pull,push",
        }
    }

    fn reads(&self) -> bool {
        matches!(*self.method, Method::GET | Method::HEAD)
    }

    /// A redirect of a read: only to something else of the registry's, which is here.
    fn redirected(&self, rendered: Rendered) -> Rendered {
        let Some(location) = rendered.response.headers().get(LOCATION) else { return rendered };
        let asked = self.place.led(self.place.target.as_str().as_bytes(), false);
        if !matches!(self.place.led(location.as_bytes(), false), led if led == Led::Elsewhere || led == asked) {
            return rendered;
        }
        let message =
            "the registry redirects to another host, which requires credentials: a mirror's client is not sent there";
        replaced(rendered, &Failure::new(StatusCode::FORBIDDEN, Code::Denied, "http_request_denied", message))
    }

    /// `Location` of uploads and of what was pushed: at the mirror, unless it is another host's.
    fn relocate(&self, headers: &mut HeaderMap) {
        let Some(said) = headers.get(LOCATION) else { return };
        match self.place.led(said.as_bytes(), !self.reads()) {
            Led::Here(path) => {
                if let Ok(location) = HeaderValue::from_str(&format!("{}{path}", self.place.naming.base)) {
                    headers.insert(LOCATION, location);
                }
            }
            Led::Elsewhere if self.reads() => drop(headers.remove(LOCATION)),
            Led::Elsewhere => {}
        }
    }
}

/// The repository and the actions of a scope.
fn named(scope: &str) -> Option<(&str, &str)> {
    scope.strip_prefix("repository:")?.rsplit_once(':')
}

/// The proxy's own words in an answer's place. The audit log was told of that already.
fn replaced(rendered: Rendered, failure: &Failure) -> Rendered {
    let mut ours = failure.clone().told().render();
    if let Some(status) = rendered.response.headers().get(CACHE_STATUS) {
        ours.response.headers_mut().insert(CACHE_STATUS, status.clone());
    }
    ours
}

//! What passes between clients and token services: who asks for which tokens, and whose the tokens are.

use http::header::{AUTHORIZATION, HeaderMap};
use http::{HeaderValue, Method, Uri};

use super::stage::{authority, on_stage};
use crate::fuzzing::naive;
use crate::oci::Authorization;
use crate::proxy::tokens::bearers::{Bearers, Presented, TokenBinding};
use crate::proxy::tokens::request::TokenRequest;

fn parts(method: Method, uri: Uri, headers: HeaderMap) -> http::request::Parts {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    (parts.method, parts.uri, parts.headers) = (method, uri, headers);
    parts
}

/// Lines: `Authorization`, a query, a form. A token_request that is understood says each of its words once, to every
/// service.
pub fn token_request(data: &[u8]) {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let [header, query, form] = [(); 3].map(|()| lines.next().unwrap_or_default());
    let Ok(query) = std::str::from_utf8(query) else { return };
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(header)
        && !header.is_empty()
    {
        headers.insert(AUTHORIZATION, value);
    }
    let Ok(token_request) = TokenRequest::read(&headers, query, form) else { return };
    if let Ok(uri) = format!("/token?{query}").parse::<Uri>() {
        for method in [Method::GET, Method::POST] {
            let parts = parts(method, uri.clone(), headers.clone());
            on_stage(|stage| TokenBinding::of(&stage.proxy.cache, &parts, form, &token_request));
        }
    }
    let form = std::str::from_utf8(form).expect("a form that was understood is text");
    let pairs = [naive::form(query), naive::form(form)].concat();
    let only = |name: &str| {
        let alike: Vec<_> = pairs.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name)).collect();
        assert!(alike.len() <= 1 && alike.iter().all(|(found, _)| found == name), "{name} in {pairs:?}");
        alike.first().map(|(_, value)| value.as_str())
    };
    let (user, password) = (only("username"), only("password"));
    let (grant, refresh) = (only("grant_type"), only("refresh_token"));
    let scopes = pairs.iter().filter(|(name, _)| name == "scope").flat_map(|(_, value)| value.split_ascii_whitespace());
    assert_eq!(token_request.scopes(), scopes.collect::<Vec<_>>());
    let is_said = headers.contains_key(AUTHORIZATION) || refresh.is_some() || (user.is_some() && password.is_some());
    assert_eq!(token_request.credential().is_some(), is_said);
    if let Some(header) = headers.get(AUTHORIZATION) {
        let read = token_request.credential().map(Authorization::identifying);
        assert_eq!(read, Some(Authorization::parse(header.as_bytes()).identifying()));
    }
    assert!(!token_request.is_a_grant() || matches!(grant, Some("password" | "refresh_token")));
    let is_pull = |scope: &String| scope.ends_with(":pull");
    assert!(!token_request.is_to_pull() || token_request.scopes().iter().all(is_pull), "{:?}", token_request.scopes());
}

/// A token service's answer: its tokens, and no other, stand for the one who asked.
pub fn bearers(data: &[u8]) {
    on_stage(|stage| {
        let (cache, bearers, realm) = (&stage.proxy.cache, Bearers::new(), authority());
        let uri = "/token?scope=repository:team/app:pull".parse().unwrap();
        let parts = parts(Method::GET, uri, HeaderMap::new());
        let token_request =
            TokenRequest::read(&parts.headers, parts.uri.query().unwrap_or_default(), &[]).expect("a plain query");
        let binding = TokenBinding::of(cache, &parts, &[], &token_request).expect("a plain request");
        let is_bound = bearers.bind(cache, &realm, &binding, data);
        let value = naive::json(data).unwrap_or_default();
        let tokens = ["token", "access_token"].map(|name| value[name].as_str().unwrap_or_default());
        let bears = |token: &str, repository: &str| {
            let header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
            let header = Authorization::parse(header.as_bytes());
            Some(bearers.bears(cache, &stage.registry, &realm, &repository.parse().unwrap(), Some(&header)))
        };
        // Others come in no header.
        let is_token = |token: &&str| !token.is_empty() && *token == token.trim() && token.is_ascii();
        for token in tokens.into_iter().filter(is_token) {
            let is_known = bears(token, "team/app").is_none_or(|bears| matches!(bears, Presented::Anybody { .. }));
            assert!(!is_bound || is_known, "{token:?} is nobody's");
            assert!(bears(token, "team/other").is_none_or(|bears| bears == Presented::Itself), "{token:?} is for all");
        }
        let other = String::from_utf8_lossy(data);
        assert!(
            tokens.contains(&other.trim()) || bears(&other, "team/app").is_none_or(|bears| bears == Presented::Itself)
        );
    });
}

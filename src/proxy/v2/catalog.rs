//! Makes a `_catalog` of the repositories that the cache knows and that a caller may read, in pages.
//!
//! Threat: the names of private repositories. Defence: a repository is named to whom the cache would give a tag of it, by what
//! the registry has said before; who has no right is named what is public. The registry is not asked, and so whoever asks with a
//! password and has no right is delayed as one who guesses.

use std::collections::BTreeSet;
use std::ops::Bound;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LINK};
use http::{Method, Response, StatusCode};

use super::reader::ListReader;
use crate::cache::Place;
use crate::host::LogThrottle;
use crate::oci::{Code, Query, Repository};
use crate::proxy::context::Context;
use crate::proxy::respond::Failure;
use crate::store;
use crate::wire::Body;

/// So many names are on a page where the client says nothing, and at most.
const PAGE: usize = 100;
const LONGEST_PAGE: usize = 1000;
/// So many repositories of a registry are looked at, and so many at a time.
const MOST: usize = 20_000;
const AT_ONCE: u32 = 500;

/// The part of all names that is asked for.
pub(crate) struct CatalogPage<'a> {
    count: usize,
    after: &'a str,
    query: &'a Query,
}

/// The repositories that a request may read.
#[derive(Default)]
pub(crate) struct ReadableNames {
    pub(crate) names: Vec<Repository>,
    /// There are others, and the asker has shown a right in none: what it is told would tell a password that is right from one
    /// that is wrong.
    pub(crate) is_to_stranger: bool,
}

/// The repositories of the registry of `context` that the cache has something of, and that a request with these `headers` may
/// read.
///
/// # Errors
/// The catalog cannot be read.
pub(crate) async fn readable(context: &Context<'_>, headers: &HeaderMap) -> Result<ReadableNames, store::Error> {
    let (mut names, mut after, mut seen) = (Vec::new(), String::new(), 0);
    let (mut is_any_hidden, mut has_right) = (false, false);
    while seen < MOST {
        let found = context.proxy.store.catalog().repositories(&context.origin, &after, AT_ONCE).await?;
        let Some(last) = found.last() else { break };
        after = last.as_str().to_owned();
        seen += found.len();
        for repository in found {
            let place = Place { registry: context.origin.clone(), repository };
            let reader = ListReader::of(context, &place, headers).await;
            has_right |= reader.may_read && context.proxy.cache.is_granted(&place, &reader.principal, &reader.trust);
            if reader.may_read {
                names.push(place.repository);
            } else {
                is_any_hidden = true;
            }
        }
    }
    if seen >= MOST {
        static SAID: LogThrottle = LogThrottle::new(); // each request meets it
        if SAID.is_due() {
            tracing::warn!(registry = %context.origin, most = MOST, "the registry has more repositories in the cache than the mirror's catalog lists");
        }
    }
    Ok(ReadableNames { names, is_to_stranger: is_any_hidden && !has_right })
}

impl<'a> CatalogPage<'a> {
    /// `n=0` asks for no name, and more than a page may have for a page.
    ///
    /// # Errors
    /// `n` is no number, or a parameter is there twice.
    pub(crate) fn of(query: &'a Query) -> Result<Self, Failure> {
        let read = || {
            let count = match query.only("n").ok()? {
                None => PAGE,
                Some(text) => text.parse::<usize>().ok()?.min(LONGEST_PAGE),
            };
            Some(Self { count, after: query.only("last").ok()?.unwrap_or_default(), query })
        };
        let message = "n must be the number of names on a page, and n and last be there once";
        read().ok_or_else(|| Failure::new(StatusCode::BAD_REQUEST, Code::Unsupported, "http_request_error", message))
    }

    /// This page of `names`, and where the next one is, at `path`.
    pub(crate) fn answer(&self, method: &Method, path: &str, names: &BTreeSet<String>) -> Response<Body> {
        let mut rest = names.range::<str, _>((Bound::Excluded(self.after), Bound::Unbounded));
        let page: Vec<&String> = rest.by_ref().take(self.count).collect();
        let last = page.last().filter(|_| rest.next().is_some());
        // A name is written without escapes. What else is asked for stays: `ns` says which registry is meant.
        let others = self.query.without("n").without("last").to_string();
        let joint = if others.is_empty() { "" } else { "&" };
        let next = last.map(|last| format!("<{path}?{others}{joint}n={}&last={last}>; rel=\"next\"", self.count));
        let body = serde_json::json!({ "repositories": page }).to_string();
        let length = HeaderValue::from(body.len());
        let mut response = Response::new(if *method == Method::HEAD { Body::empty() } else { Body::full(body) });
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, length);
        if let Some(Ok(next)) = next.map(|next| HeaderValue::from_str(&next)) {
            headers.insert(LINK, next);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_as_many_names_as_are_asked_for_and_leads_to_the_next() {
        let names: BTreeSet<String> = (0..1500).map(|number| format!("a/{number:04}")).collect();
        let table = [
            ("", Some((100, "a/0000", "</v2/_catalog?n=100&last=a/0099>; rel=\"next\""))),
            ("n=2", Some((2, "a/0000", "</v2/_catalog?n=2&last=a/0001>; rel=\"next\""))),
            ("n=2&last=a%2F0001", Some((2, "a/0002", "</v2/_catalog?n=2&last=a/0003>; rel=\"next\""))),
            ("ns=quay.io&n=1", Some((1, "a/0000", "</v2/_catalog?ns=quay.io&n=1&last=a/0000>; rel=\"next\""))),
            ("n=0", Some((0, "", ""))),
            ("n=100000", Some((1000, "a/0000", "</v2/_catalog?n=1000&last=a/0999>; rel=\"next\""))),
            ("last=a/1498&n=1", Some((1, "a/1499", ""))),
            ("last=b", Some((0, "", ""))),
            ("n=", None),
            ("n=-1", None),
            ("n=garbage", None),
            ("n=1&n=2", None),
            ("last=a&last=b", None),
        ];
        for (text, expected) in table {
            let query = Query::parse(text).unwrap();
            let Ok(page) = CatalogPage::of(&query) else {
                assert_eq!(expected, None, "{text}");
                continue;
            };
            let rest: Vec<_> = names.iter().filter(|name| name.as_str() > page.after).take(page.count).collect();
            let answer = page.answer(&Method::GET, "/v2/_catalog", &names);
            let link = answer.headers().get(LINK).map_or("", |link| link.to_str().unwrap());
            let first = rest.first().map_or("", |first| first.as_str());
            assert_eq!(Some((rest.len(), first, link)), expected, "{text}");
        }
    }
}

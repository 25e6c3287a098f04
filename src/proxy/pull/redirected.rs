//! Tells to which repositories of other hosts the registry's answers were redirected to.

use http::Response;

use crate::cache::Detour;
use crate::oci::{Authority, Route};
use crate::upstream::FinalHop;

/// To which other repositories the answer was redirected. A CDN's or a signed address is none.
pub(crate) fn detours<B>(answer: &Response<B>) -> Vec<Detour> {
    let hop = answer.extensions().get::<FinalHop>();
    hop.into_iter().flat_map(|hop| &hop.elsewhere).filter_map(detour).collect()
}

fn detour((host, path): &(Authority, String)) -> Option<Detour> {
    match Route::parse(path) {
        Ok(Route::Ping) => None,
        Ok(route) => route.is_of_protocol().then(|| Detour::To(host.clone(), route.repository().cloned())),
        Err(_) => Some(Detour::To(host.clone(), None)), // a server may read any repository in it
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_server_may_take_for_a_repository_is_a_detour() {
        let host = Authority::parse("b.test", 443).unwrap();
        let digest = format!("sha256:{}", "0".repeat(64));
        let some = |name: &str| Some(Detour::To(host.clone(), Some(name.parse().unwrap())));
        let any = || Some(Detour::To(host.clone(), None));
        let table = [
            (format!("/v2/internal/app/blobs/{digest}"), some("internal/app")),
            ("/v2/internal/app/manifests/latest".to_owned(), some("internal/app")),
            ("/v2/internal/app/tags/list".to_owned(), some("internal/app")),
            ("/v2/_catalog".to_owned(), any()),
            ("/v2/internal%2Fapp/manifests/latest".to_owned(), any()),
            ("/%762/internal/app/manifests/latest".to_owned(), any()),
            ("//v2/internal/app/manifests/latest".to_owned(), any()),
            ("/v2/".to_owned(), None),
            (format!("/registry/sha256/00/{digest}/data"), None),
            ("/token".to_owned(), None),
        ];
        for (path, expected) in table {
            assert_eq!(detour(&(host.clone(), path.clone())), expected, "{path}");
        }
    }
}

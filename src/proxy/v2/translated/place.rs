//! Finds out where a reference in a registry's answer leads, and what a mirror's client calls that.
//!
//! Registries write references as they like: a path, a whole URL, with their own port, or with the scheme that they are
//! reached by behind a proxy. One to the registry itself is a path at the mirror; every other one leads elsewhere.

use http::uri::PathAndQuery;

use super::upload::{self, Uploads};
use crate::oci::{Authority, Host, Repository, Route};
use crate::proxy::registry::registry::Registry;
use crate::proxy::site::Naming;
use crate::upstream::{Endpoint, led_to};

/// The request whose answer is read.
pub(crate) struct AskedPlace<'a> {
    pub(crate) uploads: Uploads<'a>,
    pub(crate) naming: &'a Naming,
    pub(crate) registry: &'a Registry,
    pub(crate) authority: &'a Authority,
    pub(crate) route: &'a Route,
    pub(crate) target: &'a PathAndQuery,
}

/// Where a reference leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Led {
    /// To the registry: the path and query at the mirror.
    Here(String),
    /// To another host, or to what a mirror's client cannot ask for.
    Elsewhere,
}

impl AskedPlace<'_> {
    /// Where the `reference` leads. With `is_upload`, any path of the registry's is one that the client may come back to.
    pub(crate) fn led(&self, reference: &[u8], is_upload: bool) -> Led {
        let endpoints = self.registry.deciding_endpoints(self.authority);
        let found = endpoints.iter().find_map(|endpoint| {
            let (authority, target) = led_to(endpoint, self.target, reference)?;
            if !self.is_registry(&authority, endpoint) {
                return None;
            }
            let path = without_prefix(target.path(), endpoint.prefix())?;
            let path = self.written(&path, is_upload)?;
            Some(self.with_query(path, target.query()))
        });
        found.map_or(Led::Elsewhere, Led::Here)
    }

    /// Whether the registry, as this endpoint reaches it, is at `authority`: the host's name decides, since a registry behind a
    /// proxy may not know its own scheme and port. An address may be many servers.
    fn is_registry(&self, authority: &Authority, endpoint: &Endpoint) -> bool {
        let is_alias = || {
            let host = Authority { host: authority.host.clone(), port: 443 };
            self.registry.is_one() && self.registry.is_at(&host)
        };
        match &authority.host {
            Host::Address(_) => authority == endpoint.authority() || authority == self.authority,
            host => *host == endpoint.authority().host || *host == self.authority.host || is_alias(),
        }
    }

    /// A path of the registry's as the client writes it. `None` where servers could read it in different ways, and where
    /// the client has no name for it.
    fn written(&self, path: &str, is_upload: bool) -> Option<String> {
        let Some(repository) = self.route.repository() else {
            return (path == self.target.path()).then(|| path.to_owned()); // another page of the same list
        };
        let route = Route::parse(path).ok()?;
        let is_sealed_there = matches!(&route, Route::Upload(_, Some(name)) if upload::is_sealed(name));
        match route.repository().filter(|_| !is_sealed_there) {
            // Another repository's upload is judged as that one's when the client comes back to it.
            Some(named) if is_upload || named == repository => {
                let rest = path.strip_prefix("/v2/")?.strip_prefix(named.as_str())?;
                Some(format!("/v2/{}{rest}", known_name(self.naming, repository, named.as_str())?))
            }
            None if is_upload => {
                let name = self.uploads.sealed(repository, path)?;
                Some(format!("/v2/{}/blobs/uploads/{name}", known_name(self.naming, repository, repository.as_str())?))
            }
            _ => None,
        }
    }

    fn with_query(&self, path: String, query: Option<&str>) -> String {
        let namespace = self.naming.namespace.as_ref().map(|namespace| format!("ns={namespace}"));
        let parameters: Vec<&str> =
            query.into_iter().filter(|query| !query.is_empty()).chain(namespace.as_deref()).collect();
        if parameters.is_empty() { path } else { format!("{path}?{}", parameters.join("&")) }
    }
}

/// The path as it is before the endpoint's prefix is put in. `None` where it lies beside that.
fn without_prefix(path: &str, prefix: &str) -> Option<String> {
    match path.strip_prefix("/v2/") {
        Some(rest) if !prefix.is_empty() => Some(format!("/v2/{}", rest.strip_prefix(prefix)?.strip_prefix('/')?)),
        _ => Some(path.to_owned()),
    }
}

/// What the client calls another repository of the registry, by what it calls this one; the registry's own name where
/// that does not tell.
pub(crate) fn written_name(naming: &Naming, own: &Repository, other: &str) -> String {
    known_name(naming, own, other).unwrap_or_else(|| other.to_owned())
}

fn known_name(naming: &Naming, own: &Repository, other: &str) -> Option<String> {
    let (own, written) = (own.as_str(), naming.repository.as_deref().unwrap_or(own.as_str()));
    if other == own {
        return Some(written.to_owned());
    }
    let is_below = |above: &&str| above.is_empty() || above.ends_with('/');
    if let Some(above) = own.strip_suffix(written).filter(is_below) {
        return other.strip_prefix(above).map(str::to_owned);
    }
    let above = written.strip_suffix(own).filter(is_below)?;
    Some(format!("{above}{other}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::RegistrySettings;
    use crate::proxy::registry::config::{Prefetch, Push};
    use crate::upstream::EndpointConfig;

    fn registry(hosts: &[&str], endpoint: Option<&str>) -> Registry {
        Registry::new(&RegistrySettings {
            name: hosts[0].to_owned(),
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            endpoints: endpoint.iter().map(|url| EndpointConfig::of_url((*url).to_owned())).collect(),
            token_hosts: Vec::new(),
            named: true,
            realms: Vec::new(),
            auth: Default::default(),
            push: Push::Allow,
            prefetch: Prefetch::default(),
            tags: Default::default(),
            grants: Default::default(),
        })
        .unwrap()
    }

    fn naming(written: Option<&str>, namespace: Option<&str>) -> Naming {
        Naming {
            base: "http://mirror.test:5000".into(),
            repository: written.map(Into::into),
            namespace: namespace.map(Into::into),
            takes_credentials: false,
        }
    }

    /// Where `reference` leads in the answer to `asked`, a path of the registry's.
    fn led(registry: &Registry, naming: &Naming, asked: &str, reference: &str, is_upload: bool) -> Option<String> {
        let mac = |parts: &[&[u8]]| [parts.len() as u8; 32];
        let authority = Authority::parse(registry.name(), 443).unwrap();
        let target: PathAndQuery = asked.parse().unwrap();
        let route = Route::parse(target.path()).unwrap();
        let uploads = Uploads { mac: &mac, registry: registry.name() };
        let place = AskedPlace { uploads, naming, registry, authority: &authority, route: &route, target: &target };
        match place.led(reference.as_bytes(), is_upload) {
            Led::Here(path) => Some(path),
            Led::Elsewhere => None,
        }
    }

    #[test]
    fn a_reference_to_the_registry_is_the_clients_own_path_however_it_is_written() {
        let registry =
            registry(&["docker.io", "index.docker.io", "registry-1.docker.io"], Some("https://registry-1.docker.io"));
        let (short, spaced) = (naming(Some("alpine"), None), naming(Some("docker.io/alpine"), Some("docker.io")));
        let asked = "/v2/library/alpine/tags/list?n=1";
        let rest = "/v2/library/alpine/tags/list?n=1&last=3%2F1";
        for reference in [
            rest.to_owned(),
            format!("https://registry-1.docker.io{rest}"),
            format!("http://registry-1.docker.io:80{rest}"),
            format!("https://registry-1.docker.io:5000{rest}"),
            format!("//index.docker.io{rest}"),
            "list?n=1&last=3%2F1".to_owned(),
            "?n=1&last=3%2F1".to_owned(),
        ] {
            let found = led(&registry, &short, asked, &reference, false);
            assert_eq!(found.as_deref(), Some("/v2/alpine/tags/list?n=1&last=3%2F1"), "{reference}");
            let found = led(&registry, &spaced, asked, &reference, false);
            let expected = "/v2/docker.io/alpine/tags/list?n=1&last=3%2F1&ns=docker.io";
            assert_eq!(found.as_deref(), Some(expected), "{reference}");
        }
        for reference in [
            "https://cdn.docker.io/v2/library/alpine/tags/list",
            "https://registry-1.docker.io.evil.test/v2/library/alpine/tags/list",
            "/v2/library/other/tags/list",
            "/elsewhere",
            "javascript:alert(1)",
            "",
        ] {
            assert_eq!(led(&registry, &short, asked, reference, false), None, "{reference}");
        }
    }

    #[test]
    fn an_endpoints_prefix_is_none_of_the_clients_business() {
        let registry = registry(&["harbor.test"], Some("https://harbor.test:8443/project"));
        let naming = naming(Some("team/app"), None);
        let asked = "/v2/app/blobs/uploads/";
        for reference in [
            "/v2/project/app/blobs/uploads/1?_state=x%3D",
            "https://harbor.test:8443/v2/project/app/blobs/uploads/1?_state=x%3D",
        ] {
            let found = led(&registry, &naming, asked, reference, true);
            assert_eq!(found.as_deref(), Some("/v2/team/app/blobs/uploads/1?_state=x%3D"), "{reference}");
        }
        assert_eq!(led(&registry, &naming, asked, "/v2/other/app/blobs/uploads/1", true), None);
    }

    #[test]
    fn an_upload_outside_the_protocol_gets_a_name_of_ours_and_keeps_its_query() {
        let registry = registry(&["europe-docker.pkg.dev"], None);
        let naming = naming(Some("p/r/app"), Some("europe-docker.pkg.dev"));
        for reference in [
            "/artifacts-uploads/namespaces/p/repositories/r/uploads/AF?upload_id=1",
            "https://europe-docker.pkg.dev/v2/p/r/app/blobs/upload/0-1-2?upload_id=1",
            "/v2/p/r/app/blobs/uploads/pullthrough-1.AAAA?upload_id=1",
        ] {
            let found = led(&registry, &naming, "/v2/p/r/app/blobs/uploads/", reference, true).unwrap();
            assert!(found.starts_with("/v2/p/r/app/blobs/uploads/pullthrough-1."), "{found}");
            assert!(found.ends_with("?upload_id=1&ns=europe-docker.pkg.dev"), "{found}");
            assert_eq!(led(&registry, &naming, "/v2/p/r/app/blobs/uploads/", reference, false), None);
        }
        let moved = "/v2/p/r/moved/blobs/uploads/1?upload_id=1";
        let found = led(&registry, &naming, "/v2/p/r/app/blobs/uploads/", moved, true);
        assert_eq!(found.as_deref(), Some("/v2/p/r/moved/blobs/uploads/1?upload_id=1&ns=europe-docker.pkg.dev"));
        for odd in [
            "/v2/p/r/app/blobs/uploads/../../../../secret/manifests/v1",
            "/v2/p/r/%61pp/blobs/uploads/1",
            "/v2//p/r/app/blobs/uploads/1",
            "/x/../v2/secret/blobs/uploads/1",
            "/artifacts-uploads/%2e%2e/v2/secret/blobs/uploads/1",
        ] {
            assert_eq!(led(&registry, &naming, "/v2/p/r/app/blobs/uploads/", odd, true), None, "{odd}");
        }
        let elsewhere = "https://storage.test/upload?X-Amz-Signature=1";
        assert_eq!(led(&registry, &naming, "/v2/p/r/app/blobs/uploads/", elsewhere, true), None);
    }

    #[test]
    fn an_address_with_another_port_is_another_server() {
        let registry = registry(&["127.0.0.1:5000"], None);
        let naming = naming(Some("a"), None);
        let asked = "/v2/a/tags/list";
        let found = |reference: &str| led(&registry, &naming, asked, reference, false);
        assert_eq!(found("https://127.0.0.1:5000/v2/a/tags/list?last=x").as_deref(), Some("/v2/a/tags/list?last=x"));
        assert_eq!(found("https://127.0.0.1:5001/v2/a/tags/list?last=x"), None);
    }

    #[test]
    fn a_catalogs_next_page_is_the_same_list() {
        let registry = registry(&["r.test"], None);
        let found = |reference: &str| led(&registry, &naming(None, None), "/v2/_catalog?n=1", reference, false);
        assert_eq!(found("/v2/_catalog?n=1&last=a").as_deref(), Some("/v2/_catalog?n=1&last=a"));
        assert_eq!(found("/v2/a/tags/list"), None);
    }

    #[test]
    fn another_repository_is_called_as_the_client_would() {
        let table = [
            ("library/alpine", "alpine", "library/alpine", "alpine"),
            ("library/alpine", "alpine", "library/redis", "redis"),
            ("library/alpine", "alpine", "org/app", "org/app"),
            ("team/a/b", "a/b", "team/c", "c"),
            ("org/app", "quay.io/org/app", "org/app", "quay.io/org/app"),
            ("org/app", "quay.io/org/app", "org/other", "quay.io/org/other"),
            ("team/a", "corp/a", "team/b", "team/b"),
            ("xa", "a", "xb", "xb"),
        ];
        for (own, written, other, expected) in table {
            let found = written_name(&naming(Some(written), None), &own.parse().unwrap(), other);
            assert_eq!(found, expected, "{own} {written} {other}");
        }
    }
}

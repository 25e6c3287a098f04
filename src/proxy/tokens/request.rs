//! Reads what a client asks of a token service: for which scopes, and with whose credentials.

use http::header::{AUTHORIZATION, HeaderMap};
use zeroize::Zeroizing;

use crate::oci::{Authorization, BadQuery, Query};

/// A request for a token, by GET or by POST (distribution-spec, "Token Authentication"; RFC 6749, 4.3.2 and 6).
pub(crate) struct TokenRequest {
    scopes: Vec<String>,
    grant: Option<Zeroizing<String>>,
    credential: Option<Authorization>,
}

impl TokenRequest {
    /// Reads a request's headers, query and form.
    ///
    /// # Errors
    /// Its service could read it in another way: a broken escape, or one of the parameters that tell who asks twice.
    pub(crate) fn read(headers: &HeaderMap, query: &str, form: &[u8]) -> Result<Self, BadQuery> {
        let form = std::str::from_utf8(form).map_err(|_| BadQuery::Escape)?;
        let (query, form) = (Query::parse(query)?, Query::parse(form)?);
        let value = |name: &'static str| match (query.only(name)?, form.only(name)?) {
            (Some(_), Some(_)) => Err(BadQuery::Ambiguous(name)),
            (value, None) | (None, value) => Ok(value),
        };
        let (grant, refresh_token) = (value("grant_type")?, value("refresh_token")?);
        let (user, password) = (value("username")?, value("password")?);
        let scopes = query.iter().chain(form.iter()).filter(|(name, _)| *name == "scope");
        let scopes = scopes.flat_map(|(_, value)| value.split_ascii_whitespace().map(str::to_owned));
        let of_header = headers.get(AUTHORIZATION).map(|value| Authorization::parse(value.as_bytes()));
        let credential = of_header.or_else(|| match refresh_token {
            Some(token) => Some(Authorization::of_identity(token)),
            None => Some(Authorization::of_password(user?, password?)),
        });
        let grant = grant.map(|grant| Zeroizing::new(grant.to_owned()));
        Ok(Self { scopes: scopes.collect(), grant, credential })
    }

    /// The same for repositories as `named` calls them.
    pub(crate) fn named(self, named: impl Fn(&str) -> String) -> Self {
        Self { scopes: renamed(&self.scopes, named), ..self }
    }

    /// The credentials, from wherever they came.
    pub(crate) fn credential(&self) -> Option<&Authorization> {
        self.credential.as_ref()
    }

    /// The user whose password it brings, if it brings one.
    pub(crate) fn user(&self) -> Option<String> {
        self.credential()?.user()
    }

    /// The scopes, one by one.
    pub(crate) fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// Whether a form says by which of the two known ways it proves who asks, and does.
    pub(crate) fn is_a_grant(&self) -> bool {
        let is_identity = self.credential().is_some_and(Authorization::is_identity);
        match self.grant.as_ref().map(|grant| grant.as_str()) {
            Some("password") => self.credential.is_some() && !is_identity,
            Some("refresh_token") => is_identity,
            _ => false,
        }
    }

    /// Whether a token that lets nobody do more than read what is cached can answer it. Without a scope,
    /// credentials are there to be verified: that is a login.
    pub(crate) fn is_to_pull(&self) -> bool {
        let pulls = |scope: &String| scope.rsplit_once(':').is_some_and(|(_, actions)| actions == "pull");
        self.scopes.iter().all(pulls) && (self.credential.is_none() || !self.scopes.is_empty())
    }
}

/// Scopes for repositories as `named` calls them; scopes of something else stay.
pub(crate) fn renamed(scopes: &[String], named: impl Fn(&str) -> String) -> Vec<String> {
    let one = |scope: &String| {
        let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
        Some(format!("repository:{}:{actions}", named(name)))
    };
    scopes.iter().map(|scope| one(scope).unwrap_or_else(|| scope.clone())).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_pulls_are_answered_and_no_login_is() {
        let table = [
            ("scope=repository:library/alpine:pull&service=x", false, true),
            ("scope=repository%3Aa%3Apull&scope=repository%3Ab%3Apull", true, true),
            ("scope=repository:a:pull+repository:b:pull", true, true),
            ("scope=repository:a:pull,push", true, false),
            ("scope=repository:a:pull&scope=repository:b:push", true, false),
            ("scope=registry:catalog:*", true, false),
            ("service=x", false, true),
            ("service=x&account=me&offline_token=true", true, false),
        ];
        for (query, has_credential, expected) in table {
            let mut headers = HeaderMap::new();
            if has_credential {
                headers.insert(AUTHORIZATION, HeaderValue::from_static("Basic dTpw"));
            }
            assert_eq!(TokenRequest::read(&headers, query, b"").unwrap().is_to_pull(), expected, "{query}");
        }
    }

    #[test]
    fn a_form_and_a_header_with_the_same_password_are_one_credential() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Basic dTpwICY9")); // u:p &=
        let by_get = TokenRequest::read(&headers, "scope=repository:a:pull", b"").unwrap();
        let form = b"grant_type=password&username=u&password=p+%26%3D&scope=repository%3Aa%3Apull";
        let by_post = TokenRequest::read(&HeaderMap::new(), "", form).unwrap();
        let pair = |request: &TokenRequest| request.credential()?.pair().map(<[u8]>::to_vec);
        assert_eq!((pair(&by_get), pair(&by_post)), (Some(b"u:p &=".to_vec()), pair(&by_get)));
        assert!(by_post.is_to_pull());
        let identity = TokenRequest::read(
            &HeaderMap::new(),
            "",
            b"grant_type=refresh_token&refresh_token=r&scope=repository:a:pull",
        )
        .unwrap();
        assert_eq!(identity.credential().and_then(Authorization::identity), Some("r"));
        assert!(TokenRequest::read(&HeaderMap::new(), "scope=x", b"").unwrap().credential().is_none());
    }

    #[test]
    fn a_scope_is_for_the_repository_as_it_is_called_elsewhere() {
        let query = "scope=repository:app:pull,push+registry:catalog:*&scope=repository(plugin):a:pull";
        let token_request = TokenRequest::read(&HeaderMap::new(), query, b"").unwrap();
        let renamed = token_request.named(|name| format!("team/{name}"));
        let expected = ["repository:team/app:pull,push", "registry:catalog:*", "repository(plugin):a:pull"];
        assert_eq!(renamed.scopes(), expected);
    }

    #[test]
    fn one_name_is_one_name_however_it_is_spelt_and_is_there_once() {
        let none = HeaderMap::new();
        let token_request = TokenRequest::read(&none, "%73cope=repository%3aa%3Apush", b"").unwrap();
        assert_eq!(
            (token_request.scopes(), token_request.is_to_pull()),
            (&["repository:a:push".to_owned()][..], false)
        );
        let twice = [
            ("", "username=u&%75sername=v&password=p"),
            ("", "username=u&password=p&Password=q"),
            ("password=p", "username=u&password=q"),
            ("", "grant_type=password&grant_type=refresh_token"),
            ("scope=%zz", ""),
        ];
        for (query, form) in twice {
            assert!(TokenRequest::read(&none, query, form.as_bytes()).is_err(), "{query} {form}");
        }
        assert!(TokenRequest::read(&none, "", b"username=\xff").is_err());
    }
}

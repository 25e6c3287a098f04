//! Writes a request for a token: a GET with a query, or a POST with a form.

use std::fmt::Write;

use zeroize::Zeroizing;

use super::realm::Realm;
use crate::upstream::Credential;

/// What we call ourselves to a token service.
const CLIENT: &str = "pullthrough";

/// `name=value&...`, percent-encoded.
#[derive(Default)]
struct Form(Zeroizing<String>);

impl Form {
    fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => self.0.push(char::from(byte)),
                _ => {
                    let _ = write!(self.0, "%{byte:02X}"); // a String takes everything
                }
            }
        }
    }
}

/// The path and query of a GET: what the realm's own query says, then the proxy's parameters. One `scope` parameter for each.
pub(crate) fn query(realm: &Realm, service: Option<&str>, scopes: &[String], account: Option<&str>) -> String {
    let mut form = Form(Zeroizing::new(realm.query().unwrap_or_default().to_owned()));
    for (name, value) in [("service", service), ("account", account)] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            form.add(name, value);
        }
    }
    for scope in scopes {
        form.add("scope", scope);
    }
    if form.0.is_empty() { realm.path().to_owned() } else { format!("{}?{}", realm.path(), *form.0) }
}

/// The path and query of a POST: the realm's own.
pub(crate) fn target(realm: &Realm) -> String {
    realm.query().map_or_else(|| realm.path().to_owned(), |query| format!("{}?{query}", realm.path()))
}

/// The body of a POST (RFC 6749, 4.3.2 and 6): all scopes in one parameter.
pub(crate) fn body(service: Option<&str>, scopes: &[String], credential: &Credential) -> Zeroizing<String> {
    let mut form = Form::default();
    match credential {
        Credential::Password { user, password } => {
            form.add("grant_type", "password");
            form.add("username", user);
            form.add("password", password.expose());
        }
        Credential::Identity { token } => {
            form.add("grant_type", "refresh_token");
            form.add("refresh_token", token.expose());
        }
    }
    form.add("service", service.unwrap_or_default());
    form.add("client_id", CLIENT);
    form.add("access_type", "online");
    form.add("scope", &scopes.join(" "));
    form.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Secret;

    const SCOPES: [&str; 2] = ["repository:a/b:pull", "repository:c:pull,push"];

    fn scopes() -> Vec<String> {
        SCOPES.iter().map(|scope| (*scope).to_owned()).collect()
    }

    #[test]
    fn a_get_has_each_scope_of_its_own() {
        let realm: Realm = "https://r/token".parse().unwrap();
        assert_eq!(
            query(&realm, Some("reg istry"), &scopes(), Some("a&b")),
            "/token?service=reg%20istry&account=a%26b&scope=repository%3Aa%2Fb%3Apull&scope=repository%3Ac%3Apull%2Cpush"
        );
        let realm: Realm = "https://r/token?x=%20y".parse().unwrap();
        assert_eq!(query(&realm, None, &[], None), "/token?x=%20y");
        assert_eq!(query(&realm, Some("s"), &[], None), "/token?x=%20y&service=s");
        assert_eq!(target(&realm), "/token?x=%20y");
        assert_eq!(query(&"https://r".parse().unwrap(), None, &[], None), "/");
    }

    #[test]
    fn a_post_has_all_scopes_in_one_and_says_which_grant_it_wants() {
        let password = Credential::new("u".into(), Secret::new("p&=é".into()));
        assert_eq!(
            *body(Some("s"), &scopes(), &password),
            "grant_type=password&username=u&password=p%26%3D%C3%A9&service=s&client_id=pullthrough&access_type=online\
             &scope=repository%3Aa%2Fb%3Apull%20repository%3Ac%3Apull%2Cpush"
        );
        let identity = Credential::Identity { token: Secret::new("r".into()) };
        assert!(body(None, &[], &identity).starts_with("grant_type=refresh_token&refresh_token=r&service=&"));
    }
}

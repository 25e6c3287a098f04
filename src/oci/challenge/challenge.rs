//! A challenge to authenticate, as a server sends it and as this proxy prints its own.

use std::fmt;

use super::bearer::{Bearer, Quoted};
use super::header::HeaderReader;

/// One challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// User and password.
    Basic {
        /// A text for a person that says which user and password.
        realm: Option<String>,
    },
    /// A token from a token service.
    Bearer(Bearer),
    /// An unknown scheme, or Bearer without a realm.
    Other(String),
}

impl Challenge {
    /// Parses every challenge of every `WWW-Authenticate` (or `Proxy-Authenticate`) header of an answer.
    pub fn parse<'a>(headers: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        let items = headers.into_iter().flat_map(|header| HeaderReader::of(header).items());
        items.map(|(_, scheme, parameters)| Self::of(scheme, &parameters)).collect()
    }

    /// Splits one header into its challenges, each with its scheme and its original text; a part that breaks the grammar
    /// belongs to the last one.
    #[must_use]
    pub fn split(header: &str) -> Vec<(&str, &str)> {
        let items = HeaderReader::of(header).items();
        let ends = items.iter().skip(1).map(|(at, ..)| *at).chain([header.len()]);
        let written = |at: usize, end: usize| header[at..end].trim_end_matches([' ', '\t', ',']);
        items.iter().zip(ends).map(|((at, scheme, _), end)| (*scheme, written(*at, end))).collect()
    }

    /// The first Bearer challenge among them.
    #[must_use]
    pub fn bearer(challenges: &[Self]) -> Option<&Bearer> {
        challenges.iter().find_map(|challenge| match challenge {
            Self::Bearer(bearer) => Some(bearer),
            Self::Basic { .. } | Self::Other(_) => None,
        })
    }

    /// The scheme's name as it is usually written.
    #[must_use]
    pub fn scheme(&self) -> &str {
        match self {
            Self::Basic { .. } => "Basic",
            Self::Bearer(_) => "Bearer",
            Self::Other(scheme) => scheme,
        }
    }

    /// Combines scheme and parameters; the first of duplicate parameters counts.
    fn of(scheme: &str, parameters: &[(String, String)]) -> Self {
        let of = |name: &str| {
            let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            return Self::Basic { realm: of("realm") };
        }
        match of("realm") {
            Some(realm) if scheme.eq_ignore_ascii_case("bearer") => Self::Bearer(Bearer {
                realm,
                service: of("service"),
                scopes: of("scope").unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect(),
                error: of("error"),
            }),
            _ => Self::Other(scheme.to_owned()),
        }
    }
}

/// Every value quoted, as Docker's and containers' parsers expect it, `realm` first.
impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme())?;
        match self {
            Self::Basic { realm: Some(realm) } => write!(f, " realm={}", Quoted(realm)),
            Self::Basic { realm: None } | Self::Other(_) => Ok(()),
            Self::Bearer(bearer) => bearer.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: &str, scopes: &[&str], error: Option<&str>) -> Challenge {
        Challenge::Bearer(Bearer {
            realm: realm.to_owned(),
            service: (!service.is_empty()).then(|| service.to_owned()),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            error: error.map(str::to_owned),
        })
    }

    fn basic(realm: &str) -> Challenge {
        Challenge::Basic { realm: Some(realm.to_owned()) }
    }

    #[test]
    fn what_registries_send_is_understood() {
        let table = [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull,push""#,
                vec![bearer(
                    "https://auth.docker.io/token",
                    "registry.docker.io",
                    &["repository:library/alpine:pull,push"],
                    None,
                )],
            ),
            (
                r#"bearer scope="repository:a:pull repository:b:pull,push" , Realm = "https://a/t?x=1" ,error=invalid_token"#,
                vec![bearer(
                    "https://a/t?x=1",
                    "",
                    &["repository:a:pull", "repository:b:pull,push"],
                    Some("invalid_token"),
                )],
            ),
            (r#"Basic realm="a \"quoted\", \\ realm""#, vec![basic(r#"a "quoted", \ realm"#)]),
            (r"Basic realm=plain", vec![basic("plain")]),
            ("Basic", vec![Challenge::Basic { realm: None }]),
            (
                r#"Basic realm="r, Bearer realm=\"x\"", Bearer realm="https://t""#,
                vec![basic(r#"r, Bearer realm="x""#), bearer("https://t", "", &[], None)],
            ),
            (
                r#"Negotiate abc+/==, NTLM, ,Bearer service=s, realm="https://t""#,
                vec![
                    Challenge::Other("Negotiate".into()),
                    Challenge::Other("NTLM".into()),
                    bearer("https://t", "s", &[], None),
                ],
            ),
            (r#"Digest realm="d", nonce="n, m", qop=auth"#, vec![Challenge::Other("Digest".into())]),
            ("Bearer error=invalid_token", vec![Challenge::Other("Bearer".into())]),
            (r#"Bearer realm="a", realm="b""#, vec![bearer("a", "", &[], None)]),
            (
                "Bearer realm=https://auth.example.com/token?x=1,service=reg.example.com:5000,scope=repository:a/b:pull",
                vec![bearer(
                    "https://auth.example.com/token?x=1",
                    "reg.example.com:5000",
                    &["repository:a/b:pull"],
                    None,
                )],
            ),
            (
                r#"Bearer scope=repository:a/b:pull,push , service="s",realm="https://t""#,
                vec![bearer("https://t", "s", &["repository:a/b:pull,push"], None)],
            ),
            (
                r#"Bearer realm="https://t",scope=repository:a:pull repository:b:pull,push,*"#,
                vec![bearer("https://t", "", &["repository:a:pull", "repository:b:pull,push,*"], None)],
            ),
            (
                r#"Bearer realm=https://t,scope=repository:a:pull, Basic realm=x"#,
                vec![bearer("https://t", "", &["repository:a:pull"], None), basic("x")],
            ),
            ("Basic realm=Docker Registry", vec![basic("Docker Registry")]),
            (
                r#"Basic realm=Docker Registry , Bearer realm="https://t""#,
                vec![basic("Docker Registry"), bearer("https://t", "", &[], None)],
            ),
            (r#"BASIC realm = "Sonatype Nexus Repository Manager""#, vec![basic("Sonatype Nexus Repository Manager")]),
        ];
        for (header, expected) in table {
            assert_eq!(Challenge::parse([header]), expected, "{header}");
        }
    }

    #[test]
    fn several_headers_are_one_list() {
        let found = Challenge::parse(["Basic realm=a", r#"Bearer realm="https://t""#]);
        assert_eq!(found, [basic("a"), bearer("https://t", "", &[], None)]);
        assert_eq!(Challenge::bearer(&found).map(|bearer| bearer.realm.as_str()), Some("https://t"));
        assert_eq!(Challenge::bearer(&found[..1]), None);
    }

    #[test]
    fn nothing_behind_a_break_is_believed() {
        let table = [
            (r#"Basic realm="open, Bearer realm="https://evil""#, 1),
            (r#"Basic realm="a" Bearer realm="b""#, 1),
            ("Basic realm=, Bearer realm=x", 2), // `realm=` alone is a word of the old kind
            ("Basic@x", 1),
            (r#"Basic realm=x Bearer realm="https://evil""#, 1),
            ("Basic realm=x Bearer realm=https://evil, Bearer realm=https://evil", 1),
            (r#"Bearer realm=https://t"x", Bearer realm=y"#, 1),
            ("Bearer realm=https://t,scope=pull x=y, Basic realm=z", 1),
            (r#"Basic Bearer realm="b""#, 1), // no comma before the second
            ("Negotiate abc, Basic realm=a", 2),
            ("Negotiate abc", 1),
            ("=x", 0),
            ("", 0),
            (" , ,", 0),
        ];
        for (header, count) in table {
            assert_eq!(Challenge::parse([header]).len(), count, "{header}");
        }
        assert_eq!(Challenge::parse([r#"Basic realm="open"#]), [Challenge::Basic { realm: None }]);
    }

    #[test]
    fn a_challenge_of_our_own_cannot_break_its_header() {
        let told = bearer("https://r/\r\nX: y", "a\"b\\", &["repository:a:pull", "repository:b:pull"], Some("e"));
        assert_eq!(
            told.to_string(),
            r#"Bearer realm="https://r/X: y",service="a\"b\\",scope="repository:a:pull repository:b:pull",error="e""#
        );
        assert_eq!(basic("pullthrough").to_string(), r#"Basic realm="pullthrough""#);
    }

    fn any_challenge() -> impl Strategy<Value = Challenge> {
        let text = "[ -~]{0,20}";
        let scopes = prop::collection::vec("[!-~]{1,12}", 0..3);
        prop_oneof![
            prop::option::of(text).prop_map(|realm| Challenge::Basic { realm }),
            (text, prop::option::of(text), scopes, prop::option::of(text))
                .prop_map(|(realm, service, scopes, error)| Bearer { realm, service, scopes, error })
                .prop_map(Challenge::Bearer),
            "(NTLM|Hoba|X-y)".prop_map(Challenge::Other),
        ]
    }

    proptest! {
        #[test]
        fn no_header_panics_the_parser(header in prop_oneof![any::<String>(), "[A-Za-z=\", \\\\]{0,60}"]) {
            Challenge::parse([header.as_str()]);
        }

        #[test]
        fn what_is_printed_is_read_back(challenges in prop::collection::vec(any_challenge(), 0..4)) {
            let printed: Vec<String> = challenges.iter().map(ToString::to_string).collect();
            prop_assert_eq!(&Challenge::parse([printed.join(", ").as_str()]), &challenges);
            prop_assert_eq!(&Challenge::parse(printed.iter().map(String::as_str)), &challenges);
        }
    }
}

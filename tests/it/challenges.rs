//! Our reader of challenges beside the `http-auth` crate's: the same schemes and parameters out of the same header.
//!
//! The two differ in this alone, and each difference is a case below:
//! - `http-auth` knows no `token68` (`Negotiate abc==`) and no bytes beyond ASCII. RFC 9110 (11.2, 5.6.4) has both.
//! - It takes exactly one space between a scheme and its first parameter, and no space at the end. Registries are
//!   forgiven both here, and a comma between the two.
//! - Values without quotes are one token for it (RFC 9110, 5.6.2). Registries send URLs, scopes and several words without.
//! - Behind a fault it gives nothing of the challenge that has it. Here what stood before the fault counts.

use std::cell::Cell;

use http_auth::parser::ChallengeParser;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use pullthrough::oci::{Bearer, Challenge};
use regex_lite::Regex;

/// What the other one reads before the first fault, in our words, and whether there was one.
fn theirs(header: &str) -> (Vec<Challenge>, bool) {
    let mut read = Vec::new();
    for challenge in ChallengeParser::new(header) {
        let Ok(challenge) = challenge else { return (read, true) };
        let value = |name: &str| {
            let found = challenge.params.iter().find(|parameter| parameter.0.eq_ignore_ascii_case(name));
            found.map(|parameter| parameter.1.to_unescaped())
        };
        let realm = value("realm");
        read.push(match (challenge.scheme.to_ascii_lowercase().as_str(), realm) {
            ("basic", realm) => Challenge::Basic { realm },
            ("bearer", Some(realm)) => Challenge::Bearer(Bearer {
                realm,
                service: value("service"),
                scopes: value("scope").unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect(),
                error: value("error"),
            }),
            _ => Challenge::Other(challenge.scheme.to_owned()),
        });
    }
    (read, false)
}

/// How many headers are made up.
const CASES: u32 = 4_000;

/// What registries, token services and proxies send.
const CORPUS: [&str; 20] = [
    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#,
    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull",error="invalid_token""#,
    r#"Bearer realm="https://quay.io/v2/auth",service="quay.io""#,
    r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:user/image:pull""#,
    r#"Bearer realm="https://gcr.io/v2/token",service="gcr.io""#,
    r#"Bearer realm="https://gitlab.com/jwt/auth",service="container_registry",scope="repository:group/project:pull,push",error="invalid_token""#,
    r#"Bearer realm="https://myregistry.azurecr.io/oauth2/token",service="myregistry.azurecr.io""#,
    r#"Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws""#,
    r#"Bearer realm="https://nvcr.io/proxy_auth",scope="repository:nvidia/cuda:pull""#,
    r#"Bearer realm="https://harbor.example.com/service/token",service="harbor-registry",scope="repository:a:pull repository:b:pull,push""#,
    r#"Basic realm="https://123456789012.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com""#,
    r#"Basic realm="Registry Realm""#,
    r#"BASIC realm="Sonatype Nexus Repository Manager""#,
    r#"Bearer realm="https://a/token", Basic realm="a""#,
    r#"Basic realm="a", charset="UTF-8""#,
    "Basic",
    "Negotiate, NTLM, Basic realm=\"proxy\"",
    r#"Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, nonce="7ypf/xlj9X", opaque="FQhe/qaU925""#,
    r#"Newauth realm="apps", type=1, title="Login to \"apps\"", Basic realm="simple""#,
    r#"bearer Realm="https://a/t", , SERVICE=s ,scope="""#,
];

#[test]
fn what_registries_send_is_read_as_another_parser_reads_it() {
    for header in CORPUS {
        assert_eq!((Challenge::parse([header]), false), theirs(header), "{header}");
    }
}

#[test]
fn the_differences_are_these() {
    let other = |scheme: &str| Challenge::Other(scheme.to_owned());
    let basic = |realm: &str| Challenge::Basic { realm: Some(realm.to_owned()) };
    let table = [
        ("Negotiate abc==, Basic realm=a", vec![other("Negotiate"), basic("a")]),
        ("Negotiate YII/w, Basic realm=a", vec![other("Negotiate"), basic("a")]),
        ("Negotiate YII/+w=", vec![other("Negotiate")]),
        ("Basic realm=\"caf\u{e9}\"", vec![basic("caf\u{e9}")]),
        ("Basic  realm=a", vec![basic("a")]),
        ("Basic\trealm=a", vec![basic("a")]),
        ("Basic realm=a ", vec![basic("a")]),
        ("Basic realm=a, ", vec![basic("a")]),
        (" Basic realm=a", vec![basic("a")]),
        ("Basic realm=a x", vec![basic("a x")]),
        ("Basic realm=a x=y", vec![basic("a")]),
        ("Basic realm=https://a/t?x=1", vec![basic("https://a/t?x=1")]),
        ("Basic realm=a, x y", vec![basic("a"), other("x")]),
        ("Basic, realm=a", vec![basic("a")]),
    ];
    for (header, ours) in table {
        assert_eq!(Challenge::parse([header]), ours, "{header:?}");
        assert!(theirs(header).1, "{header:?} is no difference: {:?}", theirs(header));
    }
}

/// Headers of the pieces that challenges are made of, in any order.
fn any_header() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => r#"(Basic|bearer|BEARER|Digest|x) (realm|Realm|service|scope|error|nonce|x) ?= ?("[a-z ,=:/]{0,9}"|"([a-z]|\\["\\a,]){0,5}"|[a-z0-9:.]{1,6})"#,
        4 => r#"(realm|service|scope|SCOPE|error|x)=("[ -!#-\[\]-~]{0,9}"|[a-z0-9]{1,6})"#,
        1 => "(Basic|Bearer|NTLM|Negotiate|x)",
        1 => r#"[A-Za-z="\\, ]{0,8}"#,
    ];
    let between =
        prop_oneof![8 => Just(", "), 2 => Just(","), 1 => Just(" , "), 1 => Just(",,"), 1 => Just(" "), 1 => Just("")];
    prop::collection::vec((piece, between), 1..6).prop_map(|pieces| {
        let text: String = pieces.iter().map(|(piece, between)| format!("{piece}{between}")).collect();
        text.trim_end_matches([',', ' ']).to_owned()
    })
}

#[test]
fn generated_headers_are_read_as_another_parser_reads_them() {
    let mut runner = TestRunner::new(ProptestConfig::with_cases(CASES));
    let whole = Cell::new(0);
    // A comma or more than a space behind a scheme, credentials of one word, white space at the ends, and a value without
    // quotes that is more than a token.
    let forgiven = r#"(^|,)[ \t]*[A-Za-z]+([ \t]*,[ \t,]*[a-zA-Z]+ *=|  |\t| [A-Za-z0-9]*=*[ \t]*(,|$))|^[ ,]|[ ,]$|= *[^", ]*([:=\\]| +[^",=]*(,|$))"#;
    let forgiven = Regex::new(forgiven).unwrap();
    let compared = runner.run(&any_header(), |header| {
        let ours = Challenge::parse([header.as_str()]);
        let (theirs, faulty) = theirs(&header);
        whole.set(whole.get() + u32::from(!faulty));
        if faulty {
            prop_assert_eq!(ours.get(..theirs.len()), Some(theirs.as_slice()), "{}", header);
            // It had the challenge with the fault in hand, and perhaps the next one's scheme.
            let believed = forgiven.is_match(&header) || ours.len() <= theirs.len() + 2;
            prop_assert!(believed, "behind the fault: {} {:?}", header, ours);
        } else {
            prop_assert_eq!(ours, theirs, "{}", header);
        }
        Ok(())
    });
    compared.unwrap();
    assert!(whole.get() > CASES / 4, "only {} of {CASES} headers are without a fault", whole.get());
}

//! Schemes that log in a connection (Negotiate, NTLM): no request carries them upstream, and nobody inherits a login.

use super::private::EXAMPLE;
use super::{QUAY, layer};
use crate::support::client::Whole;
use crate::support::{Act, Plan, Proxy, Registry, Setup};

const SCHEMES: [&str; 4] = ["Negotiate YIIJvwYGKwYBBQUCoIIJszCC", "ntlm TlRMTVNTUAABAAAA", "Kerberos x", "NTLM"];

async fn ask(proxy: &Proxy, method: &str, path: &str, authorization: &str) -> Whole {
    proxy.client().session(EXAMPLE).await.ask(method, path, &[("authorization", authorization)]).await
}

fn challenge(value: &str) -> Act {
    Act::Header("www-authenticate".into(), value.into())
}

#[tokio::test]
async fn credentials_that_log_in_a_connection_are_refused_on_every_path_and_never_sent() {
    let (registry, auth) = (Registry::start("registry.example.com"), Registry::start("auth.example.com"));
    let plan = Plan::new().registry(&registry, "push: allow, token_hosts: [auth.example.com]");
    let proxy = plan.host("auth.example.com", &auth).start().await;
    let image = registry.push_image("team/app", "1", &[layer(1000, 1)]);
    let asked = [
        ("GET", "/v2/".to_owned()),
        ("GET", "/v2/team/app/manifests/1".to_owned()),
        ("HEAD", "/v2/team/app/manifests/1".to_owned()),
        ("GET", format!("/v2/team/app/manifests/{}", image.digest)),
        ("GET", format!("/v2/team/app/blobs/{}", image.layers[0])),
        ("HEAD", format!("/v2/team/app/blobs/{}", image.layers[0])),
        ("GET", "/v2/team/app/tags/list".to_owned()),
        ("GET", "/v2/_catalog".to_owned()),
        ("GET", "/about".to_owned()),
        ("GET", "/token".to_owned()),
        ("PUT", "/v2/team/app/manifests/2".to_owned()),
        ("POST", "/v2/team/app/blobs/uploads/".to_owned()),
        ("DELETE", format!("/v2/team/app/manifests/{}", image.digest)),
    ];
    for authorization in SCHEMES {
        for (method, path) in &asked {
            let got = ask(&proxy, method, path, authorization).await;
            assert_eq!(got.status, 403, "{authorization}: {method} {path}: {got:?}");
            let words = String::from_utf8_lossy(got.bytes());
            let scheme = authorization.split(' ').next().unwrap().to_ascii_lowercase();
            let says = words.contains("\"errors\"") && words.to_ascii_lowercase().contains(&scheme);
            assert!(says || *method == "HEAD", "{authorization}: {method} {path}: {words}");
        }
        let mut session = proxy.client().session("auth.example.com:443").await;
        let token = session.ask("GET", "/token?scope=repository:a:pull", &[("authorization", authorization)]).await;
        assert_eq!(token.status, 403, "{authorization}");
    }
    let is_sent = |seen: &crate::support::Seen| seen.headers.contains_key("authorization");
    assert!(!registry.requests().iter().chain(&auth.requests()).any(is_sent));
    assert!(proxy.client().get(EXAMPLE, "/v2/team/app/manifests/1").await.status == 200, "the registry is not away");
}

#[tokio::test]
async fn plain_http_by_absolute_form_carries_them_neither() {
    let plain = Registry::plain("files.example");
    let registry = Registry::start("quay.io");
    let at = plain.address();
    let proxy = Plan::new().registry(&registry, "").tunnel(&format!("allow: ['{at}']")).start().await;
    let mut session = proxy.client().plain_session(&at.to_string()).await;
    for (authorization, status) in [(SCHEMES[0], 403), (SCHEMES[3], 403), ("Basic eDp5", 200)] {
        let got = session.ask("GET", &format!("http://{at}/v2/"), &[("authorization", authorization)]).await;
        assert_eq!(got.status, status, "{authorization}");
    }
    assert_eq!(plain.requests().len(), 1);
}

#[tokio::test]
async fn what_anybody_may_read_is_given_to_who_logs_in_so_as_well() {
    let registry = Registry::start("registry.example.com");
    let proxy = Plan::new().registry(&registry, "tags: {fresh_for: 0s}").start().await;
    registry.push_image("team/app", "1", &[layer(1000, 2)]);
    assert_eq!(proxy.client().get(EXAMPLE, "/v2/team/app/manifests/1").await.status, 200);
    assert_eq!(ask(&proxy, "GET", "/v2/team/app/manifests/1", SCHEMES[0]).await.status, 200);
    assert!(!registry.requests().iter().any(|seen| seen.headers.contains_key("authorization")));
}

#[tokio::test]
async fn a_client_sees_what_else_is_offered() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").start().await;
    registry.script("*", Act::Status(401));
    let bearer = "Bearer realm=\"https://quay.io/token\",service=\"a, b\"";
    for (said, seen) in [
        (format!("Negotiate, {bearer}, NTLM"), bearer),
        ("Negotiate".to_owned(), "Negotiate"),
        ("Basic realm=\"Negotiate\"".to_owned(), "Basic realm=\"Negotiate\""),
    ] {
        let line = registry.script("*", challenge(&said));
        for path in ["/v2/", "/v2/a/manifests/1", "/v2/a/tags/list"] {
            let got = proxy.client().get(QUAY, path).await;
            assert_eq!((got.status.as_u16(), got.header("www-authenticate")), (401, seen), "{said}: {path}");
        }
        registry.unscript(line);
    }
}

#[tokio::test]
async fn a_connection_that_speaks_of_such_a_login_serves_nobody_else() {
    for (status, h2) in [(200, false), (401, false), (200, true)] {
        let registry = Registry::with(Setup { h2, ..Setup::named("quay.io") });
        let proxy = Plan::new().registry(&registry, "").start().await;
        registry.script("/v2/quiet/tags/list", Act::Status(404));
        let loud = Act::Answer { status, headers: vec![], body: "{}".to_owned() };
        registry.script("/v2/loud/tags/list", loud);
        registry.script("/v2/loud/tags/list", challenge("Negotiate oYG0MIGxoAMKAQA="));
        let list = async |name: &str| proxy.client().get(QUAY, &format!("/v2/{name}/tags/list")).await.status.as_u16();
        assert_eq!([list("quiet").await, list("quiet").await], [404, 404]);
        assert_eq!(registry.connections(), 1, "pooled");
        assert_eq!(list("loud").await, status);
        assert_eq!(list("quiet").await, 404);
        assert_eq!(registry.connections(), 2, "{status}, HTTP/2 {h2}");
    }
}

//! Each request that the proxy refuses is one line of the audit log, at whatever door, for whatever reason.

use pullthrough::wire::Body;

use super::QUAY;
use super::judged::{at_the_door, guarded, inside, raw, status};
use crate::support::client::Client;
use crate::support::eventually;

/// A request that is refused: where, what, and the status.
const REFUSED: [(&str, &str, u16); 24] = [
    ("door", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("door", "GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    ("door", "GET /x y HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("door", "\u{1}garbage\r\n\r\n", 400),
    ("door", "POST / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ("door", "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("door", "CONNECT https://quay.io/x HTTP/1.1\r\nHost: quay.io\r\n\r\n", 400),
    ("door", "CONNECT quay.io HTTP/1.1\r\nHost: quay.io\r\n\r\n", 400),
    ("door", "CONNECT quay.io:443 HTTP/1.1\r\nHost: quay.io\r\nContent-Length: 5\r\n\r\nhello", 400),
    ("door", "CONNECT u:hunter2@quay.io:443 HTTP/1.1\r\nHost: quay.io\r\n\r\n", 400),
    ("door", "CONNECT 169.254.169.254:443 HTTP/1.1\r\nHost: x\r\n\r\n", 403),
    ("door", "CONNECT example.com:22 HTTP/1.1\r\nHost: x\r\n\r\n", 403),
    ("door", "GET http://u:hunter2@10.0.0.1/p?token=hunter2 HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n", 403),
    ("door", "GET http://192.0.2.1:22/ HTTP/1.1\r\nHost: x\r\n\r\n", 403),
    ("door", "GET ftp://quay.io/v2/ HTTP/1.1\r\nHost: quay.io\r\nCookie: hunter2\r\n\r\n", 400),
    ("own tls", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("own tls", "GET / HTTP/1.1\r\nHo st: a\r\n\r\n", 400),
    ("inside", "GET /v2/ HTTP/1.1\r\nHost: quay.io\r\nHost: quay.io\r\n\r\n", 400),
    ("inside", "GET /v2/ HTTP/1.1\r\nHost: quay.io\r\nContent-Length: 5\r\n\r\nhello", 400),
    ("inside", "TRACE /v2/ HTTP/1.1\r\nHost: quay.io\r\nAuthorization: Bearer hunter2\r\n\r\n", 405),
    ("inside", "GET /v2/?token=hunter2 HTTP/1.1\r\nHost: other.example\r\n\r\n", 421),
    ("inside", "\u{1}garbage\r\n\r\n", 400),
    ("inside", "GET /v2/open/app/tags/list HTTP/1.1\r\nHost: quay.io\r\nAuthorization: Negotiate hunter2\r\n\r\n", 403),
    ("inside", "GET /v2/open/app/manifests/9 HTTP/1.1\r\nHost: quay.io\r\nAuthorization: NTLM hunter2\r\n\r\n", 403),
];

#[tokio::test]
async fn each_request_that_is_refused_at_any_door_is_one_line_of_the_audit_log_without_secrets() {
    let (_registry, proxy, folder) = guarded("").await;
    let read = || std::fs::read_to_string(folder.path().join("audit.log")).unwrap_or_default();
    for (number, (door, text, expected)) in REFUSED.into_iter().enumerate() {
        let text = &text.replacen("\r\nHost", "\r\nConnection: close\r\nHost", 1);
        let answer = match door {
            "inside" => inside(&proxy, text).await,
            "own tls" => {
                let client = Client::direct(proxy.address()).trusting(&proxy.ca_file());
                raw(client.tls("localhost:443").await.unwrap(), text).await
            }
            _ => at_the_door(&proxy, text).await,
        };
        assert_eq!(status(&answer), expected, "{door} {text:?}: {answer}");
        eventually("its line is written", || read().lines().count() == number + 1).await;
        let line: serde_json::Value = serde_json::from_str(read().lines().last().unwrap()).unwrap();
        let said = (&line["outcome"], &line["status"], &line["client"]);
        assert_eq!(said, (&"refused".into(), &expected.into(), &"127.0.0.1".into()), "{text:?}");
        assert!(line["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{text:?}: {line}");
        let is_read = line["method"].as_str().is_some_and(|method| text.starts_with(method));
        assert!(is_read || line["method"].is_null(), "{text:?}: {line}");
        assert_eq!(line["registry"] == "quay.io", door == "inside", "{text:?}: {line}");
    }
    assert!(!read().contains("hunter2"), "{}", read());
}

#[tokio::test]
async fn what_is_refused_in_http2_and_what_is_answered_otherwise_is_written_down_as_such() {
    let (registry, proxy, folder) = guarded("").await;
    let read = || std::fs::read_to_string(folder.path().join("audit.log")).unwrap_or_default();
    let mut session = proxy.client().h2().session(QUAY).await.naming("other.example");
    assert_eq!(session.send("GET", "/v2/", &[], Body::empty()).await.unwrap().status(), 421);
    let mut session = proxy.client().h2().session(QUAY).await;
    assert_eq!(session.send("GET", "/v2/", &[], Body::full("body")).await.unwrap().status(), 400);
    // Not refused: it is not there, its right is to be shown, it lies outside.
    registry.script("/v2/open/app/tags/list", crate::support::Act::Status(401));
    let none = format!("/v2/open/app/blobs/sha256:{}", "0".repeat(64));
    for (path, expected) in [(&*none, 404), ("/v2/open/app/tags/list", 401), ("/nowhere", 404), ("/v2/", 200)] {
        assert_eq!(session.get(path).await.status, expected, "{path}");
    }
    assert_eq!(session.ask("PUT", "/v2/open/app/manifests/1", &[]).await.status, 405);
    eventually("three were refused", || read().lines().count() == 3).await;
    let lines: Vec<serde_json::Value> = read().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seen: Vec<u64> = lines.iter().map(|line| line["status"].as_u64().unwrap()).collect();
    assert_eq!(seen, [421, 400, 405]);
    assert_eq!((&lines[2]["repository"], &lines[2]["reference"]), (&"open/app".into(), &"1".into()));
}

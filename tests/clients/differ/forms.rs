//! Distribution takes a mount's source out of a form in the body before it looks at the query. None reaches it.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;

use super::acting::Upstream;
use crate::lab::Lab;
use crate::proxy::Proxy;
use crate::raw::{Answer, Raw};

/// Of nothing.
const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// Who may not see what is internal.
const GUEST: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(127, 70, 0, 1)));

#[test]
fn distribution_mounts_nothing_that_only_a_form_names() {
    let lab = Lab::new();
    let upstream = Upstream::distribution(&lab);
    let host = upstream.host;
    let proxy = Proxy::with(&lab, |config| {
        let endpoint =
            json!({ "url": format!("https://{host}"), "address": upstream.address, "ca_file": lab.ca_file() });
        config["registries"] = json!({ host: { "endpoints": [endpoint], "push": "allow" } });
        config["upstream"] = json!({ "resolvers": ["127.0.10.53"] }); // where nobody listens
        config["tunnel"] = json!({ "default": "deny" });
        let rule = json!({ "name": "internal", "effect": "deny", "networks": ["127.70.0.0/16"], "repositories": ["internal/*"] });
        config["clients"] = json!({ "rules": [rule] });
    });
    let raw = Raw::new(proxy.listen, &proxy.ca_file());
    let ask = |from: Option<IpAddr>, line: &str, fields: &str, body: &str| -> Answer {
        let length =
            if line.starts_with("GET") { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let request = format!("{line} HTTP/1.1\r\nhost: {host}\r\n{fields}{length}\r\n{body}");
        raw.tunnel(from, &format!("{host}:443"), false).unwrap().whole(request.as_bytes()).unwrap()
    };
    let begun = ask(None, "POST /v2/internal/app/blobs/uploads/", "", "");
    let location = begun.head.header("location").unwrap().to_owned();
    let (_, upload) = location.split_once("/v2/").unwrap();
    let bytes = "content-type: application/octet-stream\r\n";
    assert_eq!(ask(None, &format!("PUT /v2/{upload}&digest={DIGEST}"), bytes, "").head.status, 201);
    // By its query it is mounted, where that is allowed.
    let mount = |to: &str, from: &str| format!("POST /v2/{to}/app/blobs/uploads/?mount={DIGEST}&from={from}/app");
    assert_eq!(ask(None, &mount("copy", "internal"), "", "").head.status, 201);
    assert_eq!(ask(GUEST, &mount("open", "internal"), "", "").head.status, 403);

    let form = format!("mount={DIGEST}&from=internal/app");
    let part =
        |name: &str, value: &str| format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let parts = format!("{}{}--X--\r\n", part("mount", DIGEST), part("from", "internal/app"));
    for (kind, body) in [
        ("content-type: application/x-www-form-urlencoded\r\n", &form),
        ("content-type: Application/X-WWW-Form-URLencoded ; charset=utf-8\r\n", &form),
        ("content-type: application/x-www-form-urlencoded\r\ncontent-type: application/octet-stream\r\n", &form),
        ("content-type: multipart/form-data; boundary=X\r\n", &parts),
        ("content-type: application/octet-stream\r\n", &form),
        ("", &form),
    ] {
        for line in ["POST /v2/open/app/blobs/uploads/".to_owned(), mount("open", "open")] {
            let answer = ask(GUEST, &line, kind, body);
            assert!(matches!(answer.head.status, 202 | 400), "{kind:?} {line}: {}", answer.head.status);
            assert_eq!(kind.to_ascii_lowercase().contains("form"), answer.head.status == 400, "{kind:?} {line}");
        }
    }
    let read = ask(GUEST, &format!("GET /v2/open/app/blobs/{DIGEST}"), "", "");
    assert_eq!(read.head.status, 404, "it was mounted");
}

//! The scripted registry and the raw client do what the other tests take them to do.

use pullthrough::wire::Body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::client::Client;
use crate::support::{Act, Dice, MANIFEST, Registry, Setup, Tokens, basic_value};

fn client(registry: &Registry, h2: bool) -> (Client, String) {
    let client = Client::direct(registry.address());
    let authority = format!("{}:{}", registry.name(), registry.address().port());
    (if h2 { client.h2() } else { client }, authority)
}

#[tokio::test]
async fn it_answers_as_a_registry_does() {
    for h2 in [false, true] {
        let registry = Registry::start("quay.io");
        let image = registry.push_image("org/app", "1", &[vec![1; 100], vec![2; 200]]);
        let index = registry.push_index("org/app", "all", &[&image]);
        let (client, authority) = client(&registry, h2);
        let mut session = client.session(&authority).await;
        let manifest = session.get("/v2/org/app/manifests/1").await;
        assert_eq!((manifest.status.as_u16(), manifest.header("content-type")), (200, MANIFEST));
        assert_eq!(manifest.header("docker-content-digest"), image.digest.to_string());
        assert_eq!(manifest.bytes(), &image.manifest);
        assert_eq!(session.get(&format!("/v2/org/app/manifests/{index}")).await.status, 200);
        let blob = format!("/v2/org/app/blobs/{}", image.layers[1]);
        let head = session.ask("HEAD", &blob, &[]).await;
        assert_eq!((head.header("content-length"), head.bytes().len()), ("200", 0));
        for (range, status, length) in [("bytes=0-1", 206, 2), ("bytes=150-", 206, 50), ("bytes=-7", 206, 7)] {
            let part = session.ask("GET", &blob, &[("range", range)]).await;
            assert_eq!((part.status.as_u16(), part.bytes().len()), (status, length), "{range}");
        }
        assert_eq!(session.ask("GET", &blob, &[("range", "bytes=200-")]).await.status, 416);
        let stale = session.ask("GET", &blob, &[("range", "bytes=0-1"), ("if-range", "\"other\"")]).await;
        assert_eq!(stale.bytes().len(), 200);
        assert_eq!(session.get("/v2/other/app/manifests/1").await.status, 404);
        assert_eq!(session.get("/v2/org/app/tags/list").await.bytes(), r#"{"name":"org/app","tags":["1","all"]}"#);
        assert_eq!((registry.connections(), registry.count("GET */blobs/*")), (1, 5));
    }
}

#[tokio::test]
async fn a_token_is_had_for_what_its_user_may_read() {
    let tokens = Tokens::new().public("library/*").user("alice", "secret", &["team/*"]);
    let registry = Registry::start("quay.io");
    registry.push_image("library/a", "1", &[]);
    registry.push_image("team/b", "1", &[]);
    registry.require_token(&tokens, &format!("{}/token", registry.url()));
    registry.serve_tokens(&tokens);
    let (client, authority) = client(&registry, false);
    let mut session = client.session(&authority).await;
    let challenged = session.get("/v2/team/b/manifests/1").await;
    assert_eq!(challenged.status, 401);
    assert!(challenged.header("www-authenticate").ends_with("scope=\"repository:team/b:pull\""));
    let alice = basic_value("alice", "secret");
    for (repository, authorization, expected) in
        [("library/a", None, 200), ("team/b", None, 401), ("team/b", Some(alice.as_str()), 200)]
    {
        let headers: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
        let asked = format!("/token?service=lab&scope=repository%3A{}%3Apull", repository.replace('/', "%2F"));
        let answer = session.ask("GET", &asked, &headers).await;
        let answer: serde_json::Value = serde_json::from_slice(answer.bytes()).unwrap();
        let bearer = format!("Bearer {}", answer["token"].as_str().unwrap());
        let path = format!("/v2/{repository}/manifests/1");
        assert_eq!(session.ask("GET", &path, &[("authorization", &bearer)]).await.status, expected, "{repository}");
    }
    let wrong = basic_value("alice", "wrong");
    assert_eq!(session.ask("GET", "/token", &[("authorization", &wrong)]).await.status, 401);
}

#[tokio::test]
async fn its_faults_are_as_scripted() {
    let registry = Registry::with(Setup { h2: false, ..Setup::named("quay.io") });
    let content = vec![7; 100_000];
    let blob = format!("/v2/a/blobs/{}", registry.push_blob("a", content.clone()));
    let (client, authority) = client(&registry, false);
    let get = || client.get(&authority, &blob);

    registry.script_times(2, "*", Act::Cut(50_000));
    for _ in 0..2 {
        assert_eq!(get().await.body.unwrap_err().len(), 50_000);
    }
    registry.script_times(1, "*", Act::CutAnywhere(Dice::seeded(1)));
    assert!(get().await.body.unwrap_err().len() < content.len());
    registry.script_times(1, "*", Act::WrongByte(99));
    let wrong = get().await;
    assert_eq!((wrong.bytes()[98], wrong.bytes()[99], wrong.bytes().len()), (7, 6, content.len()));
    registry.script_times(1, "*", Act::NoLength);
    let chunked = get().await;
    assert_eq!((chunked.header("content-length"), chunked.bytes().len()), ("", content.len()));
    registry.script_times(1, "*", Act::WrongLength(5));
    let long = get().await;
    assert_eq!((long.header("content-length"), long.body.is_err()), ("100005", true));
    registry.script_times(1, "*", Act::Status(429));
    assert_eq!(get().await.status, 429);
    registry.script_times(1, "*", Act::Throttle(1_000_000));
    let start = std::time::Instant::now();
    assert_eq!(get().await.bytes().len(), content.len());
    assert!(start.elapsed().as_millis() >= 90);
    assert_eq!(get().await.bytes(), &content);
}

#[tokio::test]
async fn what_is_pushed_can_be_pulled() {
    let registry = Registry::start("quay.io");
    let (client, authority) = client(&registry, false);
    let mut session = client.session(&authority).await;
    let digest = registry.push_blob("other", &b"content"[..]);
    let begun = session.ask("POST", "/v2/a/blobs/uploads/", &[]).await;
    let location = begun.header("location").to_owned();
    session.send("PATCH", &location, &[], Body::full("content")).await.unwrap();
    let done = session.ask("PUT", &format!("{location}?digest={digest}"), &[]).await;
    assert_eq!((begun.status.as_u16(), done.status.as_u16()), (202, 201));
    assert_eq!(registry.blob("a", &digest).unwrap(), "content");
    assert_eq!(session.ask("DELETE", &format!("/v2/a/blobs/{digest}"), &[]).await.status, 202);
    assert_eq!(session.get(&format!("/v2/a/blobs/{digest}")).await.status, 404);
}

#[tokio::test]
async fn the_client_connects_through_a_proxy_and_tells_a_refusal() {
    let registry = Registry::start("quay.io");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let server = registry.address();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 1000];
            let length = stream.read(&mut head).await.unwrap();
            if head[..length].starts_with(b"CONNECT quay.io:443 ") {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let mut upstream = TcpStream::connect(server).await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut upstream).await });
            } else {
                stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
            }
        }
    });
    for h2 in [false, true] {
        let client = Client::through(proxy, &registry.ca_file());
        let client = if h2 { client.h2() } else { client };
        assert_eq!(client.get("quay.io:443", "/v2/").await.bytes(), "{}");
        let refusal = client.tunnel("evil.example:25").await.unwrap_err();
        assert!(refusal.status == 403 && refusal.text.ends_with("\r\n\r\nno"), "{refusal:?}");
    }
    assert_eq!(registry.requests()[0].authority, "quay.io");
}

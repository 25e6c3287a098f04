//! TLS that is malformed, old, or for another name, at the proxy itself and inside CONNECT; ALPN that nobody keeps to.

use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::door::Door;
use super::hello::{ALPN, Hello, SERVER_NAME, names, protocols, record, said};
use super::http2;
use super::site::{QUAY, Site};
use super::speech::{Answer, Listener, Stream};
use super::table::Observed;
use crate::support::lab;

/// A kind's name, and its bytes for a door of this name.
type Kind = (&'static str, fn(&str) -> Vec<u8>);

const KINDS: &[Kind] = &[
    ("honest", |name| Hello::to(name).record()),
    ("TLS 1.2", |name| Hello::to(name).of_version(0x0303).record()),
    ("TLS 1.1", |name| Hello::to(name).of_version(0x0302).record()),
    ("TLS 1.0", |name| Hello::to(name).of_version(0x0301).record()),
    ("SSL 3", |name| Hello::to(name).of_version(0x0300).record()),
    ("no cipher that is known", |name| Hello::to(name).ciphers(&[0x000a, 0x0035]).record()),
    ("no cipher", |name| Hello::to(name).ciphers(&[]).record()),
    ("another name", |_| Hello::to("evil.example").record()),
    ("an address as the name", |_| Hello::to("127.0.0.1").record()),
    ("another address as the name", |_| Hello::to("192.0.2.1").record()),
    ("the name in upper case", |name| Hello::to(&name.to_uppercase()).record()),
    ("the name with a dot behind", |name| Hello::to(&format!("{name}.")).record()),
    ("the name with a port", |name| Hello::to(&format!("{name}:443")).record()),
    ("the name and a NUL", |name| Hello::to(&format!("{name}\0.evil.example")).record()),
    ("a star", |_| Hello::to("*").record()),
    ("an empty name", |_| Hello::to("").record()),
    ("a name of 300 letters", |_| Hello::to(&"x".repeat(300)).record()),
    ("a name of bytes that are no UTF-8", |_| {
        Hello::nameless().with(SERVER_NAME, &names(&[b"\xff\xfe.example"])).record()
    }),
    ("two names", |name| Hello::nameless().with(SERVER_NAME, &names(&[name.as_bytes(), b"evil.example"])).record()),
    ("no names in the list", |_| Hello::nameless().with(SERVER_NAME, &names(&[])).record()),
    ("server_name twice", |name| Hello::to(name).with(SERVER_NAME, &names(&[b"evil.example"])).record()),
    ("a list of names that is cut off", |_| Hello::nameless().with(SERVER_NAME, &[0, 200, 0, 0, 9, b'x']).record()),
    ("ALPN of something unknown", |name| Hello::to(name).with(ALPN, &protocols(&["foo", "bar"])).record()),
    ("ALPN of nothing", |name| Hello::to(name).with(ALPN, &protocols(&[])).record()),
    ("ALPN of an empty name", |name| Hello::to(name).with(ALPN, &protocols(&[""])).record()),
    ("ALPN of HTTP/3", |name| Hello::to(name).with(ALPN, &protocols(&["h3"])).record()),
    ("ALPN of something unknown, then HTTP/2", |name| Hello::to(name).with(ALPN, &protocols(&["foo", "h2"])).record()),
    ("records of a byte each", |name| Hello::to(name).records(1)),
    ("an unknown extension of 10,000 bytes", |name| Hello::to(name).with(0x7777, &[0; 10_000]).record()),
    ("a message of 16 MB", |_| record(22, &[1, 0xff, 0xff, 0xff, 3, 3])),
    ("a hello that is cut off in itself", |name| {
        let message = Hello::to(name).message();
        let cut = &message[4..60];
        record(22, &[&[1, 0, 0, 56][..], cut].concat())
    }),
    ("bytes behind the hello", |name| record(22, &[Hello::to(name).message(), b"garbage".to_vec()].concat())),
    ("a record beyond 2^14", |_| [&[22, 3, 1, 0xff, 0xff][..], &[0; 1000]].concat()),
    ("an empty record", |_| record(22, &[])),
    ("another handshake message", |_| record(22, &[11, 0, 0, 3, 0, 0, 0])),
    ("garbage in a record", |_| record(22, b"garbage garbage garbage")),
    ("a change of ciphers first", |_| record(20, &[1])),
    ("an alert first", |_| record(21, &[2, 40])),
    ("data first", |_| record(23, b"data")),
    ("HTTP/1.1 in clear", |_| b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
];

/// The first record of the answer, if there is one before the end.
async fn answered(mut stream: TcpStream, bytes: &[u8]) -> String {
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await; // what is not whole now never will be
    let mut first = vec![0; 5];
    let all = async {
        if stream.read_exact(&mut first).await.is_err() {
            return Vec::new();
        }
        let length = usize::from(u16::from_be_bytes([first[3], first[4]]));
        let mut rest = vec![0; length.min(20_000)];
        let read = stream.read(&mut rest).await.unwrap_or(0);
        [&first[..], &rest[..read]].concat()
    };
    match tokio::time::timeout(Duration::from_secs(30), all).await {
        Ok(record) => said(&record),
        Err(_) => "silence".to_owned(),
    }
}

#[tokio::test]
async fn hellos_are_answered_as_the_table_says() {
    let site = Site::new("").await;
    let mut observed = Observed::at(vec!["own", "inside"]);
    for (kind, write) in KINDS {
        let own = TcpStream::connect(site.proxy.address()).await.unwrap();
        let inside = site.proxy.client().tunnel(QUAY).await.unwrap();
        observed.row(kind, vec![answered(own, &write("localhost")).await, answered(inside, &write("quay.io")).await]);
        site.is_well(kind).await;
    }
    assert_eq!(site.registry.count("/v2/_"), 0);
    observed.compare(include_str!("hellos.txt"));
}

/// Go negotiates HTTP/2 with an https proxy and then writes HTTP/1.1.
#[tokio::test]
async fn what_is_spoken_is_known_by_its_bytes_whatever_alpn_said() {
    let site = Site::new("").await;
    for (door, host, at) in
        [(Door::OwnTls, "localhost", http2::Door::OwnTls), (Door::Inside, "quay.io", http2::Door::Inside)]
    {
        let offers: [&[&[u8]]; 4] = [&[], &[b"h2"], &[b"http/1.1"], &[b"h2", b"http/1.1"]];
        for alpn in offers {
            let connect = async || {
                let stream = match door {
                    Door::Inside => site.proxy.client().tunnel(QUAY).await.unwrap(),
                    _ => TcpStream::connect(site.proxy.address()).await.unwrap(),
                };
                let config = lab::client_config(&[&site.proxy.ca_file()], alpn);
                let name = ServerName::try_from(host).unwrap();
                let stream: Box<dyn Stream> = Box::new(TlsConnector::from(config).connect(name, stream).await.unwrap());
                stream
            };
            let honest = door.honest(&site);
            let mut listener = Listener::new(connect().await);
            let head = format!("{} {} HTTP/1.1\r\nHost: {}\r\n\r\n", honest.method, honest.target, honest.host);
            listener.stream().write_all(head.as_bytes()).await.unwrap();
            assert_eq!(listener.next(honest.method).await, Answer::Whole(200), "{door:?} {alpn:?}");
            let mut connection = http2::Connection::over(connect().await).await;
            connection.write(&at.request(1, &[])).await;
            assert_eq!(connection.outcome(1).await, "200", "{door:?} {alpn:?}");
        }
    }
}

//! Bodies that end in other ways than by a length: what a direct pull gets, one through the proxy gets.

use pullthrough::oci::{Algorithm, Digest};

use super::layer;
use crate::support::{Log, MANIFEST, Plan, Play, Raw};

const RAW: &str = "raw.test:443";

/// How a server may say the same.
fn written(how: &str, media_type: &str, content: &[u8]) -> Vec<u8> {
    let chunk = |extension: &str, piece: &[u8]| {
        [format!("{:x}{extension}\r\n", piece.len()).into_bytes(), piece.to_vec(), b"\r\n".to_vec()].concat()
    };
    let (version, fields, body) = match how {
        "HTTP/1.0 to the end" => ("HTTP/1.0", String::new(), content.to_vec()),
        "HTTP/1.0 with a length" => ("HTTP/1.0", format!("Content-Length: {}\r\n", content.len()), content.to_vec()),
        "HTTP/1.1 to the end" => ("HTTP/1.1", "Connection: close\r\n".to_owned(), content.to_vec()),
        _ => {
            let pieces = content.chunks(content.len() / 3 + 1).flat_map(|piece| chunk(";name=\"value\"", piece));
            let end = if how == "chunks and trailers" { "0\r\nX-Checksum: 1\r\n\r\n" } else { "0\r\n\r\n" };
            ("HTTP/1.1", "Transfer-Encoding: chunked\r\n".to_owned(), pieces.chain(end.bytes()).collect())
        }
    };
    [format!("{version} 200 OK\r\nContent-Type: {media_type}\r\n{fields}\r\n").into_bytes(), body].concat()
}

#[tokio::test]
async fn a_body_that_ends_by_a_bare_close_or_in_chunks_is_pulled_and_kept() {
    let manifest =
        br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}"#.to_vec();
    for how in ["HTTP/1.0 to the end", "HTTP/1.0 with a length", "HTTP/1.1 to the end", "chunks", "chunks and trailers"]
    {
        for (noun, media_type, content) in
            [("manifests", MANIFEST, manifest.clone()), ("blobs", "application/octet-stream", layer(300_000, 1))]
        {
            let digest = Digest::of(Algorithm::Sha256, &content);
            let raw = Raw::start("raw.test", b"http/1.1", Play::Once(written(how, media_type, &content)));
            let proxy = Plan::new().raw_registry(&raw.entry("raw.test", ", prefetch: 0")).start().await;
            let path = format!("/v2/a/{noun}/{digest}");
            let got = proxy.client().get(RAW, &path).await;
            assert_eq!((got.status.as_u16(), got.body.as_deref()), (200, Ok(&content[..])), "{how}: {noun}");
            proxy.stored(&digest).await;
            let asked = raw.connections();
            assert_eq!(proxy.client().get(RAW, &path).await.bytes(), &content, "{how}: {noun}");
            assert!(asked <= 2 && raw.connections() == asked, "{how}: {noun}: {asked}: from the cache");
        }
    }
}

#[tokio::test]
async fn a_body_without_an_end_that_was_cut_is_not_kept() {
    let content = layer(300_000, 2);
    let digest = Digest::of(Algorithm::Sha256, &content);
    for how in ["HTTP/1.0 to the end", "HTTP/1.1 to the end", "chunks", "HTTP/1.0 with a length"] {
        let mut written = written(how, "application/octet-stream", &content);
        written.truncate(written.len() - 1000);
        let raw = Raw::start("raw.test", b"http/1.1", Play::Once(written));
        let proxy = Plan::new().raw_registry(&raw.entry("raw.test", "")).impatient().start().await;
        let got = proxy.client().get(RAW, &format!("/v2/a/blobs/{digest}")).await;
        assert!(got.body.is_err() || !got.status.is_success(), "{how}");
        assert_eq!(proxy.files().0, 0, "{how}");
    }
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_and_was_cut_is_asked_for_again() {
    let content = layer(300_000, 3);
    let digest = Digest::of(Algorithm::Sha256, &content);
    for how in ["HTTP/1.0 to the end", "HTTP/1.1 to the end"] {
        let whole = written(how, "application/octet-stream", &content);
        let cut = whole[..whole.len() - 1000].to_vec();
        let log = Log::begin();
        let raw = Raw::start("raw.test", b"http/1.1", Play::InTurn(vec![cut, whole]));
        let proxy = Plan::new().raw_registry(&raw.entry("raw.test", ", prefetch: 0")).start().await;
        let got = proxy.client().get(RAW, &format!("/v2/a/blobs/{digest}")).await;
        assert!(got.body.as_deref() == Ok(&content[..]), "{how}: {:?}", got.status);
        proxy.stored(&digest).await;
        assert!(log.lines("ERROR", &[]).is_empty(), "{how}: {:?}", log.lines("ERROR", &[]));
    }
}

//! The names that TLS asks for in a tunnel, judged before a server hears them.
//!
//! Threat: a registry that is reached by its address, or by another of its names, in a tunnel that nobody reads: past
//! rules, `push` and the audit log. Defence: the name in each ClientHello that goes by in the clear, the first and the one
//! that answers a HelloRetryRequest; a server sees none before it was judged here. What begins as TLS and cannot be read
//! is closed. Exposure: a hello that keeps the name from us (ECH, or none at all) passes as the address does, see
//! docs/threat-model.md. Cost: early data waits for the server's first answer.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::handshake::{self, HelloReader, Read};
use crate::oci::Host;

/// A hello is on its way as a whole.
const HELLO: Duration = Duration::from_secs(15);
/// A server answers a hello within this time.
const ANSWER: Duration = Duration::from_secs(60);
const PIECE: usize = 4 << 10;

/// Why a tunnel is closed before its handshake is through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Closed {
    /// It asks for a name that is refused in tunnels.
    #[error("TLS asks for {0} in a tunnel to another host")]
    Name(Host),
    /// Nobody can say which name it asks for.
    #[error("what begins as TLS holds no ClientHello that can be read")]
    Unreadable,
    /// One of both sides failed.
    #[error("the connection failed during the handshake")]
    Io(#[from] io::Error),
}

/// Lets both sides speak until no further ClientHello can come in the clear, each of them judged by `refuses`. Answers
/// the bytes of the client that are still to be sent, and how many it was sent. Where the server speaks first, or the client does not speak TLS,
/// nothing is judged.
///
/// # Errors
/// [`Closed`].
pub(crate) async fn watch<C, U>(
    client: &mut C,
    upstream: &mut U,
    refuses: impl Fn(&Host) -> bool,
) -> Result<(Bytes, u64), Closed>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (mut said, mut greeting) = (BytesMut::with_capacity(PIECE), BytesMut::with_capacity(PIECE));
    tokio::select! {
        read = client.read_buf(&mut said) => drop(read?),
        read = upstream.read_buf(&mut greeting) => drop(read?),
    }
    if !greeting.is_empty() {
        client.write_all(&greeting).await?;
        client.flush().await?;
    }
    let mut sent = greeting.len() as u64;
    if !within(HELLO, may_be_tls(client, &mut said)).await?? {
        return Ok((said.freeze(), sent));
    }
    within(HELLO, pass_hello(client, upstream, &mut said, HelloReader::first(), &refuses)).await??;
    let (again, answered) = within(ANSWER, asks_again(client, upstream)).await??;
    sent += answered;
    if again {
        within(HELLO, pass_hello(client, upstream, &mut said, HelloReader::second(), &refuses)).await??;
    }
    Ok((said.freeze(), sent))
}

async fn within<T>(time: Duration, what: impl Future<Output = T>) -> io::Result<T> {
    Ok(tokio::time::timeout(time, what).await?)
}

async fn may_be_tls<C: AsyncRead + Unpin>(client: &mut C, said: &mut BytesMut) -> io::Result<bool> {
    loop {
        match handshake::may_be_tls(said) {
            Some(may_be) => return Ok(may_be),
            None if client.read_buf(said).await? == 0 => return Ok(false), // no server reads so little
            None => {}
        }
    }
}

/// Reads a hello, judges it, and sends it on: its bytes and what was passed over, and nothing behind it.
async fn pass_hello<C: AsyncRead + Unpin, U: AsyncWrite + Unpin>(
    client: &mut C,
    upstream: &mut U,
    said: &mut BytesMut,
    mut reader: HelloReader,
    refuses: &impl Fn(&Host) -> bool,
) -> Result<(), Closed> {
    loop {
        match reader.read(said) {
            Read::More if client.read_buf(said).await? > 0 => {}
            // The client has left: its server hears the end, and nothing of what it began to say.
            Read::More => return Err(Closed::Io(io::ErrorKind::UnexpectedEof.into())),
            Read::Other => return Err(Closed::Unreadable),
            Read::Hello(message, end) => {
                let names = names(&message).ok_or(Closed::Unreadable)?;
                if let Some(name) = names.into_iter().find(refuses) {
                    return Err(Closed::Name(name));
                }
                upstream.write_all(&said.split_to(end)).await?;
                return Ok(upstream.flush().await?);
            }
        }
    }
}

/// Whether the server asks for another hello, and how long the answer is so far, which is sent on as it comes.
async fn asks_again<C: AsyncWrite + Unpin, U: AsyncRead + Unpin>(
    client: &mut C,
    upstream: &mut U,
) -> io::Result<(bool, u64)> {
    let (mut answer, mut sent) = (BytesMut::with_capacity(PIECE), 0);
    loop {
        let is_end = upstream.read_buf(&mut answer).await? == 0;
        client.write_all(&answer[sent..]).await?;
        client.flush().await?;
        sent = answer.len();
        match handshake::asks_again(&answer) {
            Some(again) => return Ok((again, sent as u64)),
            None if is_end => return Ok((false, sent as u64)),
            None => {}
        }
    }
}

/// The names that a ClientHello asks for. Of one that is no host name, whatever in it looks like one. `None` where the
/// message is not made as a ClientHello is.
pub(crate) fn names(hello: &[u8]) -> Option<Vec<Host>> {
    let parsed = |name: &[u8]| std::str::from_utf8(name.strip_suffix(b".").unwrap_or(name)).ok()?.parse().ok();
    let names = handshake::server_names(hello)?.into_iter();
    Some(names.flat_map(|name| parsed(name).map_or_else(|| written(name), |name| vec![name])).collect())
}

/// A server may end a name where another reads on.
fn written(name: &[u8]) -> Vec<Host> {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let words = name.split(|byte| !is_of_name(byte)).filter(|word| word.contains(&b'.'));
    words.filter_map(|word| std::str::from_utf8(word.strip_suffix(b".").unwrap_or(word)).ok()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use tokio::io::duplex;

    use super::*;

    /// A ClientHello that asks for `name`.
    fn hello(name: &str) -> Vec<u8> {
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    fn record(content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[22, 3, 1], &length[..], content].concat()
    }

    /// A HelloRetryRequest, as far as anybody here reads it.
    fn retry() -> Vec<u8> {
        let random = ring_of_retry();
        let mut message = vec![2, 0, 0, 38, 3, 3];
        message.extend(random);
        message.extend(b"rest");
        record(&message)
    }

    fn ring_of_retry() -> [u8; 32] {
        use sha2::Digest as _;
        sha2::Sha256::digest(b"HelloRetryRequest").into()
    }

    /// What the server has heard when it ended, what the client has, and how the watch ended. The server says `greeting`
    /// first, and `answer` once it has heard anything.
    async fn watched(said: &[&[u8]], greeting: &[u8], answer: &[u8]) -> (Vec<u8>, Vec<u8>, Result<(), String>) {
        let ((mut client, mut ours), (mut upstream, mut theirs)) = (duplex(1 << 20), duplex(1 << 20));
        let said: Vec<Vec<u8>> = said.iter().map(|piece| piece.to_vec()).collect();
        let (greeting, answer, greeted) = (greeting.to_vec(), answer.to_vec(), greeting.len());
        let speaking = tokio::spawn(async move {
            let mut got = vec![0; greeted];
            client.read_exact(&mut got).await.unwrap();
            for piece in said {
                client.write_all(&piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
            client.read_to_end(&mut got).await.unwrap();
            got
        });
        let serving = tokio::spawn(async move {
            theirs.write_all(&greeting).await.unwrap();
            let mut heard = vec![0; 1];
            if theirs.read_exact(&mut heard).await.is_err() {
                return Vec::new();
            }
            theirs.write_all(&answer).await.unwrap();
            theirs.shutdown().await.unwrap();
            theirs.read_to_end(&mut heard).await.unwrap();
            heard
        });
        let refuses = |name: &Host| name.to_string() == "quay.io";
        let ended = match watch(&mut ours, &mut upstream, refuses).await {
            Ok((rest, _)) => {
                upstream.write_all(&rest).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut ours, &mut upstream).await;
                Ok(())
            }
            Err(closed) => Err(closed.to_string()),
        };
        drop((ours, upstream));
        (serving.await.unwrap(), speaking.await.unwrap(), ended)
    }

    #[tokio::test]
    async fn a_registrys_name_is_heard_however_its_hello_is_cut() {
        let (bad, good) = (hello("quay.io"), hello("example.com"));
        let pieces = |hello: &[u8], size| hello[5..].chunks(size).flat_map(record).collect::<Vec<_>>();
        for size in [1, 20, 4096] {
            for (before, between) in [(b"".to_vec(), 0), (record(b""), 0), (record(b"").repeat(30), 1)] {
                let stream = |hello: &[u8]| [before.clone(), pieces(hello, size), record(b"").repeat(between)].concat();
                let (heard, _, ended) = watched(&[&stream(&bad)], b"", b"").await;
                assert_eq!((heard.len(), ended.unwrap_err().contains("quay.io")), (0, true), "{size}");
                let (heard, _, ended) = watched(&[&stream(&good), b"more"], b"", b"").await;
                assert_eq!((heard, ended), ([stream(&good), b"more".to_vec()].concat(), Ok(())), "{size}");
            }
        }
        let bytes: Vec<&[u8]> = bad.chunks(1).collect();
        assert_eq!(watched(&bytes, b"", b"").await.0, b"");
    }

    #[tokio::test]
    async fn the_hello_that_answers_a_retry_is_judged_before_the_server_hears_it() {
        let (good, bad) = (hello("example.com"), hello("quay.io"));
        let change = [20, 3, 3, 0, 1, 1];
        for before in [&b""[..], &change, &[&[23, 3, 3, 0, 2, 7, 7][..], &change].concat()] {
            // Also where it is sent without waiting for the retry.
            let second = [before, &bad].concat();
            let (heard, got, ended) = watched(&[&good, &second], b"", &retry()).await;
            assert_eq!((heard, got), (good.clone(), retry()));
            assert!(ended.unwrap_err().contains("quay.io"));
            let second = [before, &good].concat();
            let (heard, _, ended) = watched(&[&[&good[..], &second, b"rest"].concat()], b"", &retry()).await;
            assert_eq!((heard, ended), ([&good[..], &second, b"rest"].concat(), Ok(())));
        }
        // A server that does not ask again reads no second one.
        let other = [&[22, 3, 3, 0, 42, 2, 0, 0, 38, 3, 3][..], &[9; 36]].concat();
        let (heard, _, ended) = watched(&[&good, &bad], b"", &other).await;
        assert_eq!((heard, ended), ([good, bad].concat(), Ok(())));
    }

    #[tokio::test]
    async fn what_begins_as_tls_and_cannot_be_read_is_closed() {
        let good = hello("example.com");
        let inside = [&good[..5], &[21, 3, 3, 0, 2, 1, 0], &good[5..]].concat();
        let whole = b"\x16\x03\x01\x00\x04\x02\x00\x00\x00";
        // Go's server reads a hello behind a warning, and in a record of almost any version.
        let behind = [&[21, 3, 1, 0, 2, 1, 112], &hello("quay.io")[..]].concat();
        for said in [&whole[..], b"\x16\x03\x01\xff\xff", &inside, &behind] {
            let (heard, _, ended) = watched(&[said], b"", b"").await;
            assert_eq!((heard, ended), (Vec::new(), Err(Closed::Unreadable.to_string())), "{said:?}");
        }
    }

    #[tokio::test]
    async fn a_record_of_another_version_hides_no_name_and_a_client_that_leaves_is_no_enemy() {
        for version in [[2, 0], [0, 0], [15, 255]] {
            let mut said = hello("quay.io");
            said[1..3].copy_from_slice(&version);
            let (heard, _, ended) = watched(&[&said], b"", b"").await;
            assert_eq!((heard.len(), ended.unwrap_err().contains("quay.io")), (0, true), "{version:?}");
        }
        let good = hello("example.com");
        let left = Err(Closed::Io(io::ErrorKind::UnexpectedEof.into()).to_string());
        assert_eq!(watched(&[&good[..50]], b"", b"").await.2, left);
        // Also by an alert in place of a second hello.
        let alert = [21, 3, 3, 0, 2, 2, 40];
        assert_eq!(watched(&[&good, &alert], b"", &retry()).await.2, left);
    }

    #[tokio::test]
    async fn what_is_no_tls_passes_whoever_speaks_first() {
        for said in [&b"SSH-2.0-x\r\n"[..], b"GET / HTTP/1.1\r\nHost: quay.io\r\n\r\n", b"\x16", b"\x16 quay.io", b""] {
            assert_eq!(watched(&[said], b"", b"hi").await.0, said);
        }
        let (heard, got, _) = watched(&[b"EHLO quay.io\r\n"], b"220 mail\r\n", b"250 ok\r\n").await;
        assert_eq!((&heard[..], &got[..]), (&b"EHLO quay.io\r\n"[..], &b"220 mail\r\n250 ok\r\n"[..]));
    }

    #[test]
    fn a_name_is_read_in_every_spelling_that_a_server_may_take() {
        let hello = |extensions: &[u8]| {
            let mut hello = vec![1, 0, 0, 0, 3, 3];
            hello.extend([0; 32]);
            hello.extend([0, 0, 2, 0x13, 1, 1, 0]);
            hello.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
            hello.extend(extensions);
            hello
        };
        let entry = |name: &[u8]| [&[0, 0, u8::try_from(name.len()).unwrap()], name].concat();
        let list = |entries: &[u8]| {
            let length = u8::try_from(entries.len()).unwrap();
            [&[0, 0, 0, length + 2, 0, length], entries].concat()
        };
        let table = [
            list(&entry(b"quay.io")),
            list(&entry(b"QUAY.io.")),
            list(&[entry(b"quay.io"), b"f".to_vec()].concat()),
            list(&[entry(b"example.com"), entry(b"quay.io")].concat()),
            [list(&entry(b"example.com")), list(&entry(b"quay.io"))].concat(),
            [vec![0, 16, 0, 1, 9], list(&entry(b"quay.io"))].concat(),
            list(&entry(b"quay.io\0.example.com")),
        ];
        for extensions in table {
            let names = names(&hello(&extensions)).unwrap();
            assert!(names.contains(&"quay.io".parse().unwrap()), "{names:?} {extensions:?}");
        }
        assert_eq!(names(&hello(&list(&entry(b"aquay.io")))), Some(vec!["aquay.io".parse().unwrap()]));
        assert_eq!(names(&hello(b"")), Some(Vec::new()));
        assert_eq!(names(&hello(b"\0\0\0\x09")), None);
    }
}

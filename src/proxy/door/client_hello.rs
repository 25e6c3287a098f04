//! Reads the name that a client asks TLS for in a tunnel.
//!
//! Threat: a registry that is reached by its address, or by another of its names, in a tunnel that nobody reads: past
//! rules, `push` and the audit log. Defence: its name in the ClientHello, which registries need to choose a
//! certificate. A hello that keeps the name from us (ECH, or none at all) passes as the address does: see
//! docs/threat-model.md.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::oci::Host;
use crate::wire::Rewind;

/// A hello is on its way as a whole; none is longer.
const HELLO: Duration = Duration::from_secs(15);
const HELLO_BYTES: usize = 64 << 10;
const PIECE: usize = 4 << 10;
const TLS_HANDSHAKE: u8 = 22;

/// Relays until the client has sent its hello, and returns the names that it may mean. The returned stream reads the
/// hello again. Where the server speaks first, this is not TLS.
pub(crate) async fn listen<C, U>(client: C, upstream: &mut U) -> io::Result<(Vec<Host>, Rewind<C>)>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut client = client;
    let (mut said, mut greeting) = (BytesMut::with_capacity(PIECE), BytesMut::with_capacity(PIECE));
    tokio::select! {
        read = client.read_buf(&mut said) => drop(read?),
        read = upstream.read_buf(&mut greeting) => drop(read?),
    }
    client.write_all(&greeting).await?;
    client.flush().await?;
    if said.first() != Some(&TLS_HANDSHAKE) {
        return Ok((Vec::new(), Rewind::new(said.freeze(), client)));
    }
    let names = tokio::time::timeout(HELLO, names(&mut client, &mut said)).await??;
    Ok((names, Rewind::new(said.freeze(), client)))
}

async fn names<C: AsyncRead + Unpin>(client: &mut C, said: &mut BytesMut) -> io::Result<Vec<Host>> {
    let (mut acceptor, mut seen) = (Acceptor::default(), 0);
    loop {
        while seen < said.len() {
            let mut rest = &said[seen..];
            match acceptor.read_tls(&mut rest) {
                Ok(read) if read > 0 => seen += read,
                _ => return Ok(written(said)),
            }
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(hello)) => {
                    let name = hello.client_hello().server_name().and_then(|name| name.parse().ok());
                    return Ok(name.into_iter().collect());
                }
                Err(_) => return Ok(written(said)),
            }
        }
        if said.len() > HELLO_BYTES || client.read_buf(said).await? == 0 {
            return Ok(written(said));
        }
    }
}

/// Everything in an unreadable hello that looks like a name. The byte before a name may look like a part of it.
fn written(said: &[u8]) -> Vec<Host> {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let words = said.split(|byte| !is_of_name(byte)).filter(|word| word.contains(&b'.'));
    let words = words.flat_map(|word| [word, &word[1..]]);
    words.filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok()).collect()
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

    async fn heard(said: &[&[u8]], greeting: &[u8]) -> (Vec<String>, Vec<u8>) {
        let ((mut client, ours), (mut upstream, mut theirs)) = (duplex(1 << 20), duplex(1 << 20));
        let said: Vec<Vec<u8>> = said.iter().map(|piece| piece.to_vec()).collect();
        let greeting = greeting.to_vec();
        tokio::spawn(async move {
            if !greeting.is_empty() {
                theirs.write_all(&greeting).await.unwrap();
                let mut got = vec![0; greeting.len()];
                client.read_exact(&mut got).await.unwrap();
            }
            for piece in said {
                client.write_all(&piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop((client, theirs));
        });
        let (names, mut stream) = listen(ours, &mut upstream).await.unwrap();
        let mut again = Vec::new();
        stream.read_to_end(&mut again).await.unwrap();
        (names.iter().map(ToString::to_string).collect(), again)
    }

    #[tokio::test]
    async fn the_name_in_a_hello_is_heard_and_every_byte_goes_on() {
        let hello = hello("quay.io");
        let bytes: Vec<&[u8]> = hello.chunks(1).collect();
        for pieces in [vec![&hello[..]], bytes, vec![&hello[..7], &hello[7..]]] {
            assert_eq!(heard(&pieces, b"").await, (vec!["quay.io".to_owned()], hello.clone()));
        }
        // Records may cut it anywhere.
        let mut cut = Vec::new();
        for part in hello[5..].chunks(20) {
            cut.extend([22, 3, 1, 0, part.len() as u8]);
            cut.extend(part);
        }
        assert_eq!(heard(&[&cut], b"").await, (vec!["quay.io".to_owned()], cut.clone()));
    }

    #[tokio::test]
    async fn what_is_no_hello_passes_whoever_speaks_first() {
        for said in [&b"SSH-2.0-x\r\n"[..], b"GET / HTTP/1.1\r\nHost: quay.io\r\n\r\n", b""] {
            assert_eq!(heard(&[said], b"").await, (Vec::new(), said.to_vec()));
        }
        assert_eq!(heard(&[b"\x16 quay.io"], b"220 mail\r\n").await.0, Vec::<String>::new());
    }

    #[tokio::test]
    async fn in_a_hello_that_cannot_be_read_a_name_is_looked_for() {
        let (names, _) = heard(&[b"\x16\x03\x01\x00\x20\x01\x00\x00\x1c\x03\x03\0\0\0\0\x07quay.io\0\0"], b"").await;
        assert!(names.contains(&"quay.io".to_owned()), "{names:?}");
        assert!(written(b"\0\x00-registry.example.com\0").contains(&"registry.example.com".parse().unwrap()));
    }
}

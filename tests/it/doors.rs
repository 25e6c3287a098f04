//! One cache behind every door: by name through DNS or iptables, behind a balancer, by an https proxy and in HTTP/2.

mod balancer;
mod by_name;
mod early;
mod outer;

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::pull::QUAY;

/// A connection that comes from another address of this machine.
async fn from(address: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Has a CONNECT for the registry answered by 200.
async fn open<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    stream.write_all(format!("CONNECT {QUAY} HTTP/1.1\r\nhost: {QUAY}\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", head.escape_ascii());
}

/// All that comes until the other side ends, however it does.
async fn rest<S: AsyncRead + Unpin>(stream: &mut S) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    rest
}

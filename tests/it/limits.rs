//! What one client cannot do to the others: take all connections, streams, files or memory, by haste or by standing
//! still.

mod answers;
mod clients;
mod door;
mod shares;
mod stalled;

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// A connection that comes from another address of this machine.
async fn from(address: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// A request at the door itself, with further lines of its head; the status, 0 where there was no answer.
async fn status(mut stream: TcpStream, line: &str, more: &str) -> u16 {
    // It may be refused before its end.
    let _ = stream.write_all(format!("{line} HTTP/1.1\r\nhost: proxy\r\n{more}\r\n").as_bytes()).await;
    let mut answer = [0; 12];
    match stream.read_exact(&mut answer).await {
        Ok(_) => std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap(),
        Err(_) => 0,
    }
}

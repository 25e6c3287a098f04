//! Asks one question of one DNS server: by UDP, and by TCP where the answer did not fit.
//!
//! Threat: forged answers (RFC 5452). Defence: a socket of its own, and so a port of the system's choice, for each
//! question; it is connected, so only the server's address is heard; a random id; and the question must be the one that was sent.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::message::{self, Records, Reply};
use super::{Nameserver, ResolveError};

/// How long a server may take. Two of them are asked within the usual `connect_timeout`.
const WAIT: Duration = Duration::from_millis(1500);
/// A datagram may be lost, and is sent again after so long.
const AGAIN: Duration = Duration::from_millis(400);
/// Without EDNS an answer has at most 512 bytes; some servers send more.
const DATAGRAM: usize = 4096;

/// Asks `server`. Cancel-safe.
pub(crate) async fn ask(server: Nameserver, name: &str, records: Records) -> Result<Reply, ResolveError> {
    let mut id = [0; 2];
    rand::fill(&mut id).map_err(|_| broken(server, "the system's random numbers cannot be read"))?;
    let id = u16::from_be_bytes(id);
    let question = message::question(id, name, records).ok_or(ResolveError::BadName)?;
    let silent = |_| ResolveError::Silent { server };
    let failed = |error: io::Error| broken(server, error);
    let read = |message: &[u8]| message::read(message, id, name, records);
    match timeout(WAIT, by_udp(server.0, &question, read)).await.map_err(silent)?.map_err(failed)? {
        Reply::Cut => timeout(WAIT, by_tcp(server.0, &question, read)).await.map_err(silent)?.map_err(failed),
        reply => Ok(reply),
    }
}

fn broken(server: Nameserver, words: impl ToString) -> ResolveError {
    ResolveError::Broken { server, words: words.to_string() }
}

async fn by_udp(server: SocketAddr, question: &[u8], read: impl Fn(&[u8]) -> Reply) -> io::Result<Reply> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    loop {
        socket.send(question).await?;
        if let Ok(heard) = timeout(AGAIN, hear(&socket, &read)).await {
            return heard;
        }
    }
}

/// The first answer to our question.
async fn hear(socket: &UdpSocket, read: impl Fn(&[u8]) -> Reply) -> io::Result<Reply> {
    let mut datagram = vec![0; DATAGRAM];
    loop {
        let length = socket.recv(&mut datagram).await?;
        match read(&datagram[..length]) {
            Reply::Foreign => {}
            reply => return Ok(reply),
        }
    }
}

/// Each message has its length before it (RFC 1035, 4.2.2).
async fn by_tcp(server: SocketAddr, question: &[u8], read: impl Fn(&[u8]) -> Reply) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], question].concat()).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    match read(&answer) {
        Reply::Foreign | Reply::Cut => Err(io::Error::new(io::ErrorKind::InvalidData, "its answer by TCP is none")),
        reply => Ok(reply),
    }
}

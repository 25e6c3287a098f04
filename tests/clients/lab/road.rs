//! The plain road: a CONNECT relay that only joins connections, to push images and to prove the lab itself.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};

/// The relay; dropping it closes every connection.
pub(crate) struct Road {
    /// What `HTTPS_PROXY` is set to.
    pub(crate) url: String,
    serving: JoinHandle<()>,
}

impl Road {
    /// Leads from `host:port`, as clients write it, to an address; to nothing else.
    pub(crate) fn new(runtime: &Handle, ways: HashMap<String, SocketAddr>) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let ways = Arc::new(ways);
        let serving = runtime.spawn(async move {
            let mut relays = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                relays.spawn(relay(stream, Arc::clone(&ways)));
            }
        });
        Self { url, serving }
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn relay(mut client: TcpStream, ways: Arc<HashMap<String, SocketAddr>>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?); // never into what follows the head
    }
    let head = String::from_utf8_lossy(&head);
    let way = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).and_then(|host| ways.get(host));
    let Some(address) = way else {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
    };
    let mut upstream = TcpStream::connect(address).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut upstream).await.map(drop)
}

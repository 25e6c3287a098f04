//! A tunnel: bytes both ways, unread, until one side ends or a new configuration denies the host.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Proxy;
use super::record::Record;
use super::verdict::Verdict;
use crate::oci::Authority;
use crate::upstream::Line;

const BUFFER: usize = 32 << 10;

/// Copies until the end. The record says how much went to the client.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    proxy: Arc<Proxy>,
    client_address: IpAddr,
    authority: Authority,
    mut client: S,
    mut upstream: Line,
    mut record: Record,
) {
    let copied = tokio::select! {
        copied = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER) => copied,
        () = denied(&proxy, client_address, &authority) => {
            record.detail("closed: a new configuration does not tunnel to this host");
            return;
        }
    };
    match copied {
        Ok((_, down)) => record.sent(down),
        Err(error) => record.detail(format!("broken off: {error}")),
    }
}

/// Waits until the configuration says another thing than to tunnel. Cancel-safe.
async fn denied(proxy: &Proxy, client: IpAddr, authority: &Authority) {
    let mut changes = proxy.changes();
    while changes.changed().await.is_ok() {
        let policy = proxy.policy();
        let tunnelled = matches!(policy.judge(authority), Verdict::Tunnel | Verdict::Uncovered(_));
        if !tunnelled || !policy.admits(client) || policy.upstream.forbidden(authority).is_some() {
            return;
        }
    }
    std::future::pending().await
}

//! Copies bytes both ways until one side ends or a new configuration denies the host.
//!
//! Only the name that TLS asks for is read: a tunnel to a registry is closed, as it would escape everything that
//! holds for registries.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tracing::warn;

use super::client_hello;
use super::intercept::UNRECOGNIZED_NAME;
use crate::oci::{Authority, Host};
use crate::proxy::record::Record;
use crate::proxy::registry::verdict::Verdict;
use crate::proxy::state::Proxy;
use crate::upstream::Line;

const BUFFER: usize = 32 << 10;

/// Copies until the end. The record says how much went to the client.
pub(crate) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    proxy: Arc<Proxy>,
    client_address: IpAddr,
    authority: Authority,
    client: S,
    mut upstream: Line,
    mut record: Record,
) {
    let copying = async {
        let (names, mut client) = client_hello::listen(client, &mut upstream).await?;
        if let Some(name) = registry_of(&proxy, &authority, &names) {
            proxy.metrics.handshake_failure("wrong_name");
            warn!(
                client = %client_address, to = %authority, registry = %name,
                "closed a tunnel to another host in which TLS asks for a registry: CONNECT must name the registry"
            );
            client.write_all(&UNRECOGNIZED_NAME).await?;
            client.flush().await?;
            return Err(io::Error::other("TLS asks for a registry in a tunnel to another host"));
        }
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await
    };
    let copied = tokio::select! {
        copied = copying => copied,
        () = denied(&proxy, client_address, &authority) => {
            record.detail("closed: the new configuration does not allow a tunnel to this host");
            return;
        }
    };
    match copied {
        Ok((_, down)) => record.sent(down),
        Err(error) => record.detail(format!("broken off: {error}")),
    }
}

/// The registry that TLS asks for although CONNECT named another host.
fn registry_of<'a>(proxy: &Proxy, authority: &Authority, names: &'a [Host]) -> Option<&'a Host> {
    let policy = proxy.policy();
    let is_registry = |host: &Host| policy.is_registry(host, 443) || policy.is_registry(host, authority.port);
    names.iter().find(|name| **name != authority.host && is_registry(name))
}

/// Waits until the configuration no longer allows the tunnel. Cancel-safe.
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

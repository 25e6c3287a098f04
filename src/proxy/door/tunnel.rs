//! Copies bytes both ways until one side ends or a new configuration denies the host.
//!
//! Only the name that TLS asks for is read: a tunnel to a registry is closed, as it would escape everything that
//! holds for registries.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tracing::warn;

use super::client_hello::{self, Closed};
use super::intercept::UNRECOGNIZED_NAME;
use crate::host::LogThrottle;
use crate::oci::{Authority, Host};
use crate::proxy::clients::{Client, refused};
use crate::proxy::record::Record;
use crate::proxy::registry::verdict::Verdict;
use crate::proxy::state::Proxy;
use crate::upstream::EgressStream;
use crate::wire::{Metered, Rewind};

const BUFFER: usize = 32 << 10;

/// A tunnel through which nothing has passed for so long is no transfer that a drain waits for: an idle connection.
const IDLE: Duration = Duration::from_secs(25);

static SAID: LogThrottle = LogThrottle::new();

/// Copies until the end. The record says how much went to the client.
pub(crate) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    proxy: Arc<Proxy>,
    client: Client,
    authority: Authority,
    mut downstream: S,
    upstream: EgressStream,
    mut record: Record,
) {
    let metrics = proxy.metrics.clone();
    let (received, passed) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut upstream = Metered::new(upstream, |read, written| {
        received.fetch_add(read, Ordering::Relaxed);
        passed.fetch_add(read + written, Ordering::Relaxed);
        metrics.tunnel_bytes(read + written);
    });
    let copying = async {
        let refuses = |name: &Host| is_refused(&proxy, &authority, name);
        match client_hello::watch(&mut downstream, &mut upstream, refuses).await {
            Ok((said, _)) => {
                let mut downstream = Rewind::new(said, downstream);
                let copied = tokio::io::copy_bidirectional_with_sizes(&mut downstream, &mut upstream, BUFFER, BUFFER);
                copied.await.map(drop)
            }
            Err(Closed::Io(error)) => Err(error),
            Err(closed) => {
                proxy.metrics.handshake_failure("wrong_name");
                refused::note_tunnel(&proxy.policy().clients, &client, &authority, &closed.to_string());
                if SAID.is_due() {
                    warn!(
                        client = %client.from.address, to = %authority, reason = %closed,
                        "closed a tunnel whose TLS asks for a registry under another host name: CONNECT must name the registry"
                    );
                }
                downstream.write_all(&UNRECOGNIZED_NAME).await?;
                downstream.flush().await?;
                Err(io::Error::other(closed))
            }
        }
    };
    let copied = tokio::select! {
        copied = copying => copied,
        () = denied(&proxy, client.from.address, &authority) => {
            record.sent(received.load(Ordering::Relaxed));
            record.detail("closed: the new configuration does not allow a tunnel to this host");
            return;
        }
        () = idle_in_drain(&proxy, &passed) => {
            record.sent(received.load(Ordering::Relaxed));
            record.detail("closed: the proxy is stopping, and nothing has passed for a while");
            return;
        }
    };
    record.sent(received.load(Ordering::Relaxed));
    if let Err(error) = copied {
        record.detail(ending(&error));
    }
}

/// Waits until a drain has begun and nothing has passed for [`IDLE`]. Cancel-safe.
async fn idle_in_drain(proxy: &Proxy, passed: &AtomicU64) {
    proxy.stopping().await;
    loop {
        let before = passed.load(Ordering::Relaxed);
        tokio::time::sleep(IDLE).await;
        if passed.load(Ordering::Relaxed) == before {
            return;
        }
    }
}

/// Why a tunnel ended before its sides ended it: cut, or closed by us for what its TLS asks.
fn ending(error: &io::Error) -> String {
    let is_ours = error.get_ref().is_some_and(|cause| cause.is::<Closed>());
    let how = if is_ours { "refused" } else { "broken off" };
    format!("{how}: {error}")
}

/// Whether TLS may not ask for this name in a tunnel to `authority`: a registry's, where CONNECT named another host.
fn is_refused(proxy: &Proxy, authority: &Authority, name: &Host) -> bool {
    let policy = proxy.policy();
    *name != authority.host && (policy.is_registry(name, 443) || policy.is_registry(name, authority.port))
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

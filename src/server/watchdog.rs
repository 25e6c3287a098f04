//! Notifies the service manager's watchdog for as long as the proxy works.
//!
//! Liveness means that the runtime runs a new task and that the accept loop of each listener answers. Nothing here
//! depends on a client, a disk or an upstream: a proxy that waits for those must not be killed for it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::error;

use super::listen::Heartbeat;
use crate::host::service;

/// Checks three times per period until `stop`, and notifies the manager each time that the check passes. A drain
/// accepts nothing any more, so only the runtime counts then.
pub(super) async fn watch(
    period: Duration,
    listeners: Vec<Heartbeat>,
    draining: CancellationToken,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(period / 3);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let asked = if draining.is_cancelled() { &[][..] } else { &listeners };
        match tokio::time::timeout(period / 3, answered(asked)).await {
            Ok(true) => service::alive(),
            // The listener closed between the two checks.
            Ok(false) if draining.is_cancelled() => service::alive(),
            Ok(false) | Err(_) => error!("the proxy fails its own liveness check; the watchdog is not notified"),
        }
    }
}

/// Whether a new task runs and each of `listeners` answers.
async fn answered(listeners: &[Heartbeat]) -> bool {
    let task = tokio::spawn(async {});
    for listener in listeners {
        if !listener.beats().await {
            return false;
        }
    }
    task.await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::listen::{self, Listener};

    #[tokio::test]
    async fn a_listener_that_does_not_answer_is_not_alive() {
        let (opened, heartbeat) =
            Listener::open(None, ([127, 0, 0, 1], 0).into(), "listen.proxy", Duration::from_secs(60)).unwrap();
        let listeners = [heartbeat];
        let silent = tokio::time::timeout(Duration::from_millis(10), answered(&listeners)).await;
        assert!(silent.is_err(), "nothing accepts yet");
        let stop = CancellationToken::new();
        let accepting = tokio::spawn(listen::accept(opened, stop.clone(), None, |_, _| {}));
        assert!(answered(&listeners).await);
        stop.cancel();
        accepting.await.unwrap();
        assert!(!answered(&listeners).await);
    }
}

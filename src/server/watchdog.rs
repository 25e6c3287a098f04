//! Tells the service manager's watchdog that the proxy works, as long as it does.
//!
//! Alive means: the runtime runs a task that is new, and each door's accept loop answers. Nothing here depends on
//! a client, a disk or an upstream: a proxy that waits for those must not be killed for it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::error;

use super::listen::Heartbeat;
use crate::host::service;

/// Looks twice in a period until `stop`, and says so each time that all is well. During a drain nothing is
/// accepted any more, so there the runtime alone counts.
pub(super) async fn watch(
    period: Duration,
    doors: Vec<Heartbeat>,
    draining: CancellationToken,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(period / 3);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let asked = if draining.is_cancelled() { &[][..] } else { &doors };
        match tokio::time::timeout(period / 3, answered(asked)).await {
            Ok(true) => service::alive(),
            // The door closed between the two looks.
            Ok(false) if draining.is_cancelled() => service::alive(),
            Ok(false) | Err(_) => error!("the proxy does not answer itself: the watchdog is not told that it lives"),
        }
    }
}

/// Whether a new task runs and each of `doors` answers.
async fn answered(doors: &[Heartbeat]) -> bool {
    let task = tokio::spawn(async {});
    for door in doors {
        if !door.beats().await {
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
        let (door, heartbeat) =
            Listener::open(None, ([127, 0, 0, 1], 0).into(), "listen.proxy", Duration::from_secs(60)).unwrap();
        let doors = [heartbeat];
        let silent = tokio::time::timeout(Duration::from_millis(10), answered(&doors)).await;
        assert!(silent.is_err(), "nobody accepts yet");
        let stop = CancellationToken::new();
        let accepting = tokio::spawn(listen::accept(door, stop.clone(), None, |_, _| {}));
        assert!(answered(&doors).await);
        stop.cancel();
        accepting.await.unwrap();
        assert!(!answered(&doors).await);
    }
}

//! Holds the limits, as the configuration and the machine have them.

use std::time::Duration;

use crate::host::Budget;

/// A client that takes nothing for so long gives back what its answer holds: nginx's `send_timeout` is as long.
pub(crate) const STALL: Duration = Duration::from_secs(60);
/// No more connections of one address, where nothing is said: that is no longer one machine.
const CONNECTIONS_EACH: usize = 2000;

/// The most that there may be at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections from all addresses together.
    pub connections: usize,
    /// From one address.
    pub connections_each: usize,
    /// Requests under way and tunnels, of all clients together.
    pub streams: usize,
    /// Of one address.
    pub streams_each: usize,
    /// Connections to hosts of the clients' own choice: tunnels, and plain HTTP.
    pub tunnels: usize,
    /// For one address.
    pub tunnels_each: usize,
    /// Blobs that one address reads.
    pub blobs_each: usize,
    /// Bytes in buffers for one address.
    pub buffers_each: usize,
    /// Connections beyond the others, for questions to the proxy itself.
    pub waiting_list: usize,
    /// How long a client may take nothing of an answer.
    pub stall: Duration,
}

impl Limits {
    /// Those of a `budget`, with what the configuration says of each.
    #[must_use]
    pub fn new(
        budget: &Budget,
        connections_each: Option<usize>,
        streams: Option<usize>,
        streams_each: Option<usize>,
    ) -> Self {
        let streams = streams.unwrap_or(budget.streams);
        Self {
            connections: budget.connections,
            connections_each: connections_each.unwrap_or_else(|| (budget.connections / 2).clamp(1, CONNECTIONS_EACH)),
            streams,
            streams_each: streams_each.unwrap_or_else(|| (streams / 4).max(1)),
            tunnels: budget.upstream / 2,
            tunnels_each: budget.upstream / 4,
            blobs_each: (budget.files / 4).max(1),
            buffers_each: budget.buffers / 4,
            waiting_list: budget.overflow,
            stall: STALL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_something_to_the_others() {
        for files in [256, 4096, 524_288] {
            let limits = Limits::new(&Budget::of(Some(files), 1 << 30, None), None, None, None);
            assert!(limits.connections_each * 2 <= limits.connections, "{limits:?}");
            assert!(
                limits.streams_each * 4 <= limits.streams && limits.tunnels_each * 2 <= limits.tunnels,
                "{limits:?}"
            );
            assert!(limits.tunnels_each > 0 && limits.blobs_each > 0, "{limits:?}");
        }
        let budget = Budget::of(Some(4096), 1 << 30, None);
        let said = Limits::new(&budget, Some(7), Some(100), Some(90));
        assert_eq!((said.connections_each, said.streams, said.streams_each), (7, 100, 90));
    }
}

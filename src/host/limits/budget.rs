//! Divides the resources of this process: its files among connections and blobs, its memory among streams and buffers.
//!
//! With every kind at its limit, fewer files are open than the process may open: some are kept for the process itself, for
//! health checks, and for names that are being resolved.

use crate::host::{memory_limit, open_file_limit};

/// The memory of an idle connection with TLS.
const CONNECTION_BYTES: u64 = 128 << 10;
/// The memory of a request in progress with the smallest buffer.
const STREAM_BYTES: u64 = 96 << 10;
/// The buffers of a tunnel.
const TUNNEL_BYTES: u64 = 64 << 10;
/// No machine serves more clients than this.
const CONNECTIONS: u64 = 20_000;
const STREAMS: u64 = 20_000;
const UPSTREAM: u64 = 10_000;
const FILES: u64 = 65_536;
/// Listeners, the catalog, the log, the runtime.
const OWN_FILES: u64 = 48;
/// The least of each kind.
const LEAST: u64 = 16;
const UNLIMITED: u64 = 1 << 20;

/// The most of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Connections of clients.
    pub connections: usize,
    /// Further connections of clients, for requests to the proxy itself.
    pub overflow: usize,
    /// Connections to the admin port.
    pub admin: usize,
    /// Connections to upstreams.
    pub upstream: usize,
    /// Open files of content.
    pub files: usize,
    /// Requests in progress.
    pub streams: usize,
    /// Bytes in buffers that wait for clients.
    pub buffers: usize,
}

impl Budget {
    /// The budget of this process as it is now, with a fixed number of `connections` if one is given.
    #[must_use]
    pub fn of_process(connections: Option<usize>) -> Self {
        Self::of(open_file_limit(), memory_limit(), connections)
    }

    /// The budget for a number of open files and bytes of memory.
    #[must_use]
    pub fn of(files: Option<u64>, memory: u64, connections: Option<usize>) -> Self {
        let open = files.unwrap_or(UNLIMITED);
        let (overflow, admin) = ((open / 64).clamp(8, 64), (open / 128).clamp(8, 32));
        let reserve = OWN_FILES + overflow + admin + (open / 16).clamp(16, 512);
        let third = (open.saturating_sub(reserve) / 3).max(LEAST);
        let upstream = third.min(UPSTREAM).min(memory / 8 / TUNNEL_BYTES).max(LEAST);
        let rest = open.saturating_sub(reserve + upstream).max(2 * LEAST);
        let fitting = third.min(memory / CONNECTION_BYTES).min(CONNECTIONS);
        // More connections than a third are taken from the files.
        let connections = connections.map_or(fitting, |wished| wished as u64).min(rest - LEAST);
        let connections = connections.max(1);
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Self {
            connections: number(connections),
            overflow: number(overflow),
            admin: number(admin),
            upstream: number(upstream),
            files: number((rest - connections).min(FILES)),
            streams: number((memory / STREAM_BYTES).clamp(256, STREAMS)),
            buffers: number((memory / 16).clamp(8 << 20, 256 << 20)),
        }
    }

    /// The number of files that all of it needs.
    #[cfg(test)]
    fn open(&self) -> usize {
        self.connections + self.overflow + self.admin + self.upstream + self.files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_open_fits_into_the_files_that_may_be() {
        for files in [256_u64, 1024, 4096, 20_000, 65_536, 524_288, 1 << 30] {
            for memory in [64_u64 << 20, 512 << 20, 8 << 30, u64::MAX] {
                for connections in [None, Some(1), Some(500), Some(1 << 20)] {
                    let budget = Budget::of(Some(files), memory, connections);
                    let open = budget.open() as u64;
                    assert!(open + OWN_FILES < files, "{files} {memory} {connections:?}: {budget:?}");
                    assert!(budget.connections > 0 && budget.files > 0 && budget.upstream > 0, "{budget:?}");
                }
            }
        }
    }

    #[test]
    fn a_machine_is_divided_as_documented() {
        let budget = Budget::of(Some(4096), 8 << 30, None);
        let Budget { connections, overflow, admin, upstream, files, streams, buffers } = budget;
        assert_eq!((connections, upstream, files), (1232, 1232, 1232));
        assert_eq!((overflow, admin, streams, buffers >> 20), (64, 32, 20_000, 256));
        let small = Budget::of(Some(524_288), 512 << 20, None);
        assert_eq!((small.connections, small.streams, small.buffers >> 20), (4096, 5461, 32));
        assert_eq!(Budget::of(Some(4096), 8 << 30, Some(300)).connections, 300);
        assert_eq!(Budget::of(None, 8 << 30, None).connections, 20_000);
    }
}

//! Names the limits that a request or a connection can exceed.

/// The limit that was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Exceeded {
    /// All clients together.
    #[error("the proxy has {0} connections, the most it may have (clients.connections)")]
    Connections(usize),
    /// One address.
    #[error("your address has {0} connections to the proxy, the most one address may have (clients.connections_each)")]
    ConnectionsEach(usize),
    /// All clients together.
    #[error("the proxy has {0} requests in progress, the most it may have (clients.streams)")]
    Streams(usize),
    /// One address.
    #[error(
        "your address has {0} requests in progress at the proxy, the most one address may have (clients.streams_each)"
    )]
    StreamsEach(usize),
    /// All clients together.
    #[error("the proxy has {0} connections for tunnels and forwarded requests, the most that its open files allow")]
    Tunnels(usize),
    /// One address.
    #[error("your address has {0} connections for tunnels and forwarded requests, the most one address may have")]
    TunnelsEach(usize),
    /// One address.
    #[error("your address is reading {0} blobs at the proxy, the most one address may read at a time")]
    BlobsEach(usize),
}

impl Exceeded {
    /// Every label.
    pub(crate) const LABELS: [&'static str; 7] =
        ["connections", "connections_each", "streams", "streams_each", "tunnels", "tunnels_each", "blobs_each"];

    /// For the metrics.
    pub(crate) fn label(self) -> &'static str {
        Self::LABELS[self.place()]
    }

    /// Whether this client alone exceeds it, and so can do something about it.
    pub(crate) fn is_clients_own(self) -> bool {
        matches!(self, Self::ConnectionsEach(_) | Self::StreamsEach(_) | Self::TunnelsEach(_) | Self::BlobsEach(_))
    }

    pub(crate) fn place(self) -> usize {
        match self {
            Self::Connections(_) => 0,
            Self::ConnectionsEach(_) => 1,
            Self::Streams(_) => 2,
            Self::StreamsEach(_) => 3,
            Self::Tunnels(_) => 4,
            Self::TunnelsEach(_) => 5,
            Self::BlobsEach(_) => 6,
        }
    }
}

//! Lists the words with which listeners count, so that their counters start at 0.

/// What becomes of a CONNECT.
pub(crate) const CONNECTS: [&str; 10] =
    ["intercept", "tunnel", "uncovered", "refuse", "malformed", "stranger", "login", "loop", "crowded", "failed"];

/// Why the TLS handshake of a client fails.
pub(crate) const HANDSHAKE_FAILURES: [&str; 11] = [
    "untrusted",
    "alert",
    "incompatible",
    "protocol",
    "closed",
    "wrong_name",
    "unsigned",
    "timeout",
    "no_name",
    "not_tls",
    "proxy_header",
];

/// The listeners.
pub(crate) const DOORS: [&str; 4] = ["proxy", "mirror", "transparent", "admin"];

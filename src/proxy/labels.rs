//! Lists the words with which listeners count, so that their counters start at 0.

/// What becomes of a CONNECT.
pub(crate) const CONNECTS: [&str; 8] =
    ["intercept", "tunnel", "uncovered", "refuse", "malformed", "stranger", "login", "crowded"];

/// Why the TLS handshake of a client fails.
pub(crate) const HANDSHAKE_FAILURES: [&str; 8] =
    ["untrusted", "alert", "incompatible", "protocol", "closed", "wrong_name", "unsigned", "timeout"];

/// The listeners.
pub(crate) const DOORS: [&str; 2] = ["proxy", "admin"];

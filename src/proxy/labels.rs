//! Lists the words with which listeners count, so that their counters start at 0.

/// What becomes of a CONNECT.
pub(crate) const CONNECTS: [&str; 10] =
    ["intercept", "tunnel", "uncovered", "refuse", "malformed", "stranger", "login", "loop", "crowded", "failed"];

/// Why the TLS handshake of a client fails.
pub(crate) const HANDSHAKE_FAILURES: [&str; 8] =
    ["untrusted", "alert", "incompatible", "protocol", "closed", "wrong_name", "unsigned", "timeout"];

/// The listeners.
pub(crate) const DOORS: [&str; 3] = ["proxy", "mirror", "admin"];

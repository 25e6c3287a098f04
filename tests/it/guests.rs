//! Who may use the proxy.

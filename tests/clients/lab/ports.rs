//! Addresses that a program can leave and come back to.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

use super::process::look;

/// An address that nobody listens on, another at each call. It lies below the ports that the system gives to
/// connections and to those who ask for any port (ip_local_port_range), so that none of them takes it meanwhile.
pub(crate) fn free(ip: IpAddr) -> SocketAddr {
    static NEXT: LazyLock<AtomicU16> =
        LazyLock::new(|| AtomicU16::new(20_000 + (std::process::id() % 1000) as u16 * 10));
    loop {
        let address = SocketAddr::new(ip, NEXT.fetch_add(1, Ordering::Relaxed));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Listens there, also where somebody else on this machine tries the port at that very moment.
pub(super) fn listen(runtime: &Handle, address: SocketAddr) -> tokio::net::TcpListener {
    let bound = look(Duration::from_secs(10), || match runtime.block_on(tokio::net::TcpListener::bind(address)) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => None,
        bound => Some(bound),
    });
    bound.unwrap_or_else(|| panic!("somebody else listens on {address}")).unwrap()
}

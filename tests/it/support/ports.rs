//! Ports on which nobody listens, kept from everybody else meanwhile.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// An address at which connections are refused. While this is there, the system gives its port to nobody; who asks for
/// it by number may listen there.
pub(crate) struct Nowhere(Socket);

impl Nowhere {
    /// A new one, on 127.0.0.1.
    pub(crate) fn new() -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// This one.
    pub(crate) fn at(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&address.into()).unwrap();
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }
}

#[test]
fn nobody_answers_there_and_it_can_be_taken_by_number() {
    let nowhere = Nowhere::new();
    let address = nowhere.address();
    assert!(std::net::TcpStream::connect(address).is_err());
    let listener = std::net::TcpListener::bind(address).unwrap();
    drop(nowhere);
    std::net::TcpStream::connect(address).unwrap();
    drop(listener);
}

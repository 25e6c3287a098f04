//! A name server that knows no name: whoever asks it wanted to leave the lab.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

/// Answers NXDOMAIN (RFC 1035, 4.1.1) on an address of its own until the process ends.
pub(super) struct Names {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<BTreeSet<String>>>,
}

impl Names {
    pub(super) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.10.53:0").unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(BTreeSet::new()));
        let noted = Arc::clone(&asked);
        thread::spawn(move || {
            let mut message = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut message) {
                let Some(question) = message.get(12..length) else { continue };
                noted.lock().unwrap().insert(name(question));
                message[2] |= 0x80; // an answer
                message[3] = message[3] & 0x70 | 0x80 | 3; // no such name
                let _ = socket.send_to(&message[..length], from);
            }
        });
        Self { address, asked }
    }

    /// Every name that somebody asked for.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().cloned().collect()
    }
}

fn name(mut question: &[u8]) -> String {
    let mut labels = Vec::new();
    while let [length, rest @ ..] = question {
        let Some(label) = rest.get(..usize::from(*length)).filter(|label| !label.is_empty()) else { break };
        labels.push(String::from_utf8_lossy(label).into_owned());
        question = &rest[label.len()..];
    }
    labels.join(".")
}

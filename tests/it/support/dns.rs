//! A scripted DNS server, by UDP and TCP on one port.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

/// What it does to who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answering {
    /// The truth.
    Truly,
    /// By UDP that the answer is too long for it.
    Cut,
    /// That it failed.
    Failing,
    /// First with another id, then the truth.
    AfterForgery,
    /// The first question with nothing, as if it had been lost.
    Losing,
    /// Nothing to questions for IPv6.
    WithoutV6,
    /// Nothing.
    Silent,
}

/// A server that runs until it is dropped.
pub(crate) struct Dns {
    shared: Arc<Mutex<Shared>>,
    address: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    names: HashMap<String, (Vec<IpAddr>, u32)>,
    answering: Answering,
    asked: Vec<String>,
}

impl Dns {
    pub(crate) async fn start(answering: Answering) -> Self {
        let shared = Arc::new(Mutex::new(Shared { names: HashMap::new(), answering, asked: Vec::new() }));
        let (address, tasks) = serve(([127, 0, 0, 1], 0).into(), &shared).await;
        Self { shared, address, tasks }
    }

    /// From now on a name has these addresses, for so many seconds.
    pub(crate) fn knows(self, name: &str, addresses: &[&str], seconds: u32) -> Self {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.shared.lock().unwrap().names.insert(name.to_owned(), (addresses, seconds));
        self
    }

    /// The same later; without an address there is no such name.
    pub(crate) fn know(&self, name: &str, address: Option<&str>) {
        let names = &mut self.shared.lock().unwrap().names;
        match address {
            Some(address) => drop(names.insert(name.to_owned(), (vec![address.parse().unwrap()], 0))),
            None => drop(names.remove(name)),
        }
    }

    /// Closes its port; what asks is refused.
    pub(crate) fn stop(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
    }

    /// Answers truly again, also after it was stopped.
    pub(crate) async fn again(&mut self) {
        self.answer(Answering::Truly);
        if self.tasks.is_empty() {
            self.tasks = serve(self.address, &self.shared).await.1;
        }
    }

    /// From now on it does this, to the first question anew.
    pub(crate) fn answer(&self, answering: Answering) {
        let mut shared = self.shared.lock().unwrap();
        shared.answering = answering;
        shared.asked.clear();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was asked, as `udp A quay.io`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.lock().unwrap().asked.clone()
    }
}

/// Serves there by UDP and TCP; where there is no port yet, one that is free for both.
async fn serve(at: SocketAddr, shared: &Arc<Mutex<Shared>>) -> (SocketAddr, Vec<JoinHandle<()>>) {
    let listener = TcpListener::bind(at).await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = UdpSocket::bind(address).await.unwrap();
    let (by_udp, by_tcp) = (shared.clone(), shared.clone());
    let udp = tokio::spawn(async move {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question).await {
            let answers = by_udp.lock().unwrap().answers(&question[..length], "udp");
            for answer in answers {
                let _ = socket.send_to(&answer, from).await;
            }
        }
    });
    let tcp = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut question = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut question).await.unwrap();
            let Some(answer) = by_tcp.lock().unwrap().answers(&question, "tcp").pop() else { continue };
            stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    (address, vec![udp, tcp])
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn answers(&mut self, question: &[u8], over: &str) -> Vec<Vec<u8>> {
        let asked = Packet::parse(question).unwrap();
        let about = &asked.questions[0];
        let name = about.qname.to_string();
        let v4 = about.qtype == QTYPE::TYPE(TYPE::A);
        self.asked.push(format!("{over} {} {name}", if v4 { "A" } else { "AAAA" }));
        let is_lost = match self.answering {
            Answering::Losing => self.asked.len() == 1,
            Answering::WithoutV6 => !v4,
            Answering::Silent => true,
            _ => false,
        };
        if is_lost {
            return Vec::new();
        }
        let mut answer = Packet::new_reply(asked.id());
        answer.questions.push(about.clone());
        match self.names.get(&name) {
            None => *answer.rcode_mut() = RCODE::NameError,
            Some((addresses, seconds)) => {
                for address in addresses {
                    let rdata = match address {
                        IpAddr::V4(address) if v4 => RData::A(A { address: (*address).into() }),
                        IpAddr::V6(address) if !v4 => RData::AAAA(AAAA { address: (*address).into() }),
                        _ => continue,
                    };
                    answer.answers.push(ResourceRecord::new(Name::new(&name).unwrap(), CLASS::IN, *seconds, rdata));
                }
            }
        }
        let forged = (self.answering == Answering::AfterForgery).then(|| {
            let mut forged = answer.clone();
            forged.set_id(asked.id().wrapping_add(1));
            forged.answers.clear();
            forged.build_bytes_vec().unwrap()
        });
        match self.answering {
            Answering::Cut if over == "udp" => {
                answer.set_flags(PacketFlag::TRUNCATION);
                answer.answers.clear();
            }
            Answering::Failing => *answer.rcode_mut() = RCODE::ServerFailure,
            _ => {}
        }
        forged.into_iter().chain([answer.build_bytes_vec().unwrap()]).collect()
    }
}

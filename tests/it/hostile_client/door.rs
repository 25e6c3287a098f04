//! The doors of HTTP/1.1: how each is opened, what an honest request at it is, and what it answers to that.

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};

use super::site::{QUAY, Site};
use super::speech::{Answer, Listener, Stream};
use crate::support::client::Client;

/// Where a client may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// The proxy's own pages, on its port.
    Own,
    /// The same by TLS (`https://` proxy).
    OwnTls,
    /// The CONNECT line.
    Connect,
    /// Inside CONNECT, at a registry: a list, which is passed on.
    Inside,
    /// Plain HTTP by absolute form.
    Absolute,
    /// The admin port.
    Admin,
    /// The control socket.
    Control,
}

/// The words of an honest request.
pub(super) struct Honest {
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) host: String,
}

impl Door {
    pub(super) const ALL: [Self; 7] =
        [Self::Own, Self::OwnTls, Self::Connect, Self::Inside, Self::Absolute, Self::Admin, Self::Control];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::OwnTls => "own tls",
            Self::Connect => "connect",
            Self::Inside => "inside",
            Self::Absolute => "absolute",
            Self::Admin => "admin",
            Self::Control => "control",
        }
    }

    pub(super) async fn open(self, site: &Site) -> Box<dyn Stream> {
        let proxy = &site.proxy;
        match self {
            Self::Own | Self::Connect | Self::Absolute => Box::new(TcpStream::connect(proxy.address()).await.unwrap()),
            Self::OwnTls => {
                let client = Client::direct(proxy.address()).trusting(&proxy.ca_file());
                Box::new(client.tls("localhost:443").await.unwrap())
            }
            Self::Inside => Box::new(proxy.client().tls(QUAY).await.unwrap()),
            Self::Admin => Box::new(TcpStream::connect(proxy.admin()).await.unwrap()),
            Self::Control => Box::new(UnixStream::connect(proxy.folder().join("cache/control.sock")).await.unwrap()),
        }
    }

    pub(super) fn honest(self, site: &Site) -> Honest {
        let (method, target, host) = match self {
            Self::Own | Self::OwnTls => ("GET", "/healthz".to_owned(), "proxy.example:3128".to_owned()),
            Self::Connect => ("CONNECT", QUAY.to_owned(), QUAY.to_owned()),
            Self::Inside => ("GET", "/v2/open/app/tags/list".to_owned(), "quay.io".to_owned()),
            Self::Absolute => {
                let host = site.files.address().to_string();
                ("GET", format!("http://{host}/v2/open/app/tags/list"), host)
            }
            Self::Admin => ("GET", "/".to_owned(), "localhost:9128".to_owned()),
            Self::Control => ("GET", "/v1/cache/stats".to_owned(), "localhost".to_owned()),
        };
        Honest { method, target, host }
    }

    /// What an honest request is answered, and how many requests it sends upstream.
    pub(super) fn answers(self) -> (u16, usize) {
        match self {
            Self::Own | Self::OwnTls | Self::Admin | Self::Connect => (200, 0),
            Self::Inside | Self::Absolute => (200, 1),
            Self::Control => (405, 0), // commands go by POST
        }
    }

    /// Writes `bytes`, reads the answer, asks honestly on the same connection and reads all that comes. The cell.
    pub(super) async fn try_out(self, site: &Site, bytes: &[u8], method: &str) -> String {
        self.try_counting(site, Site::reached, bytes, method).await
    }

    /// The same, with another count of what came of it upstream.
    pub(super) async fn try_counting(
        self,
        site: &Site,
        count: fn(&Site) -> usize,
        bytes: &[u8],
        method: &str,
    ) -> String {
        let before = count(site);
        let mut listener = Listener::new(self.open(site).await);
        let mut answers = Vec::new();
        write(&mut listener, bytes).await;
        loop {
            answers.push(listener.next(method).await);
            if !matches!(answers.last(), Some(Answer::Whole(100..=199))) {
                break;
            }
        }
        let is_open = matches!(answers.last(), Some(Answer::Whole(_))) && !self.is_tunnel(&answers);
        let (status, upstream) = self.answers();
        let stays = is_open && {
            let Honest { method, target, host } = self.honest(site);
            let probe = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            write(&mut listener, probe.as_bytes()).await;
            loop {
                match listener.next(method).await {
                    Answer::End => break,
                    answer => answers.push(answer),
                }
                if !matches!(answers.last(), Some(Answer::Whole(_))) || self.is_tunnel(&answers) {
                    break;
                }
            }
            answers.len() > 1 && answers.last() == Some(&Answer::Whole(status))
        };
        if stays {
            answers.pop();
        }
        cell(&answers, stays, count(site) - before - if stays { upstream } else { 0 })
    }

    fn is_tunnel(self, answers: &[Answer]) -> bool {
        self == Self::Connect && answers.last() == Some(&Answer::Whole(200))
    }
}

/// It may be refused before its end.
async fn write(listener: &mut Listener, bytes: &[u8]) {
    let _ = listener.stream().write_all(bytes).await;
    let _ = listener.stream().flush().await;
}

/// Equal answers in a row are counted.
pub(super) fn cell(answers: &[Answer], stays: bool, reached: usize) -> String {
    let word = |answer: &Answer| match answer {
        Answer::Whole(status) => status.to_string(),
        Answer::Cut(status) => format!("{status} cut"),
        Answer::End => "end".to_owned(),
        Answer::Other => "no http/1".to_owned(),
        Answer::Silence => "silence".to_owned(),
    };
    let runs = answers.chunk_by(|a, b| a == b).map(|run| match run.len() {
        1 => word(&run[0]),
        times => format!("{times}x {}", word(&run[0])),
    });
    let stays = stays.then(|| "+".to_owned());
    let reached = (reached > 0).then(|| format!("^{reached}"));
    runs.chain(stays).chain(reached).collect::<Vec<_>>().join(" ")
}

//! A machine with one service: the program, its sockets and the manager that it tells things to.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::Configuration;

const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Machine {
    folder: tempfile::TempDir,
    notified: UnixDatagram,
    sockets: [OwnedFd; 2],
    pub(super) proxy: SocketAddr,
    pub(super) admin: SocketAddr,
    child: Option<Child>,
}

impl Machine {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let notified = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        notified.set_read_timeout(Some(PATIENCE)).unwrap();
        let sockets = ["127.0.0.1:0", "127.0.0.2:0"].map(|address| TcpListener::bind(address).unwrap());
        let [proxy, admin] = [0, 1].map(|at: usize| sockets[at].local_addr().unwrap());
        let sockets = sockets.map(OwnedFd::from);
        let machine = Self { folder, notified, sockets, proxy, admin, child: None };
        machine.write(&["docker.io"]);
        machine
    }

    /// Passes a Unix socket in place of the first one; where it is.
    pub(super) fn pass_unix(&mut self) -> PathBuf {
        let path = self.folder().join("door.sock");
        self.sockets[0] = UnixListener::bind(&path).unwrap().into();
        path
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn config(&self) -> PathBuf {
        self.folder().join("pullthrough.yaml")
    }

    pub(super) fn yaml(&self, registries: &[&str]) -> String {
        let (dir, port) = (self.folder().display(), self.proxy.port());
        let mut file = Configuration::default();
        file.add("listen", "proxy: '127.0.0.1:0', admin: '127.0.0.2:0'");
        file.add("ca", format!("dir: '{dir}/ca'"));
        file.add("cache", format!("dir: '{dir}/cache'"));
        file.add("tunnel", format!("allow: [127.0.0.1], ports: [{port}]"));
        registries.iter().for_each(|name| file.add("registries", format!("{name}: {{}}")));
        file.to_string()
    }

    pub(super) fn write(&self, registries: &[&str]) {
        fs::write(self.config(), self.yaml(registries)).unwrap();
    }

    /// Starts the program, as the manager would: with the sockets as descriptors 3 and 4, which are only looked at
    /// where `environment` has LISTEN_FDS.
    pub(super) fn start(&mut self, environment: &[(&str, &str)]) {
        let [proxy, admin] = [0, 1].map(|at: usize| self.sockets[at].try_clone().unwrap());
        let script = "ulimit -S -n 256; exec 3<&0 4<&1 </dev/null >>\"$LOG\" 2>&1; LISTEN_PID=$$; export LISTEN_PID; exec \"$0\" \"$@\"";
        let child = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_pullthrough"), "serve", "--config"])
            .arg(self.config())
            .env_clear()
            .env("LOG", self.folder().join("log"))
            .env("NOTIFY_SOCKET", self.folder().join("notify"))
            .envs(environment.iter().copied())
            .stdin(Stdio::from(proxy))
            .stdout(Stdio::from(admin))
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Waits for a message with this line, and answers it.
    pub(super) fn told(&self, line: &str) -> String {
        let mut bytes = [0; 4096];
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let length =
                self.notified.recv(&mut bytes).unwrap_or_else(|error| panic!("{line}: {error}\n{}", self.log()));
            let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if message.lines().any(|one| one == line) {
                return message;
            }
        }
        panic!("the manager was not told {line}\n{}", self.log());
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    pub(super) fn hangup(&self) {
        self.signal(Signal::HUP);
    }

    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().unwrap().id();
        kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), signal).unwrap();
    }

    pub(super) fn wait(&mut self) -> ExitStatus {
        self.child.take().unwrap().wait().unwrap()
    }

    /// Where the program listens when no socket was passed, as its banner says.
    pub(super) fn own_proxy(&self) -> SocketAddr {
        self.words_after("listens on ", ';')
    }

    fn words_after(&self, words: &str, end: char) -> SocketAddr {
        let log = self.log();
        let (_, rest) = log.split_once(words).unwrap_or_else(|| panic!("no {words}: {log}"));
        rest.split(end).next().unwrap().parse().unwrap()
    }

    pub(super) fn metric(&self, name: &str) -> String {
        let admin = self.words_after("metrics on http://", '/');
        let page = get(admin, "/metrics").unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}: {page}")).to_owned()
    }

    /// A tunnel through the program, which holds its drain until it is dropped.
    pub(super) fn connect_tunnel(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.own_proxy()).unwrap();
        let to = self.proxy; // it listens, and nobody accepts
        write!(stream, "CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n").unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        stream
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One request over a connection of its own: the whole answer.
pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

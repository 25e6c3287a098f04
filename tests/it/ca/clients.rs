//! OpenSSL, GnuTLS, Go and Java judge our chain as a node would: what is covered passes, what a thief signs does not.
//!
//! Each program gets the root alone as its trust, connects to loopback and verifies the name it is told. A program
//! that is not there fails its test: a promise that was not tried is not kept.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pullthrough::ca::Error;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::ca::support::{Lab, host};

/// A TLS server on loopback that answers every connection with one short response.
struct Server {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    task: Option<JoinHandle<()>>,
}

impl Server {
    fn start(config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let task = std::thread::spawn({
            let over = over.clone();
            move || {
                for stream in listener.incoming() {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    answer(stream.unwrap(), config.clone());
                }
            }
        });
        Self { address, over, task: Some(task) }
    }

    fn port(&self) -> String {
        self.address.port().to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.task.take().map(JoinHandle::join);
    }
}

/// A client that refuses the certificate breaks off here; what it says of it is what counts.
fn answer(stream: TcpStream, config: Arc<ServerConfig>) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    let _ = tls.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok").and_then(|()| tls.flush());
    tls.conn.send_close_notify();
    let _ = tls.flush();
    let _ = tls.read(&mut [0; 1024]);
}

/// Runs a program to its end with nothing on its standard input.
fn program(package: &str, command: &mut Command) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => panic!("{name} does not run ({error}): install the Debian package {package}"),
    }
}

fn words(output: &Output) -> String {
    let mut words = String::from_utf8_lossy(&output.stdout).into_owned();
    let _ = write!(words, "\n{}", String::from_utf8_lossy(&output.stderr));
    words
}

/// What a client says of the server at a port under a name: `Ok`, or its words of refusal.
type Verdict = Result<(), String>;

/// Asks one client about each port and name, trusting the root in the file.
type Judge = fn(root: &Path, cases: &[(String, &str)]) -> Vec<Verdict>;

/// The same promises for every client; `because` holds the words by which it says that a constraint forbids it.
fn judge(client: Judge, because: &[&str]) {
    let names_and_addresses = ["quay.io", "*.pkg.dev", "127.0.0.1", "2001:db8::1"];
    // Addresses of one family permitted, of both, of none; names or none: the shapes that constraints take.
    for patterns in
        [&names_and_addresses[..3], &names_and_addresses, &names_and_addresses[..2], &["127.0.0.1"], &["2001:db8::1"]]
    {
        let lab = Lab::new();
        let authority = lab.open(patterns);
        let all = ["quay.io", "cdn.quay.io", "us-docker.pkg.dev", "127.0.0.1", "2001:db8::1"];
        let (covered, outside): (Vec<&str>, Vec<&str>) =
            all.into_iter().partition(|name| authority.covers(&host(name)));
        assert!(!covered.is_empty());
        let ours: Vec<_> =
            covered.iter().map(|name| (Server::start(authority.server_config(&host(name)).unwrap()), *name)).collect();
        // The forger's leaf for a covered name passes: what is refused below is refused for its name alone.
        let stolen: Vec<_> = covered.iter().map(|name| (Server::start(lab.forge(name)), *name)).collect();
        let never = ["evil.example", "evilquay.io", "127.0.0.2", "2001:db8::2", "::1"];
        let forged: Vec<_> =
            outside.into_iter().chain(never).map(|name| (Server::start(lab.forge(name)), name)).collect();

        let servers: Vec<_> = ours.iter().chain(&stolen).chain(&forged).collect();
        let cases: Vec<_> = servers.iter().map(|(server, name)| (server.port(), *name)).collect();
        let verdicts = client(&lab.path("ca.crt"), &cases);
        assert_eq!(verdicts.len(), cases.len());
        let (accepted, refused) = verdicts.split_at(ours.len() + stolen.len());
        for ((_, name), verdict) in ours.iter().chain(&stolen).zip(accepted) {
            assert_eq!(*verdict, Ok(()), "{name} under {patterns:?}");
        }
        for ((_, name), verdict) in forged.iter().zip(refused) {
            let words = verdict.as_ref().expect_err(name);
            assert!(because.iter().any(|word| words.contains(word)), "{name} under {patterns:?}: {words}");
        }
    }
}

fn is_address(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok()
}

fn openssl(root: &Path, cases: &[(String, &str)]) -> Vec<Verdict> {
    let ask = |(port, name): &(String, &str)| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-x509_strict", "-verify_return_error", "-no-CApath", "-no-CAstore", "-CAfile"]);
        command.arg(root).args(["-connect", &format!("127.0.0.1:{port}")]);
        match is_address(name) {
            true => command.args(["-noservername", "-verify_ip", name]),
            false => command.args(["-servername", name, "-verify_hostname", name]),
        };
        let output = program("openssl", &mut command);
        let words = words(&output);
        let verified = output.status.success() && words.contains("Verify return code: 0 (ok)");
        if verified { Ok(()) } else { Err(words) }
    };
    cases.iter().map(ask).collect()
}

fn gnutls(root: &Path, cases: &[(String, &str)]) -> Vec<Verdict> {
    let ask = |(port, name): &(String, &str)| {
        let mut command = Command::new("gnutls-cli");
        command.arg("--x509cafile").arg(root).args(["--port", port, "--verify-hostname", name]);
        if is_address(name) {
            command.arg("--disable-sni");
        } else {
            command.args(["--sni-hostname", name]);
        }
        let output = program("gnutls-bin", command.arg("127.0.0.1"));
        let words = words(&output);
        let verified = output.status.success() && words.contains("The certificate is trusted");
        if verified { Ok(()) } else { Err(words) }
    };
    cases.iter().map(ask).collect()
}

/// One run for all cases: a line for each, `ok` or the error on one line.
fn batch(package: &str, mut command: Command, root: &Path, cases: &[(String, &str)]) -> Vec<Verdict> {
    command.arg(root);
    cases.iter().for_each(|(port, name)| {
        command.args([port.as_str(), *name]);
    });
    let output = program(package, &mut command);
    assert!(output.status.success(), "{}", words(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| if line == "ok" { Ok(()) } else { Err(line.to_owned()) }).collect()
}

fn go(root: &Path, cases: &[(String, &str)]) -> Vec<Verdict> {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("client.go");
    std::fs::write(&source, GO).unwrap();
    let mut command = Command::new("go");
    command.env("GO111MODULE", "off").env("GOFLAGS", "").env("GOTOOLCHAIN", "local").arg("run").arg(source);
    batch("golang-go", command, root, cases)
}

const GO: &str = r#"package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
)

func main() {
	pem, err := os.ReadFile(os.Args[1])
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		panic("no root")
	}
	for i := 2; i < len(os.Args); i += 2 {
		config := &tls.Config{RootCAs: roots, ServerName: os.Args[i+1]}
		connection, err := tls.Dial("tcp", "127.0.0.1:"+os.Args[i], config)
		if err != nil {
			fmt.Println(strings.ReplaceAll(err.Error(), "\n", " "))
			continue
		}
		connection.Close()
		fmt.Println("ok")
	}
}
"#;

fn java(root: &Path, cases: &[(String, &str)]) -> Vec<Verdict> {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("Client.java");
    std::fs::write(&source, JAVA).unwrap();
    let mut command = Command::new("java");
    command.args(["-Xshare:auto", "-XX:TieredStopAtLevel=1"]).arg(source);
    batch("default-jdk-headless", command, root, cases)
}

const JAVA: &str = r#"
import java.io.FileInputStream;
import java.net.Socket;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.*;

class Client {
    public static void main(String[] args) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream pem = new FileInputStream(args[0])) {
            store.setCertificateEntry("root", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        for (int i = 1; i < args.length; i += 2) {
            Socket plain = new Socket("127.0.0.1", Integer.parseInt(args[i]));
            try (SSLSocket tls = (SSLSocket) context.getSocketFactory().createSocket(plain, args[i + 1], 443, true)) {
                SSLParameters parameters = tls.getSSLParameters();
                parameters.setEndpointIdentificationAlgorithm("HTTPS");
                tls.setSSLParameters(parameters);
                tls.startHandshake();
                System.out.println("ok");
            } catch (Exception error) {
                StringBuilder words = new StringBuilder();
                for (Throwable cause = error; cause != null; cause = cause.getCause()) words.append(cause).append("; ");
                System.out.println(words.toString().replace('\n', ' '));
            }
        }
    }
}
"#;

#[test]
fn openssl_accepts_what_is_covered_and_refuses_what_is_not() {
    judge(openssl, &["permitted subtree violation", "excluded subtree violation"]);
}

#[test]
fn gnutls_accepts_what_is_covered_and_refuses_what_is_not() {
    judge(gnutls, &["violates the signer's constraints"]);
}

#[test]
fn go_accepts_what_is_covered_and_refuses_what_is_not() {
    judge(go, &["is not permitted by any constraint", "is excluded by constraint"]);
}

#[test]
fn java_accepts_what_is_covered_and_refuses_what_is_not() {
    judge(java, &["name constraints"]);
}

/// A root as a company's own tools make it.
fn openssl_root(key: &str, subject: &str) -> Lab {
    let lab = Lab::new();
    std::fs::create_dir(&lab.config.dir).unwrap();
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-nodes", "-days", "30", "-newkey", key, "-subj", subject]);
    command.args(["-addext", "keyUsage=critical,keyCertSign", "-keyout"]).arg(lab.path("ca.key"));
    let output = program("openssl", command.arg("-out").arg(lab.path("ca.crt")));
    assert!(output.status.success(), "{}", words(&output));
    lab
}

#[test]
fn a_root_made_by_openssl_is_used_as_it_is() {
    let lab = openssl_root("rsa:2048", "/C=DE/O=Example/OU=Platform/CN=Example Root");
    let before = (lab.read("ca.crt"), lab.read("ca.key"));
    let authority = lab.try_open(&["quay.io"]);
    let server = Server::start(authority.unwrap().server_config(&host("quay.io")).unwrap());
    assert_eq!(openssl(&lab.path("ca.crt"), &[(server.port(), "quay.io")]), [Ok(())]);
    assert!((lab.read("ca.crt"), lab.read("ca.key")) == before);
}

#[test]
fn a_root_whose_name_cannot_be_written_again_is_refused_before_clients_do() {
    let lab = openssl_root("rsa:2048", "/O=Example/OU=Platform/OU=Registries/CN=Example Root");
    let error = lab.try_open(&["quay.io"]).err().unwrap();
    assert!(matches!(error, Error::Chain { .. }), "{error:?}");
    assert!(!lab.path("issuing.crt").exists());
}

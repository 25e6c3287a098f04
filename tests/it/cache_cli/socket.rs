//! The control socket: whose it is, what a stale one means, and what is not understood.

use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use pullthrough::store::Store;

use super::lab::{ALL, Lab, SIZE, usual};
use crate::store::config;

#[test]
fn the_control_socket_is_the_owners_and_goes_with_the_server() {
    let mut lab = Lab::new();
    lab.serve();
    let metadata = lab.socket().symlink_metadata().unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert!(lab.server.take().unwrap().terminate().success());
    assert!(!lab.socket().exists());
}

#[test]
fn a_stale_socket_is_no_server_and_is_replaced() {
    let mut lab = Lab::new();
    lab.fill(usual);
    lab.serve();
    lab.kill();
    assert!(lab.socket().exists(), "a killed server leaves its socket");
    assert_eq!(lab.names(), ALL);
    lab.serve();
    assert_eq!(lab.names(), ALL);
}

#[test]
fn a_folder_too_deep_for_a_sockets_address_works() {
    let mut lab = Lab::deep(&"deep/".repeat(40));
    lab.fill(usual);
    lab.serve();
    assert!(lab.socket().as_os_str().len() > 107 && lab.socket().exists());
    assert_eq!(lab.names(), ALL);
}

#[test]
fn a_folder_that_is_held_by_somebody_silent_is_an_error() {
    let lab = Lab::new();
    let store = Store::open(&config(&lab.root, SIZE)).unwrap();
    for stale in [false, true] {
        if stale {
            drop(UnixListener::bind(lab.socket()).unwrap());
        }
        let said = lab.say(&["ls"]);
        assert!(said.status == 1 && said.err.contains("does not answer"), "{}", said.err);
    }
    store.close();
    let nowhere = Lab::new();
    let said = nowhere.say(&["ls"]);
    assert!(said.status == 1 && said.err.contains("there is no cache in"), "{}", said.err);
    assert!(!nowhere.root.join("cache").exists(), "a question makes no cache");
}

fn ask(socket: &Path, path: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    let length = body.len();
    let request =
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap(); // in one piece: it may be refused before its end was read
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn what_a_newer_program_asks_is_refused_in_words() {
    let mut lab = Lab::new();
    lab.serve();
    let cases = [
        ("/v2/cache/ls", "{}", "404", "does not know /v2/cache/ls"),
        ("/v1/cache/frobnicate", "{}", "404", "does not know the command frobnicate"),
        ("/v1/cache/ls", r#"{"command":"ls","sort":"size"}"#, "400", "does not understand the command"),
        ("/v1/cache/ls", r#"{"command":"rm","name":"quay.io"}"#, "400", "another command"),
        ("/v1/cache/rm", r#"{"command":"rm"}"#, "200", "needs a name"),
        ("/v1/cache/ls", r#"{"command":"ls"}"#, "200", "\"end\""),
    ];
    for (path, body, status, words) in cases {
        let answer = ask(&lab.socket(), path, body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(words), "{path} {body}: {answer}");
    }
}

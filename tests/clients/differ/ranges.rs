//! Answers to `Range` beside those of nginx, over the same bytes: the same status, the same part, the same bytes.
//!
//! Where RFC 9110 (14.2) leaves a choice, the two may differ, and in nothing else:
//! - nginx answers 416 to a header outside the grammar, or guesses; here it is ignored, and the whole is sent.
//! - Parts that overlap or touch are put in order and merged here. nginx sends them one by one, or the whole where
//!   they add up to more than that.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use crate::chance::Chance;
use crate::lab::{Image, Lab, Process, Shape, command};
use crate::proxy::{Proxy, free};
use crate::raw::{Answer, Connection, Raw};

/// How many headers are compared over each content of the first image once it is in the cache.
const WARM: usize = 700;
/// So many images, each with four blobs, are asked for while they are not in the cache.
const COLD: u64 = 15;

/// nginx over a folder.
struct Nginx {
    connection: Connection,
    folder: std::path::PathBuf,
    _program: Process,
}

impl Nginx {
    fn start(lab: &Lab) -> Self {
        let (dir, address) = (lab.folder("nginx"), free());
        let shown = dir.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {shown}/{kind};"))
            .concat();
        let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
        let config = format!(
            "{user}daemon off;\nworker_processes 1;\npid {shown}/nginx.pid;\nevents {{}}\nhttp {{ access_log off; {temporary}\n\
             keepalive_requests 1000000; server {{ listen {address}; root {shown}; }} }}\n"
        );
        fs::write(dir.join("nginx.conf"), config).unwrap();
        let mut nginx = command("nginx", &dir);
        nginx.arg("-p").arg(&dir).arg("-c").arg(dir.join("nginx.conf")).arg("-e").arg(dir.join("error.log"));
        let mut program = Process::spawn("nginx", &mut nginx, &dir.join("log"));
        program.ready(Duration::from_secs(30), || TcpStream::connect(address).is_ok());
        Self { connection: Connection::plain(address).unwrap(), folder: dir, _program: program }
    }

    fn ask(&mut self, content: &[u8], range: &[u8]) -> Answer {
        let file = self.folder.join("content");
        if fs::read(&file).ok().as_deref() != Some(content) {
            fs::write(&file, content).unwrap();
        }
        // A tab is white space in a list as a space is (RFC 9110, 5.6.3). nginx knows the space alone.
        let range: Vec<u8> = range.iter().map(|byte| if *byte == b'\t' { b' ' } else { *byte }).collect();
        self.connection.whole(&request("/content", "nginx", &range)).unwrap()
    }
}

fn request(path: &str, host: &str, range: &[u8]) -> Vec<u8> {
    [format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nrange: ").as_bytes(), range, b"\r\n\r\n"].concat()
}

/// The parts of an answer: from where, to where, and their bytes. Of a whole answer it is the one.
fn parts(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    let kind = answer.head.header("content-type").unwrap_or_default();
    let Some(boundary) = kind.strip_prefix("multipart/byteranges; boundary=") else {
        return vec![(answer.head.header("content-range").unwrap_or_default().to_owned(), answer.body.clone())];
    };
    let delimiter = format!("--{boundary}\r\n");
    let mut rest = answer.body.strip_prefix(b"\r\n").unwrap_or(&answer.body); // a preamble, which nginx leaves empty
    let mut parts = Vec::new();
    while let Some(part) = rest.strip_prefix(delimiter.as_bytes()) {
        let end = part.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(part[..end].to_vec()).unwrap().to_ascii_lowercase();
        let range = head.lines().find_map(|line| line.strip_prefix("content-range: ")).unwrap().to_owned();
        let (first, last) = range.trim_start_matches("bytes ").split_once('/').unwrap().0.split_once('-').unwrap();
        let length = last.parse::<usize>().unwrap() + 1 - first.parse::<usize>().unwrap();
        let body = &part[end + 4..];
        parts.push((range, body[..length].to_vec()));
        rest = body[length..].strip_prefix(b"\r\n").unwrap();
    }
    assert_eq!(rest, format!("--{boundary}--\r\n").as_bytes(), "how a multipart body ends");
    parts
}

/// What a header asks for by the grammar of RFC 9110 alone: each first and last position, an absent one as none.
fn asked(range: &[u8]) -> Option<Vec<(Option<u64>, Option<u64>)>> {
    let text = std::str::from_utf8(range).ok()?.trim_matches([' ', '\t']); // none of it is the field's value
    let list = text.get(..6).filter(|unit| unit.eq_ignore_ascii_case("bytes=")).and(text.get(6..))?;
    let number = |text: &str| match text {
        "" => Some(None),
        digits => digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| Some(digits.parse().unwrap_or(u64::MAX))),
    };
    let part = |part: &str| {
        let (first, last) = part.trim_matches([' ', '\t']).split_once('-')?;
        let part = (number(first)?, number(last)?);
        (part != (None, None)).then_some(part)
    };
    list.split(',').map(part).collect()
}

/// Whether any two parts overlap or touch, so that they are merged.
fn merges(asked: &[(Option<u64>, Option<u64>)], length: u64) -> bool {
    let mut spans: Vec<(u64, u64)> = asked
        .iter()
        .map(|part| match *part {
            (Some(first), last) => (first, last.map_or(length, |last| last.saturating_add(1).min(length))),
            (None, last) => (length.saturating_sub(last.unwrap_or_default()), length),
        })
        .filter(|span| span.0 < span.1)
        .collect();
    spans.sort_unstable();
    spans.windows(2).any(|pair| pair[1].0 <= pair[0].1)
}

/// Compares two answers; true where they had to be the same.
fn compare(range: &[u8], content: &[u8], nginx: &Answer, ours: &Answer) -> bool {
    let shown = format!("{:?} of {} bytes", String::from_utf8_lossy(range), content.len());
    let whole = vec![(String::new(), content.to_vec())];
    let Some(asked) = asked(range) else {
        assert_eq!((ours.head.status, parts(ours) == whole), (200, true), "{shown}: outside the grammar, so ignored");
        return false;
    };
    if !merges(&asked, content.len() as u64) {
        assert_eq!(ours.head.status, nginx.head.status, "{shown}");
        assert_eq!(ours.head.header("content-range"), nginx.head.header("content-range"), "{shown}");
        assert!(ours.head.status == 416 || parts(ours) == parts(nginx), "{shown}: other parts");
        return true;
    }
    assert_eq!(ours.head.status, 206, "{shown}");
    let covered = |answer: &Answer| {
        let mut covered = vec![false; content.len()];
        for (range, bytes) in parts(answer) {
            let from = range.trim_start_matches("bytes ").split('-').next().unwrap().parse().unwrap_or(0);
            assert!(content[from..].starts_with(&bytes), "{shown}: {range} has other bytes");
            covered[from..from + bytes.len()].fill(true);
        }
        covered
    };
    let sent: usize = parts(ours).iter().map(|part| part.1.len()).sum();
    let ours = covered(ours);
    assert_eq!(sent, ours.iter().filter(|covered| **covered).count(), "{shown}: nothing twice");
    // Where nginx sends the whole, it says nothing about the parts.
    assert!(nginx.head.status == 200 || ours == covered(nginx), "{shown}: other bytes are sent");
    false
}

/// A header: mostly of the grammar, its numbers in and around a content of so many bytes.
fn header(length: u64, chance: &mut Chance) -> Vec<u8> {
    let number = |chance: &mut Chance| match chance.below(12) {
        0 => 0,
        1 => length - 1,
        2 => length,
        3 => length + 1,
        4 => chance.below(10),
        5 => 100_000_000_000_000_000, // nginx refuses a header with a number beyond its off_t
        _ => chance.below(length),
    };
    let count = [1, 1, 1, 1, 2, 4][chance.below(6) as usize];
    let list: Vec<String> = (0..count)
        .map(|_| match chance.below(6) {
            0 => format!("{}-", number(chance)),
            1 => format!("-{}", number(chance)),
            2 => format!("{}-{}", number(chance), number(chance)),
            _ => {
                let first = chance.below(length);
                format!("{first}-{}", first + chance.below(length / 4 + 1))
            }
        })
        .collect();
    let between = chance.pick(&[",", ",", ", ", " , ", ",\t"]);
    let unit =
        chance.pick(&["bytes=", "bytes=", "bytes=", "bytes=", "Bytes=", "BYTES=", "items=", "bytes =", "bytes= "]);
    let mut header = format!("{unit}{}", list.join(between)).into_bytes();
    if chance.below(8) == 0 {
        let at = chance.below(header.len() as u64 + 1) as usize;
        let odd: [&[u8]; 12] = [b" ", b",", b"-", b"x", b"=", b"+", b"0", b"\xe9", b";", b"--", b"0x", b",,"];
        header = [&header[..at], chance.pick(&odd), &header[at..]].concat();
    }
    header
}

#[test]
fn ranges_are_answered_as_nginx_answers_them() {
    let lab = Lab::new();
    let proxy = Proxy::start(&lab);
    let mut nginx = Nginx::start(&lab);
    let mut chance = Chance::new(21);
    let images: Vec<Image> = (0..COLD)
        .map(|seed| lab.publish(&[&format!("quay.io/lab/app:{seed}")], Shape::Single, 100 + seed, 40_000))
        .collect();
    let raw = Raw::new(proxy.listen, &proxy.ca_file());
    let mut ours = raw.tunnel(None, "quay.io:443", false).unwrap();
    let mut check = |kind: &str, image: &Image, digest: &str, times: usize| {
        let (content, path) = (image.content(digest), format!("/v2/lab/app/{kind}/{digest}"));
        let same = |range: Vec<u8>| {
            let answer = ours.whole(&request(&path, "quay.io", &range)).unwrap();
            compare(&range, &content, &nginx.ask(&content, &range), &answer)
        };
        let headers = (0..times).map(|_| header(content.len() as u64, &mut chance));
        headers.map(same).filter(|same| *same).count()
    };
    let mut same = 0;
    for image in &images {
        for digest in image.parts().blobs {
            same += check("blobs", image, &digest, 1); // on its way
        }
    }
    for digest in images[0].parts().blobs {
        same += check("blobs", &images[0], &digest, WARM); // in the store
    }
    same += check("manifests", &images[0], &images[0].digest, WARM); // in memory
    let compared = images.len() * 4 + 5 * WARM;
    println!("{compared} headers were compared, {same} of them had to be answered in the same way");
    assert!(same >= 1_500, "{same} of {compared}");
}

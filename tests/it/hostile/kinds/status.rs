//! Answers of every status, whatever was asked.

use super::{Attack, Kind};
use crate::hostile::honest::{Answer, part};
use crate::hostile::steps::Step;

/// With an error's body, as a registry has it, and nothing else.
const ERRORS: &[u16] = &[
    400, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 415, 416, 417, 418, 421, 422, 425, 426, 429, 431,
    451, 500, 501, 502, 503, 504, 505,
];
const RARE: &[u16] = &[511, 599, 999];
const SPECIAL: &[(&str, fn(&Attack) -> Vec<Step>)] = &[
    ("100 twenty times", |attack| attack.after(&b"HTTP/1.1 100 Continue\r\n\r\n".repeat(20))),
    ("100 endless", |_| vec![Step::Flood(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())]),
    ("101", |_| {
        vec![Step::Say(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".to_vec())]
    }),
    ("103 then good", |attack| attack.after(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")),
    ("200 empty", |attack| attack.say(&Answer::new(200, "", ""))),
    ("203", |attack| attack.say(&Answer { status: 203, ..attack.honest.clone() })),
    ("204", |attack| attack.say(&Answer::new(204, "", ""))),
    ("205", |attack| attack.say(&Answer::new(205, "", ""))),
    ("206 unasked", |attack| {
        let half = attack.honest.body.len() / 2;
        let answer = if attack.asked.range.is_some() {
            attack.honest.clone()
        } else {
            part(attack.honest.clone(), 0, Some(half))
        };
        attack.say(&answer)
    }),
    ("207", |attack| attack.say(&Answer { status: 207, ..attack.honest.clone() })),
    ("300", |attack| attack.say(&Answer::new(300, "text/plain", "several {host}").with("location", "/v2/"))),
    ("304 unasked", |attack| attack.say(&Answer::new(304, "", ""))),
    ("304 with digest", |attack| attack.say(&Answer { status: 304, body: Vec::new(), ..attack.honest.clone() })),
    ("306", |attack| attack.say(&Answer::new(306, "", ""))),
    ("401 no challenge", |attack| attack.say(&error(401))),
    ("401 garbage", |attack| attack.say(&error(401).with("www-authenticate", "\"=,,Bearer realm"))),
    ("401 Negotiate", |attack| attack.say(&error(401).with("www-authenticate", "Negotiate"))),
    ("401 Basic", |attack| attack.say(&error(401).with("www-authenticate", "Basic realm=\"lab\""))),
    ("403 html", |attack| attack.say(&html(403))),
    ("404 html", |attack| attack.say(&html(404))),
    ("429 later", |attack| attack.say(&error(429).with("retry-after", "30"))),
    ("500 html", |attack| attack.say(&html(500))),
    ("503 later", |attack| attack.say(&error(503).with("retry-after", "30"))),
    ("000", |_| vec![Step::Say(b"HTTP/1.1 000 Zero\r\ncontent-length: 0\r\n\r\n".to_vec())]),
];

fn error(status: u16) -> Answer {
    Answer::error(status, "UNKNOWN")
}

fn html(status: u16) -> Answer {
    Answer::new(status, "text/html", "<html>no {host}</html>")
}

pub(in crate::hostile) fn status() -> Vec<Kind> {
    let plain = ERRORS.iter().chain(RARE).map(|&status| {
        let name: &'static str = Box::leak(status.to_string().into_boxed_str());
        Kind::new(name, move |attack| attack.say(&error(status)))
    });
    Kind::all(SPECIAL).into_iter().chain(plain).collect()
}

//! Redirects to where nobody should go, or for ever.

use std::net::SocketAddr;

use super::{Attack, Kind};
use crate::hostile::elsewhere;
use crate::hostile::honest::Answer;
use crate::hostile::steps::Step;

/// `inside` is an address of this machine where somebody listens whom nobody may be led to.
pub(in crate::hostile) fn redirects(inside: SocketAddr) -> Vec<Kind> {
    let port = inside.port();
    let to = |name, location: String| Kind::new(name, move |attack| redirect(attack, 307, &location));
    let mut kinds = Kind::all(&[]);
    kinds.extend([
        to("to itself for ever", "{path}".to_owned()),
        to("to http", format!("http://{}{{path}}", elsewhere::cdn())),
        to("to http on the same host", "http://{host}{path}".to_owned()),
        to("to 127.0.0.1", format!("https://127.0.0.1:{port}{{path}}")),
        to("to a number for 127.0.0.1", format!("https://2130706433:{port}{{path}}")),
        to("to 127.0.0.1 in IPv6", format!("https://[::ffff:127.0.0.1]:{port}{{path}}")),
        to("to 0.0.0.0", format!("https://0.0.0.0:{port}{{path}}")),
        to("to the metadata service", "https://169.254.169.254/latest/meta-data/".to_owned()),
        to("to localhost", format!("https://localhost:{port}{{path}}")),
        to("to a name for 127.0.0.1", format!("https://inside.example:{port}{{path}}")),
        to("to another port of its own", "https://{host}:1{path}".to_owned()),
        to("to a file", "file:///etc/passwd".to_owned()),
        to("to a script", "javascript:alert(1)".to_owned()),
        to("with a user", format!("https://user:secret@{}/{{host}}{{path}}", elsewhere::cdn())),
        to("to nowhere", "https://".to_owned()),
        to("with a line's end", format!("https://{}/%0d%0ax-field:%20x", elsewhere::login())),
        to("to a login page", format!("https://{}/{{host}}{{path}}", elsewhere::login())),
        to("to content elsewhere", format!("https://{}/{{host}}{{path}}", elsewhere::cdn())),
        to("to content without a scheme", format!("//{}/{{host}}{{path}}", elsewhere::cdn())),
        Kind::new("without a location", |attack| attack.say(&Answer::new(307, "", ""))),
        Kind::new("to two locations", |attack| {
            let mut twice = Answer::new(307, "", "").with("location", format!("https://{}/two", elsewhere::login()));
            twice.headers.push(("location".to_owned(), format!("https://{}/", elsewhere::cdn())));
            attack.say(&twice)
        }),
        Kind::new("once, relative", |attack| {
            if attack.asked.path.starts_with("/moved/") {
                let path = attack.asked.path.trim_start_matches("/moved").to_owned();
                let asked = crate::hostile::honest::Asked { path, ..attack.asked.clone() };
                return attack.say(&crate::hostile::honest::public(&attack.site.things, &asked));
            }
            redirect(attack, 307, "/moved{path}")
        }),
        Kind::new("ever further", |attack| redirect(attack, 307, "{path}x")),
        Kind::new("with an endless body", |attack| {
            let (login, host) = (elsewhere::login(), &attack.site.host);
            let head = format!("HTTP/1.1 307 Said\r\nlocation: https://{login}/{host}/endless\r\n\r\n");
            vec![Step::Say(head.into_bytes()), Step::Flood(b"x".repeat(16 << 10))]
        }),
    ]);
    for status in [300, 301, 302, 303, 304, 305, 308] {
        let name: &'static str = Box::leak(format!("{status} to content elsewhere").into_boxed_str());
        kinds.push(Kind::new(name, move |attack| {
            redirect(attack, status, &format!("https://{}/{{host}}{{path}}", elsewhere::cdn()))
        }));
    }
    kinds
}

fn redirect(attack: &Attack, status: u16, location: &str) -> Vec<Step> {
    let location = location.replace("{path}", &attack.asked.path).replace("{host}", &attack.asked.host);
    attack.say(&Answer::new(status, "", "").with("location", location))
}

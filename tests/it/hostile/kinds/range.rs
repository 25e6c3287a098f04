//! Parts that are not those that were asked for. Whoever asks for a whole blob gets half of it and no more, and nobody is
//! answered by HEAD, so that parts are asked for.

use super::Attack;
use crate::hostile::honest::{Answer, Asked, part, public};
use crate::hostile::steps::Step;

pub(in crate::hostile) const RANGES: &[(&str, fn(&Attack) -> Vec<Step>)] = &[
    ("as asked", |attack| parted(attack, part)),
    ("from the start", |attack| parted(attack, |whole, from, to| part(whole, 0, to.map(|to| to - from)))),
    ("begins earlier", |attack| parted(attack, |whole, from, to| part(whole, from.saturating_sub(1), to))),
    ("begins later", |attack| parted(attack, |whole, from, to| part(whole, from + 1, to))),
    ("ends later", |attack| parted(attack, |whole, from, to| part(whole, from, to.map(|to| to + 1)))),
    ("half of what is asked for", |attack| {
        parted(attack, |whole, from, to| {
            let end = to.map_or(whole.body.len(), |to| to + 1);
            part(whole, from, Some(from + (end - from) / 2))
        })
    }),
    ("another part under the name of this", |attack| {
        parted(attack, |whole, from, to| {
            let right = part(whole.clone(), from, to);
            Answer { body: whole.body[..right.body.len()].to_vec(), ..right }
        })
    }),
    ("shorter than it says", |attack| {
        parted(attack, |whole, from, to| {
            let right = part(whole, from, to);
            Answer { body: right.body[..right.body.len() / 2].to_vec(), ..right }
        })
    }),
    ("no Content-Range", |attack| parted(attack, |whole, from, to| part(whole, from, to).without("content-range"))),
    ("bad Content-Range", |attack| {
        parted(attack, |whole, from, to| part(whole, from, to).with("content-range", "bytes five-nine/many"))
    }),
    ("no total", |attack| {
        parted(attack, |whole, from, to| {
            let right = part(whole, from, to);
            let said = format!("bytes {from}-{}/*", from + right.body.len() - 1);
            right.with("content-range", said)
        })
    }),
    ("another total", |attack| {
        parted(attack, |whole, from, to| {
            let right = part(whole, from, to);
            let said = format!("bytes {from}-{}/99999999999999", from + right.body.len() - 1);
            right.with("content-range", said)
        })
    }),
    ("the total is less", |attack| {
        parted(attack, |whole, from, to| {
            let right = part(whole, from, to);
            let said = format!("bytes {from}-{}/{from}", from + right.body.len() - 1);
            right.with("content-range", said)
        })
    }),
    ("the whole to a range", |attack| parted(attack, |whole, _, _| whole)),
    ("a page to a range", |attack| parted(attack, |_, _, _| Answer::new(206, "text/html", "<html>no {host}</html>"))),
    ("416", |attack| {
        parted(attack, |whole, _, _| {
            Answer::error(416, "RANGE_INVALID").with("content-range", format!("bytes */{}", whole.body.len()))
        })
    }),
    ("416 of nothing", |attack| {
        parted(attack, |_, _, _| Answer::error(416, "RANGE_INVALID").with("content-range", "bytes */0"))
    }),
    ("several parts", |attack| {
        parted(attack, |whole, from, to| {
            let right = part(whole, from, to);
            let mut body =
                format!("\r\n--x\r\ncontent-range: bytes {from}-{}/40000\r\n\r\n", from + right.body.len() - 1);
            body.push_str(&String::from_utf8_lossy(&right.body));
            body.push_str("\r\n--x--\r\n");
            Answer::new(206, "multipart/byteranges; boundary=x", body)
        })
    }),
    ("a part of much to everything", |attack| {
        let body = attack.honest.body.iter().copied().cycle().take(5000).collect::<Vec<_>>();
        let huge = Answer { status: 206, body, ..attack.honest.clone() };
        attack.say(&huge.with("content-range", "bytes 0-4999/99999999999999"))
    }),
    ("the whole as a part of itself", |attack| {
        if attack.asked.range.is_some() {
            return attack.say(&attack.honest);
        }
        attack.say(&part(attack.honest.clone(), 0, None))
    }),
    ("200 with a Content-Range", |attack| {
        let half = attack.honest.body.len() / 2;
        let wrong = Answer { status: 200, ..part(attack.honest.clone(), 0, Some(half)) };
        attack.say(&wrong)
    }),
];

/// Another answer to who asks for a part of a blob, made of the whole, and from where to where it was asked for.
fn parted(attack: &Attack, wrong: impl Fn(Answer, usize, Option<usize>) -> Answer) -> Vec<Step> {
    let asked = attack.asked;
    if !asked.path.contains("/blobs/sha256:") {
        return attack.say(&attack.honest);
    }
    if asked.is_head() {
        return attack.say(&Answer::error(405, "UNSUPPORTED"));
    }
    let whole = public(&attack.site.things, &Asked { range: None, ..asked.clone() });
    match asked.span() {
        Some((from, to)) => attack.say(&wrong(whole, from, to)),
        None => {
            let mut half = whole.message(asked);
            half.truncate(half.len() - whole.body.len() / 2);
            vec![Step::Say(half), Step::Close]
        }
    }
}

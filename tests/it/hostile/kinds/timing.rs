//! Answers that come late, slowly, or break off.

use std::time::Duration;

use super::Attack;
use crate::hostile::steps::Step;

pub(in crate::hostile) const TIMING: &[(&str, fn(&Attack) -> Vec<Step>)] = &[
    ("silence", |_| vec![Step::Hang]),
    ("half a head, then silence", |_| vec![Step::Say(b"HTTP/1.1 200 OK\r\ncontent-".to_vec()), Step::Hang]),
    ("head, then silence", |attack| vec![Step::Say(head(attack)), Step::Hang]),
    ("half a body, then silence", |attack| once(attack, |attack| cut(attack, Step::Hang))),
    ("all but the last byte, then silence", |attack| {
        once(attack, |attack| {
            let mut message = attack.honest.message(attack.asked);
            message.truncate(message.len() - body(attack).min(1));
            vec![Step::Say(message), Step::Hang]
        })
    }),
    ("a head that trickles", |attack| {
        vec![Step::Drip(attack.honest.message(attack.asked), Duration::from_millis(200)), Step::Hang]
    }),
    ("a body that trickles", |attack| {
        once(attack, |attack| {
            let body = if attack.asked.is_head() { Vec::new() } else { attack.honest.body.clone() };
            vec![Step::Say(head(attack)), Step::Drip(body, Duration::from_millis(200)), Step::Hang]
        })
    }),
    ("reset", |_| vec![Step::Reset]),
    ("reset after the head", |attack| vec![Step::Say(head(attack)), Step::Reset]),
    ("reset in the body", |attack| once(attack, |attack| cut(attack, Step::Reset))),
    ("cut in the body", |attack| once(attack, |attack| cut(attack, Step::Close))),
    ("cut in every body", |attack| cut(attack, Step::Close)),
];

/// To whoever asks for the whole; whoever asks for the rest gets it.
fn once(attack: &Attack, act: impl Fn(&Attack) -> Vec<Step>) -> Vec<Step> {
    if attack.asked.range.is_some() { attack.say(&attack.honest) } else { act(attack) }
}

/// Half of a body, and then this.
fn cut(attack: &Attack, end: Step) -> Vec<Step> {
    let mut message = attack.honest.message(attack.asked);
    message.truncate(message.len() - body(attack) / 2);
    vec![Step::Say(message), end]
}

fn body(attack: &Attack) -> usize {
    if attack.asked.is_head() { 0 } else { attack.honest.body.len() }
}

fn head(attack: &Attack) -> Vec<u8> {
    format!("{}content-length: {}\r\n\r\n", attack.honest.head(), attack.honest.body.len()).into_bytes()
}

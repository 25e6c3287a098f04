//! Every kind of hostile answer, by family.

mod framing;
mod http2;
mod range;
mod redirect;
mod status;
mod timing;
mod types;

use std::fmt;
use std::sync::Arc;

use super::frames::Frame;
use super::honest::{Answer, Asked};
use super::site::Site;
use super::steps::Step;

pub(super) use framing::FRAMING;
pub(super) use http2::HTTP2;
pub(super) use range::RANGES;
pub(super) use redirect::redirects;
pub(super) use status::status;
pub(super) use timing::TIMING;
pub(super) use types::TYPES;

/// A request under attack, and what an honest registry would answer.
pub(super) struct Attack<'a> {
    pub(super) site: &'a Site,
    pub(super) asked: &'a Asked,
    pub(super) honest: Answer,
}

/// One kind of answer.
#[derive(Clone)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    act: Act,
}

#[derive(Clone)]
enum Act {
    /// The bytes of an answer.
    Http1(Arc<dyn Fn(&Attack) -> Vec<Step> + Send + Sync>),
    /// What becomes of each frame of an honest answer, by its place among them. Where a kind begins with `once`, whoever
    /// asks for a part is left alone.
    Http2(fn(&Frame, usize) -> Vec<Step>),
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Kind {
    pub(super) fn new(name: &'static str, act: impl Fn(&Attack) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self { name, act: Act::Http1(Arc::new(act)) }
    }

    /// An honest one, for comparison, and those of a list.
    pub(super) fn all(list: &[(&'static str, fn(&Attack) -> Vec<Step>)]) -> Vec<Self> {
        let honest = Self::new("honest", |attack| attack.say(&attack.honest));
        std::iter::once(honest).chain(list.iter().map(|(name, act)| Self::new(name, *act))).collect()
    }

    pub(super) fn all_frames(list: &[(&'static str, fn(&Frame, usize) -> Vec<Step>)]) -> Vec<Self> {
        list.iter().map(|(name, act)| Self { name, act: Act::Http2(*act) }).collect()
    }

    pub(super) fn steps(&self, site: &Site, asked: &Asked, honest: Answer) -> Vec<Step> {
        match &self.act {
            Act::Http1(act) => act(&Attack { site, asked, honest }),
            Act::Http2(_) => vec![Step::Close],
        }
    }

    pub(super) fn tamper(&self, frame: &Frame, place: usize, is_part: bool) -> Vec<Step> {
        match &self.act {
            Act::Http2(_) if is_part && self.name.starts_with("once, ") => vec![Step::Say(frame.bytes())],
            Act::Http1(_) => vec![Step::Close],
            Act::Http2(act) => act(frame, place),
        }
    }
}

impl Attack<'_> {
    /// The honest answer with something before it.
    fn after(&self, bytes: &[u8]) -> Vec<Step> {
        let mut all = bytes.to_vec();
        all.extend(self.honest.message(self.asked));
        vec![Step::Say(all)]
    }

    /// An answer as it is, with `{host}` in its body replaced, so that no two cells send the same.
    fn say(&self, answer: &Answer) -> Vec<Step> {
        let body = match std::str::from_utf8(&answer.body) {
            Ok(text) if text.contains("{host}") => text.replace("{host}", &self.site.host).into_bytes(),
            _ => answer.body.clone(),
        };
        if body.len() < 1 << 20 {
            self.site.say(&body); // what is longer knows its digest already, or is not stored
        }
        vec![Step::Say(Answer { body, ..answer.clone() }.message(self.asked))]
    }

    /// These fields between the honest answer's head and `body`, which only an answer with a body has.
    fn framed(&self, fields: &str, body: impl Into<Vec<u8>>) -> Vec<u8> {
        let mut message = format!("{}{fields}\r\n", self.honest.head()).into_bytes();
        if !self.asked.is_head() {
            message.extend(body.into());
        }
        message
    }
}

//! Passes the answer to a request for a token on unaltered, and remembers whose token it is.

use http::header::CONTENT_LENGTH;
use http::{Response, StatusCode};

use crate::oci::Authority;
use crate::proxy::served::ServedAnswer;
use crate::proxy::state::Proxy;
use crate::proxy::tokens::bearers::TokenBinding;
use crate::wire::{Ahead, Body};

/// No answer with a token is longer; a longer one passes unread.
const ANSWER_LIMIT: usize = 256 << 10;

/// The answer of a token service.
pub(crate) enum Heard {
    /// Any answer, passed on.
    Answer(ServedAnswer),
    /// A 200 that broke off or has no token in it, to a request for one: the service does not work.
    NoToken(ServedAnswer),
}

impl Heard {
    /// The answer as it came.
    pub(crate) fn answer(self) -> ServedAnswer {
        let (Self::Answer(answer) | Self::NoToken(answer)) = self;
        answer
    }
}

/// Notes the tokens that `issuer` answered to `binding`.
pub(crate) async fn heard(
    proxy: &Proxy,
    issuer: &Authority,
    binding: Option<TokenBinding>,
    answer: ServedAnswer,
) -> Heard {
    let (binding, response) = match (binding, answer) {
        (Some(binding), ServedAnswer::Message(response)) if response.status() == StatusCode::OK => (binding, response),
        (_, answer) => return Heard::Answer(answer),
    };
    let (mut parts, body) = response.into_parts();
    match Ahead::read(body, ANSWER_LIMIT).await {
        Ahead::Whole(bytes) => {
            let has_token = proxy.bearers.bind(&proxy.cache, issuer, &binding, &bytes);
            parts.headers.remove(CONTENT_LENGTH); // the body that was read says it
            let answer = Response::from_parts(parts, Body::full(bytes)).into();
            if has_token { Heard::Answer(answer) } else { Heard::NoToken(answer) }
        }
        Ahead::Long(body) => Heard::Answer(Response::from_parts(parts, body).into()),
        Ahead::Broken(body) => Heard::NoToken(Response::from_parts(parts, body).into()),
    }
}

//! Writes a list of tags for a mirror's client: its `name` is the repository as the client calls it. Nothing else changes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, BodyStream, StreamBody};

use super::place::AskedPlace;
use crate::oci::Route;
use crate::proxy::respond::{self, Rendered};
use crate::wire::{Body, BodyError};

/// A longer list keeps its name.
const LIMIT: usize = 1 << 20;
const READ: Duration = Duration::from_secs(30);

#[derive(serde::Deserialize)]
struct Tags<'a> {
    /// As it is written in the text. One with an escape is no repository.
    #[serde(borrow)]
    name: &'a str,
}

/// The list with the client's name for its repository.
pub(crate) async fn named(rendered: Rendered, place: &AskedPlace<'_>, method: &Method) -> Rendered {
    let (Route::Tags(own), Some(written)) = (place.route, place.naming.repository.as_deref()) else { return rendered };
    let is_list = *method == Method::GET && rendered.response.status() == StatusCode::OK;
    if !is_list || own.as_str() == written || !may_be_short(&rendered.response) {
        return rendered;
    }
    let Rendered { response, .. } = rendered;
    let (mut parts, body) = response.into_parts();
    let body = match tokio::time::timeout(READ, beginning(body)).await {
        Ok(Ok(Beginning::Whole(bytes))) => {
            let bytes = renamed(&bytes, written).map_or(bytes, Bytes::from);
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
            Body::full(bytes)
        }
        Ok(Ok(Beginning::Long(body))) => body,
        Ok(Err(_)) | Err(_) => return respond::no_answer().render(),
    };
    Rendered { response: Response::from_parts(parts, body), ..rendered }
}

/// As much of a list as is read here.
enum Beginning {
    Whole(Bytes),
    /// More than that: the same body.
    Long(Body),
}

async fn beginning(mut body: Body) -> Result<Beginning, BodyError> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        read.extend_from_slice(&data);
        if read.len() > LIMIT {
            let ahead = futures_util::stream::once(std::future::ready(Ok(Frame::data(read.freeze()))));
            return Ok(Beginning::Long(Body::wrap(StreamBody::new(ahead.chain(BodyStream::new(body))))));
        }
    }
    Ok(Beginning::Whole(read.freeze()))
}

fn may_be_short(response: &Response<Body>) -> bool {
    let said = || response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    let length = response.body().size_hint().exact().or_else(said);
    length.is_none_or(|length| length <= LIMIT as u64) && !response.headers().contains_key(CONTENT_ENCODING)
}

/// The same text with another name in it.
fn renamed(text: &[u8], written: &str) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let Tags { name } = serde_json::from_str(text).ok()?;
    let at = (name.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let (before, after) = (text.get(..at)?, text.get(at + name.len()..)?);
    Some([before, written, after].concat().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_list_that_is_too_long_passes_as_it_is() {
        let pieces = |count: usize| {
            let frames = (0..count).map(|_| Ok::<_, BodyError>(Frame::data(Bytes::from(vec![b'x'; 1 << 10]))));
            Body::wrap(StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>())))
        };
        let Ok(Beginning::Whole(whole)) = beginning(pieces(1024)).await else { panic!("it is no longer than that") };
        assert_eq!(whole.len(), LIMIT);
        let Ok(Beginning::Long(body)) = beginning(pieces(3000)).await else { panic!("it is longer") };
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 3000 << 10);
    }

    #[test]
    fn only_the_name_of_a_list_is_another_one() {
        let table = [
            (
                r#"{"name":"org/app","tags":["name","org/app"]}"#,
                Some(r#"{"name":"q/org/app","tags":["name","org/app"]}"#),
            ),
            (
                "{ \"tags\" : null,\n\"name\": \"x\" , \"a\": {\"name\": 1}}\n",
                Some("{ \"tags\" : null,\n\"name\": \"q/org/app\" , \"a\": {\"name\": 1}}\n"),
            ),
            (r#"{"name":"org\/app","tags":[]}"#, None),
            (r#"{"name":null,"tags":[]}"#, None),
            (r#"{"tags":["a"]}"#, None),
            ("[]", None),
            ("", None),
        ];
        for (text, expected) in table {
            let told = renamed(text.as_bytes(), "q/org/app");
            assert_eq!(told.as_deref(), expected.map(str::as_bytes), "{text}");
        }
    }
}

//! Requests of HTTP/2 that are refused before their bodies are read: the answer comes whole, and no error behind it.

use super::http2::{DATA, Door, END_HEADERS, END_STREAM, HEADERS, block, frame};
use super::site::Site;

/// A push that is refused, with a body of so many bytes in frames, and its end if it `ends`.
fn push(stream: u32, length: usize, ends: bool) -> Vec<u8> {
    let fields = Door::Inside.pseudo("POST", "/v2/open/app/blobs/uploads/");
    let mut bytes = frame(HEADERS, END_HEADERS, stream, &block(&fields));
    let body = vec![0; length];
    let mut pieces = body.chunks(16 << 10).peekable();
    while let Some(piece) = pieces.next() {
        let flags = if ends && pieces.peek().is_none() { END_STREAM } else { 0 };
        bytes.extend(frame(DATA, flags, stream, piece));
    }
    bytes
}

#[tokio::test]
async fn a_push_that_is_refused_has_its_answer_whole_whatever_is_left_of_its_body() {
    let site = Site::new("push: deny").await;
    let before = site.reached();
    let mut connection = Door::Inside.open(&site).await;
    let bodies = [(1, true), (10_000, true), (65_535, true), (100, false)];
    for (at, (length, ends)) in (0..).zip((0..5).flat_map(|_| bodies)) {
        let stream = 2 * at + 1;
        connection.write(&push(stream, length, ends)).await;
        assert_eq!(connection.outcome(stream).await, "405", "{length} bytes, {ends}");
    }
    assert_eq!(site.reached(), before, "nothing of it goes upstream");
    // What was read is no error behind the answer either, and the connection goes on.
    connection.write(&Door::Inside.request(1001, &[])).await;
    assert_eq!(connection.outcome(1001).await, "200");
    assert_eq!(connection.hearing.resets, [], "in which a client may see no answer");
    let endless: Vec<_> = (0..20).filter(|at| at % 4 == 3).map(|at| (2 * at + 1, "NO_ERROR")).collect();
    for (stream, _) in &endless {
        assert_eq!(connection.outcome(*stream).await, "rst NO_ERROR", "what does not end, after a while");
    }
    assert_eq!(connection.hearing.resets, endless);
}

//! HTTP/2: thousands of frames that cost the sender little. The connection ends or is served on; nobody else notices.

use super::http2::{
    CONTINUATION, DATA, Door, END_HEADERS, END_STREAM, HEADERS, HONEST, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame,
};
use super::site::Site;
use super::table::Observed;

/// A kind's name, and its bytes.
type Kind = (&'static str, fn(Door) -> Vec<u8>);

/// The odd streams, each with what `bytes` says of it.
fn streams(count: u32, bytes: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(|number| bytes(2 * number + 1)).collect()
}

/// A question that the cache answers.
fn cached(door: Door, flags: u8, stream: u32) -> Vec<u8> {
    frame(HEADERS, flags, stream, &block(&door.pseudo("HEAD", door.cached())))
}

const KINDS: &[Kind] = &[
    ("20,000 PINGs", |_| frame(PING, 0, 0, &[7; 8]).repeat(20_000)),
    ("20,000 SETTINGS", |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0x40, 0]).repeat(20_000)),
    ("20,000 PRIORITYs", |_| streams(20_000, |stream| frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 1]))),
    ("20,000 WINDOW_UPDATEs", |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(20_000)),
    ("20,000 frames of an unknown type", |_| frame(0x77, 0, 0, &[]).repeat(20_000)),
    ("20,000 empty DATA frames", |d| {
        [cached(d, END_HEADERS, 1), frame(DATA, 0, 1, &[]).repeat(20_000), frame(DATA, END_STREAM, 1, &[])].concat()
    }),
    ("20,000 empty CONTINUATIONs", |d| {
        let head = frame(HEADERS, END_STREAM, 1, &block(&d.pseudo("HEAD", d.cached())));
        [head, frame(CONTINUATION, 0, 1, &[]).repeat(20_000), frame(CONTINUATION, END_HEADERS, 1, &[])].concat()
    }),
    ("CONTINUATIONs of 20 MB", |d| {
        let head = frame(HEADERS, END_STREAM, 1, &block(&d.pseudo("HEAD", d.cached())));
        let fields = block(&[("x-field", "x".repeat(15_000).as_str())]);
        [head, frame(CONTINUATION, 0, 1, &fields).repeat(1_400), frame(CONTINUATION, END_HEADERS, 1, &[])].concat()
    }),
    ("5,000 requests that are reset at once", |d| {
        streams(5_000, |stream| {
            [cached(d, END_HEADERS | END_STREAM, stream), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
        })
    }),
    ("5,000 requests that the peer has to reset", |d| {
        streams(5_000, |stream| [cached(d, END_HEADERS, stream), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat())
    }),
    ("5,000 malformed requests", |d| {
        streams(5_000, |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[(":path", d.cached())])))
    }),
    ("1,000 requests at once", |d| streams(1_000, |stream| cached(d, END_HEADERS | END_STREAM, stream))),
];

/// What becomes of an honest request behind the flood, while all that comes is read.
async fn behind(door: Door, site: &Site, flood: &[u8]) -> String {
    let before = site.reached();
    let mut connection = door.open(site).await;
    let honest = door.request(HONEST, &[]);
    let (hearing, write) = (&mut connection.hearing, &mut connection.write);
    let writing = async {
        use tokio::io::AsyncWriteExt;
        let _ = write.write_all(flood).await; // the peer may end it
        let _ = write.write_all(&honest).await;
        let _ = write.flush().await;
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = hearing.outcome(HONEST) => outcome,
        () = writing => unreachable!("it waits"),
    };
    let reached = site.reached() - before;
    assert_eq!(reached, usize::from(door == Door::Inside && outcome == "200"), "{outcome}");
    outcome
}

#[tokio::test]
async fn floods_end_their_connection_or_cost_nothing() {
    let site = Site::new("").await;
    let mut observed = Observed::at(Door::ALL.map(Door::name).to_vec());
    for (name, write) in KINDS {
        let mut cells = Vec::new();
        for door in Door::ALL {
            let flood = write(door);
            // Somebody honest pulls meanwhile.
            let (cell, ()) = tokio::join!(behind(door, &site, &flood), site.is_well(name));
            cells.push(cell);
        }
        observed.row(name, cells);
        site.is_well(name).await;
    }
    observed.compare(include_str!("floods.txt"));
}

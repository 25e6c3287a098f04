//! A registry, its token service and its CDN that refuse, hang, are slow, cut, lie, or have no room for us.

use std::time::Duration;

use futures_util::future::join_all;

use super::net::{Net, digests, page};
use crate::support::{Act, Dice, Line, Log, Registry, until};

/// What is done to a part.
#[derive(Clone, Debug)]
enum Way {
    /// Its port is closed.
    Refuse,
    /// It accepts connections and says nothing.
    Hang,
    /// It does this to what matches.
    Script(&'static str, Act),
    /// It does this the first so many times.
    Times(usize, Act),
}

/// What a pull of an image that nobody has pulled yet comes to while the fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cold {
    Pulls,
    /// It ends with one of these; 0 is an answer that breaks off.
    Fails(&'static [u16]),
}

/// A fault, and what pulls come to.
struct Fault {
    what: &'static str,
    way: Way,
    /// Of what is cached, for a client that has to be let in by what this part says.
    warm: Result<(), u16>,
    cold: Cold,
}

fn fault(what: &'static str, way: Way, cold: Cold) -> Fault {
    Fault { what, way, warm: Ok(()), cold }
}

fn json(body: &str) -> Act {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Act::Answer { status: 200, headers, body: body.to_owned() }
}

/// A moment that is long for an answer, and no silence.
const LATE: Act = Act::Delay(Duration::from_millis(300));
/// One for each content that is given up, and what is said of the part.
const WARNINGS: usize = 10;
/// How often an image's four contents are asked for at most in two pulls (docs/threat-model.md, "Upstreams").
const DOWNLOADS: usize = 2 * 4 * 24;

impl Way {
    fn begin(&self, part: &mut Registry) -> Option<Line> {
        match self {
            Self::Refuse => part.stop(),
            Self::Hang => {
                part.stop(); // connections that are open already would go on
                part.hang(true);
                part.start_again();
            }
            Self::Script(pattern, act) => return Some(part.script(pattern, act.clone())),
            Self::Times(times, act) => return Some(part.script_times(*times, "*", act.clone())),
        }
        None
    }

    fn end(&self, part: &mut Registry, line: Option<Line>) {
        match self {
            Self::Refuse => part.start_again(),
            Self::Hang => {
                part.stop();
                part.hang(false);
                part.start_again();
            }
            Self::Script(..) | Self::Times(..) => line.into_iter().for_each(|line| part.unscript(line)),
        }
    }
}

/// Plays each fault on a registry of its own, all at the same time.
async fn suffer(part: fn(&mut Net) -> &mut Registry, faults: Vec<Fault>) {
    let log = Log::begin();
    let played = faults.into_iter().enumerate().map(|(number, Fault { what, way, warm, cold })| {
        let log = &log;
        async move {
            let mut net = Net::start(number).await;
            [&net.registry, &net.auth, &net.cdn].into_iter().for_each(Registry::forget);
            let line = way.begin(part(&mut net));
            for _ in 0..2 {
                let pulled = net.pull_warm().await;
                let came = pulled.as_ref().map(drop).map_err(|failed| failed.status);
                assert_eq!(came, warm, "{what}: what is cached: {pulled:?}");
                match (net.pull_cold().await, cold) {
                    (Ok(()), Cold::Pulls) => {}
                    (Err(failed), Cold::Fails(expected)) if expected.contains(&failed.status) => {}
                    (other, _) => panic!("{what}: {cold:?} is not {other:?}"),
                }
            }
            assert_eq!(net.downloads(&net.warm), 0, "{what}: what is cached was fetched again");
            let fetched = net.downloads(&net.cold);
            assert!(fetched <= DOWNLOADS, "{what}: {fetched} downloads");
            let lines = log.warnings(&[net.registry.name()]);
            assert!(lines.len() <= WARNINGS, "{what}: {lines:#?}");
            way.end(part(&mut net), line);
            until("the cold image pulls when the fault is over", async || net.pull_cold().await.is_ok()).await;
            for digest in digests(&net.cold) {
                net.proxy.stored(digest).await;
            }
            assert_eq!(net.stored(&net.cold), 4, "{what}");
        }
    });
    join_all(played).await;
}

#[tokio::test]
async fn a_registry_with_each_fault_costs_no_pull_of_what_is_cached() {
    let away = || Cold::Fails(&[401, 503]);
    let script = |act| Way::Script("*", act);
    let faults = vec![
        fault("refuses", Way::Refuse, away()),
        fault("hangs", Way::Hang, Cold::Fails(&[401, 503, 504])),
        fault("says nothing", script(Act::Silence), Cold::Fails(&[401, 503, 504])),
        fault("is slow", script(LATE), Cold::Pulls),
        fault("breaks off", script(Act::Reset), Cold::Fails(&[401, 502, 503])),
        fault("cuts its manifests", Way::Script("GET */manifests/*", Act::Cut(10)), Cold::Fails(&[0, 502, 503])),
        fault("answers with a page", script(page()), Cold::Fails(&[401, 502])),
        fault("sends wrong manifests", Way::Script("GET */manifests/*", Act::WrongByte(30)), Cold::Fails(&[0, 502])),
        fault("says wrong lengths", Way::Script("GET */manifests/*", Act::WrongLength(7)), Cold::Fails(&[0, 502, 503])),
        fault("throttles", script(Act::Status(429)), Cold::Fails(&[401, 429])),
        fault("has no room", script(Act::Status(503)), Cold::Fails(&[401, 503])),
        fault("is read-only", Way::Script("POST *", Act::Status(405)), Cold::Pulls),
    ];
    suffer(|net| &mut net.registry, faults).await;
}

#[tokio::test]
async fn a_token_service_with_each_fault_costs_no_pull_of_what_is_cached() {
    let script = |act| Way::Script("*", act);
    let away = || Cold::Fails(&[401, 502, 503, 504]);
    let faults = vec![
        fault("refuses", Way::Refuse, away()),
        fault("hangs", Way::Hang, away()),
        fault("says nothing", script(Act::Silence), away()),
        fault("is slow", script(LATE), Cold::Pulls),
        fault("breaks off", script(Act::Reset), away()),
        fault("cuts its answers", script(Act::Cut(10)), away()),
        fault("answers with a page", script(page()), away()),
        fault("gives no token", script(json("{}")), away()),
        // The registry refuses it, and its no to a caller is no outage.
        Fault {
            warm: Err(401),
            ..fault("gives a wrong token", script(json(r#"{"token":"x","expires_in":300}"#)), Cold::Fails(&[401]))
        },
        fault("throttles", script(Act::Status(429)), Cold::Fails(&[401, 429, 503])),
        fault("has no room", script(Act::Status(503)), away()),
    ];
    suffer(|net| &mut net.auth, faults).await;
}

#[tokio::test]
async fn a_cdn_with_each_fault_costs_no_pull_of_what_is_cached() {
    let script = |act| Way::Script("*", act);
    let faults = vec![
        fault("refuses", Way::Refuse, Cold::Fails(&[401, 502, 503])),
        fault("hangs", Way::Hang, Cold::Fails(&[401, 502, 503, 504])),
        fault("says nothing", script(Act::Silence), Cold::Fails(&[401, 502, 503, 504])),
        fault("is slow", script(LATE), Cold::Pulls),
        fault("is slow at bytes", script(Act::Throttle(200_000)), Cold::Pulls),
        fault("breaks off", script(Act::Reset), Cold::Fails(&[401, 502, 503])),
        fault("cuts anywhere", Way::Times(5, Act::CutAnywhere(Dice::seeded(7))), Cold::Pulls),
        fault("stalls", script(Act::Stall(60_000)), Cold::Pulls),
        fault("answers with a page", script(page()), Cold::Fails(&[0, 502])),
        fault("sends wrong bytes", script(Act::WrongByte(30)), Cold::Fails(&[0, 502])),
        fault("says wrong lengths", script(Act::WrongLength(7)), Cold::Fails(&[0, 502, 503])),
        fault("throttles", script(Act::Status(429)), Cold::Fails(&[429, 502, 503])),
        fault("has no room", script(Act::Status(503)), Cold::Fails(&[401, 502, 503])),
    ];
    suffer(|net| &mut net.cdn, faults).await;
}

#[tokio::test]
async fn a_push_to_a_read_only_registry_is_refused_in_its_words() {
    let net = Net::start(0).await;
    let words = Act::Answer { status: 405, headers: Vec::new(), body: "read-only until noon".to_owned() };
    net.registry.script("POST *", words);
    let mut session = net.proxy.client().session(&format!("{}:443", net.registry.name())).await;
    let token = net.token("warm").await;
    let path = "/v2/warm/blobs/uploads/";
    let told = session.ask("POST", path, &[("authorization", &token), ("content-length", "0")]).await;
    assert_eq!((told.status.as_u16(), &told.bytes()[..]), (405, &b"read-only until noon"[..]));
    assert!(net.pull_warm().await.is_ok() && net.pull_cold().await.is_ok());
}

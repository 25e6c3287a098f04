//! What registries answer is bounded in memory as a whole, whoever asked and has left.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use futures_util::future::join_all;
use pullthrough::wire::Body;

use crate::support::{Act, Gate, Plan, Registry, eventually, until};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LARGE: usize = 15_900_000;

/// A manifest of so many bytes.
fn manifest(length: usize) -> Vec<u8> {
    let mut text = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]"#).into_bytes();
    text.resize(length - 1, b' ');
    text.push(b'}');
    text
}

#[tokio::test]
async fn manifests_that_stop_before_their_end_leave_memory_to_other_registries() {
    let (large, other) = (Registry::start("large.test"), Registry::start("other.test"));
    let proxy = Plan::new().registry(&large, "").registry(&other, "").start().await;
    let held = async || proxy.metric("pullthrough_in_use{what=\"answers\"}").await;
    let most = proxy.metric("pullthrough_limit{what=\"answers\"}").await;
    assert!(most > 0.0);
    other.push_manifest("a", Some("1"), INDEX, manifest(1000));
    let gate = Gate::new();
    large.script("GET */manifests/*", Act::Hold(LARGE as u64, gate.clone()));
    // Each of its own repository, as each asks by itself.
    let fit = (most as usize / 4).div_ceil(LARGE);
    for number in 0..=fit {
        large.push_manifest(&format!("r{number}"), Some("1"), INDEX, manifest(16_000_000));
    }
    let refused = AtomicUsize::new(0);
    let ask = async |number: usize| {
        let mut session = proxy.client().session("large.test:443").await;
        let path = format!("/v2/r{number}/manifests/1");
        let answer = session.send("GET", &path, &[("accept", INDEX)], Body::empty()).await.unwrap();
        refused.fetch_add(usize::from(answer.status() == 503), SeqCst);
        (answer.status().as_u16(), answer.headers().get("retry-after").map(|after| after.as_bytes().to_owned()))
    };
    let asked = join_all((0..=fit).map(ask));
    let checked = async {
        until("one host holds its share", async || held().await > most / 8.0).await;
        let small =
            proxy.client().session("other.test:443").await.ask("GET", "/v2/a/manifests/1", &[("accept", INDEX)]).await;
        assert_eq!((small.status.as_u16(), small.bytes().len()), (200, 1000));
        // Other tests of this process hold little beside it.
        assert!(held().await <= most / 2.0, "{} of {most}", held().await);
        eventually("one that has no room is refused", || refused.load(SeqCst) > 0).await;
        gate.open();
    };
    let (answers, ()) = tokio::join!(asked, checked);
    let refused = answers.iter().filter(|(status, _)| *status == 503).collect::<Vec<_>>();
    assert!(!refused.is_empty() && refused.len() < answers.len(), "{answers:?}");
    assert!(refused.iter().all(|(_, after)| after.as_deref() == Some(b"5")), "{answers:?}");
    assert!(answers.iter().all(|(status, _)| [200, 503].contains(status)), "{answers:?}");
    until("nothing is held", async || held().await == 0.0).await;
}

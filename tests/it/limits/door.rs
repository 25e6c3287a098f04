//! The door stays open: to others than those who fill it, and to whoever asks whether the proxy is well.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use pullthrough::wire::Body;

use super::{from, status};
use crate::pull::QUAY;
use crate::support::{Act, Gate, Plan, Registry, until};

const HERE: &str = "127.0.0.2";
const THERE: &str = "127.0.0.3";

#[tokio::test]
async fn idle_connections_of_one_address_make_room_for_others() {
    let registry = Registry::start("quay.io");
    let limits = "connections: 32, connections_each: 31";
    let proxy = Plan::new().registry(&registry, "").clients(limits).start().await;
    for client in [proxy.client().from(HERE).h2(), proxy.client().from(HERE)] {
        let mut held = Vec::new();
        for _ in 0..29 {
            let mut session = client.session(QUAY).await;
            session.get("/v2/").await;
            held.push(session);
        }
        let mut others = Vec::new();
        for last in 10..22 {
            until("there is room for another address", async || {
                let tunnel = proxy.client().from(&format!("127.0.0.{last}")).tunnel(QUAY).await;
                others.extend(tunnel.ok());
                others.len() > last - 10
            })
            .await;
        }
        drop((held, others));
        let open = async || proxy.metric("pullthrough_in_use{what=\"connections\"}").await;
        until("they are gone", async || open().await == 0.0).await;
    }
}

#[tokio::test]
async fn an_unknown_client_holds_no_place_and_learns_no_more_than_that_the_proxy_is_well() {
    let registry = Registry::start("quay.io");
    let limits = "allow: [127.0.0.2/32], connections: 8";
    let proxy = Plan::new().registry(&registry, "").clients(limits).start().await;
    let ask = async |address, line: &str| status(from(address, proxy.address()).await, line, "").await;
    for path in ["/healthz", "/readyz", "/ca.crt"] {
        assert_eq!(ask(THERE, &format!("GET {path}")).await, 200, "{path}");
        assert_eq!(ask(THERE, &format!("POST {path}")).await, 403, "{path}");
    }
    for line in ["GET /", "GET /setup/docker", "GET /v2/", "CONNECT quay.io:443", "GET http://quay.io/healthz"] {
        assert_eq!(ask(THERE, line).await, 403, "{line}");
    }
    let mut held = Vec::new();
    for number in 0..200 {
        held.push(from(&format!("127.0.1.{}", number % 4 + 1), proxy.address()).await);
        if number % 10 == 0 {
            assert_eq!(ask(HERE, "GET /healthz").await, 200);
            assert_eq!(ask(THERE, "GET /healthz").await, 200);
        }
    }
    assert_eq!(ask(HERE, "CONNECT quay.io:443").await, 200);
    assert_eq!(ask(HERE, "GET /").await, 200);
}

#[tokio::test]
async fn the_lobby_answers_a_probe_however_many_wait_there() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").clients("connections: 2").start().await;
    let mut held = Vec::new();
    for number in 0..400 {
        held.push(from(&format!("127.0.1.{}", number % 4 + 1), proxy.address()).await);
        if number % 10 == 9 {
            let told = status(from(HERE, proxy.address()).await, "GET /healthz", "").await;
            assert_eq!(told, 200, "beside {number}");
        }
    }
    assert_eq!(status(from(HERE, proxy.address()).await, "CONNECT quay.io:443", "").await, 503);
}

#[tokio::test]
async fn what_is_passed_on_is_counted_by_client() {
    let registry = Registry::start("quay.io");
    let folder = tempfile::tempdir().unwrap();
    let server = super::shares::serve(folder.path(), 256, Plan::new().registry(&registry, ""));
    let at = |address| super::shares::client(&server, folder.path()).from(address);
    let gate = Gate::new();
    registry.script("FOO /slow*", Act::Wait(gate.clone()));
    let refused = AtomicUsize::new(0);
    let ask = async |number: usize| {
        let mut session = at(HERE).session(QUAY).await;
        let answer = session.send("FOO", &format!("/slow/{number}"), &[], Body::empty()).await.unwrap();
        let is_refused = answer.status() == 429;
        refused.fetch_add(usize::from(is_refused), Ordering::SeqCst);
        assert!(!is_refused || answer.headers().contains_key("retry-after"));
        is_refused
    };
    let asked = join_all((0..25).map(ask));
    let checked = async {
        crate::support::eventually("one client has its share", || refused.load(Ordering::SeqCst) > 0).await;
        assert_eq!(at(THERE).get(QUAY, "/v2/a/manifests/1").await.status, 404, "another one's");
        assert_eq!(at(THERE).get(QUAY, "/v2/a/tags/list").await.status, 404, "another one's");
        assert_eq!(at(HERE).get(QUAY, "/v2/a/manifests/2").await.status, 404, "what is not passed on");
        gate.open();
    };
    let (asked, ()) = tokio::join!(asked, checked);
    let passed = asked.iter().filter(|is_refused| !**is_refused).count();
    assert!((5..25).contains(&passed), "{passed}");
    assert_eq!(registry.count("FOO /slow*"), passed);
}

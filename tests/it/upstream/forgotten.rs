//! Connections that a NAT forgot, and hosts that are only slow.

use super::*;

/// Longer than a second on any machine, and far less than what an answer may take.
const PATIENCE: Duration = Duration::from_secs(8);

struct Lab {
    registry: Registry,
    relay: Relay,
    upstream: Upstream,
    to: Endpoint,
}

impl Lab {
    fn new(h2: bool) -> Self {
        let registry = Registry::with(Setup { h2, ..Setup::named("quay.io") });
        let relay = Relay::to(registry.address());
        let config = EndpointConfig { address: Some(relay.address()), ..endpoint_config(&registry) };
        let upstream =
            Upstream::new(&Config::default(), std::slice::from_ref(&config), AddressRules::default()).unwrap();
        Self { registry, relay, upstream, to: Endpoint::parse(&config).unwrap() }
    }

    async fn fetch(&self, request: Request<()>) -> Result<bytes::Bytes, Error> {
        let answered = tokio::time::timeout(PATIENCE, self.upstream.fetch(&self.to, request)).await;
        let answer = answered.expect("no request waits for a connection that leads nowhere")?;
        Ok(bytes(answer).await.unwrap())
    }

    /// So many connections of HTTP/1.1 that are idle afterwards.
    async fn warm(&self, connections: usize) {
        let gate = Gate::new();
        let line = self.registry.script("*", Act::Wait(gate.clone()));
        let asked = futures_util::future::join_all((0..connections).map(|_| self.fetch(get("/v2/"))));
        let opened = async {
            eventually("all are under way", || self.registry.count("*") == connections).await;
            gate.open();
        };
        assert!(futures_util::future::join(asked, opened).await.0.iter().all(Result::is_ok));
        self.registry.unscript(line);
        self.registry.forget();
    }
}

#[tokio::test]
async fn a_connection_that_a_nat_forgot_gets_a_new_one_beside_it_and_leaves_the_pool() {
    for h2 in [false, true] {
        let lab = Lab::new(h2);
        lab.warm(3).await;
        let before = lab.relay.connections();
        lab.relay.forget();
        assert_eq!(lab.fetch(get("/v2/")).await.unwrap(), "{}");
        assert_eq!((lab.registry.count("*"), lab.relay.connections()), (1, before + 1), "h2: {h2}");
        assert!(lab.upstream.is_well(&lab.to));
        // Nobody waits for the others that are as old.
        let begun = std::time::Instant::now();
        for _ in 0..4 {
            lab.fetch(get("/v2/")).await.unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(3), "h2: {h2}: {:?}", begun.elapsed());
        assert_eq!((lab.registry.count("*"), lab.relay.connections()), (5, before + 2), "h2: {h2}");
    }
}

#[tokio::test]
async fn a_download_on_a_forgotten_connection_comes_over_a_new_one_once() {
    for h2 in [false, true] {
        let lab = Lab::new(h2);
        let digest = lab.registry.push_blob("a", vec![7; 300_000]);
        lab.warm(1).await;
        lab.relay.forget();
        let asked = lab.upstream.download(&lab.to, get(&format!("/v2/a/blobs/{digest}")), Downloads::Wait);
        let answer = tokio::time::timeout(PATIENCE, asked).await.unwrap().unwrap();
        assert_eq!(bytes(answer).await.unwrap().len(), 300_000);
        assert_eq!(lab.registry.count("GET */blobs/*"), 1, "h2: {h2}");
    }
}

#[tokio::test]
async fn what_may_not_be_sent_twice_is_not() {
    let lab = Lab::new(false);
    lab.warm(1).await;
    lab.relay.forget();
    let upload = Request::post("/v2/a/blobs/uploads/").body(Body::empty()).unwrap();
    let sent = tokio::time::timeout(Duration::from_secs(3), lab.upstream.send(&lab.to, upload)).await;
    assert!(sent.is_err() && lab.registry.count("*") == 0);
}

#[tokio::test]
async fn what_may_not_be_sent_twice_takes_no_connection_that_is_doubted() {
    let lab = Lab::new(false);
    lab.warm(3).await;
    lab.relay.forget();
    lab.fetch(get("/v2/")).await.unwrap();
    let upload = Request::post("/v2/a/blobs/uploads/").body(Body::empty()).unwrap();
    let sent = tokio::time::timeout(PATIENCE, lab.upstream.send(&lab.to, upload)).await;
    assert_eq!(sent.unwrap().unwrap().status(), 202);
}

#[tokio::test]
async fn a_slow_host_is_asked_once() {
    for h2 in [false, true] {
        let lab = Lab::new(h2);
        lab.registry.script("*", Act::Delay(Duration::from_millis(1500)));
        for asked in 1..5 {
            lab.fetch(get("/v2/")).await.unwrap();
            assert_eq!(lab.registry.count("*"), asked, "h2: {h2}");
        }
        assert_eq!(lab.relay.connections(), 1, "h2: {h2}");
    }
}

#[tokio::test]
async fn a_host_that_becomes_slow_is_asked_twice_once() {
    for h2 in [false, true] {
        let lab = Lab::new(h2);
        lab.warm(1).await;
        let line = lab.registry.script("*", Act::Delay(Duration::from_secs(2)));
        lab.fetch(get("/v2/")).await.unwrap();
        assert_eq!(lab.registry.count("*"), 2, "h2: {h2}");
        lab.fetch(get("/v2/")).await.unwrap();
        assert_eq!(lab.registry.count("*"), 3, "h2: {h2}: it is known to be slow");
        lab.registry.unscript(line);
    }
}

#[tokio::test]
async fn an_old_connection_on_which_others_are_served_is_not_silent() {
    let lab = Lab::new(true);
    let digest = lab.registry.push_blob("a", vec![7; 300_000]);
    lab.warm(1).await;
    lab.registry.script("*/blobs/*", Act::Throttle(50_000));
    let body = lab.fetch(get(&format!("/v2/a/blobs/{digest}")));
    let slow = async {
        eventually("the body is under way", || lab.registry.count("*/blobs/*") == 1).await;
        lab.registry.script("/v2/", Act::Delay(Duration::from_secs(3)));
        lab.fetch(get("/v2/")).await.unwrap();
    };
    assert_eq!(tokio::join!(body, slow).0.unwrap().len(), 300_000);
    assert_eq!((lab.registry.count("/v2/"), lab.relay.connections()), (1, 1));
}

#[tokio::test]
async fn a_body_on_a_connection_that_a_nat_forgets_breaks_off_before_it_counts_as_silent() {
    let lab = Lab::new(true);
    let digest = lab.registry.push_blob("a", vec![7; 3_000_000]);
    lab.registry.script("*/blobs/*", Act::Throttle(100_000));
    let asked = lab.upstream.download(&lab.to, get(&format!("/v2/a/blobs/{digest}")), Downloads::Wait);
    let answer = tokio::time::timeout(PATIENCE, asked).await.unwrap().unwrap();
    lab.relay.forget();
    let read = tokio::time::timeout(Config::default().idle_timeout.0 - Duration::from_secs(5), bytes(answer)).await;
    assert!(read.expect("the connection was asked whether it is there").is_err());
}

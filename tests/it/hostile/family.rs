//! One family of answers against every question: a registry for each cell, one proxy before all of them.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::iter;
use pullthrough::oci::{Algorithm, Digest};

use super::elsewhere;
use super::honest::{owner, public};
use super::kinds::Kind;
use super::noted::Noted;
use super::outcome::{Got, Outcome, ask};
use super::question::{QUESTIONS, Question};
use super::site::{ATTACKED, Phase, Site, Sites};
use super::table::{self, Outcomes};
use super::upstream::{DOMAIN, Upstream};
use crate::support::{Plan, Proxy, Registry, eventually, lab, until};

/// How the family is run.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kinds: Vec<Kind>,
    /// The registries speak HTTP/2, and nothing else.
    pub(super) h2: bool,
    /// How long the proxy waits for a registry's word on a tag.
    pub(super) deadline: &'static str,
    /// What else the proxy's configuration says.
    pub(super) plan: Plan,
    /// How many cells are attacked at a time.
    pub(super) at_once: usize,
}

/// One kind of answer to one question.
struct Cell {
    question: Question,
    site: Arc<Site>,
}

/// What came of a cell while it was attacked.
struct Attacked {
    got: String,
    after: &'static str,
}

const GOOD: &str = "good.example";
/// How often the proxy may ask a registry by itself whether it is back, in the time of a test.
const PROBES: usize = 20;
/// And in a client's name when that is answered, while the registry does not get better.
const LATE: usize = 8;

/// Runs it, and compares what came with the table.
pub(super) async fn run(family: Family) {
    let cells = cells(&family.kinds);
    let sites: Sites = cells.iter().map(|cell| (cell.site.host.clone(), Arc::clone(&cell.site))).collect();
    let upstream = Upstream::start(sites, family.h2);
    let good = Registry::start(GOOD);
    let proxy = plan(family.plan, &cells, &upstream, family.deadline).registry(&good, "").start().await;
    let (proxy, good) = (&proxy, &good);

    each(&cells, 16, async |cell: &Cell| cell.prepare(proxy).await).await;
    let attacks = each(&cells, family.at_once, async |cell: &Cell| cell.attack(proxy).await).await;
    let mut others = still_serves(proxy, good, "after").await;
    let (stored, noted) = (stored(proxy), Noted::read(proxy.folder()));
    let asked: Vec<usize> = cells.iter().map(|cell| cell.site.attacked()).collect();
    each(&cells, 32, async |cell: &Cell| cell.recover(proxy).await).await;
    others.extend(still_serves(proxy, good, "recovered").await);
    check_store(proxy, &cells, &others);

    let outcomes: Outcomes = cells
        .iter()
        .zip(&attacks)
        .zip(asked)
        .map(|((cell, attacked), asked)| {
            let late = cell.site.attacked() - asked;
            assert!(
                late <= LATE,
                "{}: {late} requests after the client had left: {:?}",
                cell.name(),
                cell.site.protocol()
            );
            let new = cell.site.bodies().into_iter().filter(|digest| stored.contains(digest));
            let kept = cell.kept();
            let outcome = Outcome {
                got: attacked.got.clone(),
                stored: new.filter(|digest| !kept.contains(digest)).count(),
                noted: noted.words(&cell.site),
                after: attacked.after,
                asked,
            };
            ((cell.site.kind.name.to_owned(), cell.question), outcome.to_string())
        })
        .collect();
    let kinds: Vec<&str> = family.kinds.iter().map(|kind| kind.name).collect();
    table::compare(family.name, &kinds, &outcomes);
}

fn cells(kinds: &[Kind]) -> Vec<Cell> {
    let all = kinds.iter().enumerate().flat_map(|(number, kind)| QUESTIONS.map(|question| (number, kind, question)));
    all.map(|(number, kind, question)| {
        let host = format!("{}-{number}.{DOMAIN}", question.name());
        Cell { question, site: Arc::new(Site::new(host, kind.clone())) }
    })
    .collect()
}

/// The proxy's configuration: a registry for each cell, all of them at one address.
fn plan(mut plan: Plan, cells: &[Cell], upstream: &Upstream, deadline: &str) -> Plan {
    let (address, ca_file) = (upstream.address(), lab::ca_file());
    let others = [elsewhere::login(), elsewhere::cdn()]
        .map(|host| format!("'{host}': {{address: '{address}', ca_file: '{}'}}", ca_file.display()));
    plan = plan.upstream(&format!("hosts: {{{}}}", others.join(", ")));
    for cell in cells {
        let host = &cell.site.host;
        let endpoint = format!("{{url: 'https://{host}', address: '{address}', ca_file: '{}'}}", ca_file.display());
        plan = plan.raw_registry(&format!(
            "'{host}': {{endpoints: [{endpoint}], push: allow, tags: {{fresh_for: 0s, deadline: {deadline}}}}}"
        ));
    }
    plan
}

async fn each<T>(cells: &[Cell], at_once: usize, act: impl AsyncFn(&Cell) -> T) -> Vec<T> {
    iter(cells.iter().map(|cell| act(cell))).buffered(at_once).collect().await
}

impl Cell {
    /// For whoever reads a failure.
    fn name(&self) -> String {
        format!("[{}] {}", self.site.kind.name, self.question.name())
    }

    /// What is stored before the attack.
    fn kept(&self) -> Vec<Digest> {
        let things = &self.site.things;
        let layer = (self.question == Question::BlobWarm).then_some(things.kept_layer.digest);
        std::iter::once(things.kept.digest).chain(layer).collect()
    }

    /// One request by `agent`, checked for what holds of every answer.
    async fn ask(&self, proxy: &Proxy, method: &str, path: &str, headers: &[(&str, String)], agent: &str) -> Got {
        let body = if method == self.question.method() { self.question.body(&self.site.things) } else { Vec::new() };
        let session = proxy.client().session(&format!("{}:443", self.site.host)).await;
        let headers: Vec<_> = headers.iter().cloned().chain([("user-agent", agent.to_owned())]).collect();
        let got = ask(session, method, path, &headers, body).await;
        got.check(method, path, &format!("{} {agent}: {method} {path}", self.name()));
        got
    }

    /// The owner pulls what is private.
    async fn prepare(&self, proxy: &Proxy) {
        let (things, headers) = (&self.site.things, [("authorization", owner())]);
        let mut paths = vec![Question::TagKnown.path(things)];
        if self.question == Question::BlobWarm {
            paths.push(Question::BlobWarm.path(things));
        }
        for path in paths {
            let got = self.ask(proxy, "GET", &path, &headers, "owner/1").await;
            assert_eq!(got.status, 200, "{} before: {path}", self.name());
        }
        for digest in self.kept() {
            proxy.stored(&digest).await;
        }
        // The proxy has asked, too, whether nobody needs credentials: once, by HEAD and by GET.
        let asked = if self.question == Question::BlobWarm { 4 } else { 3 };
        eventually(&format!("{}: the registry is idle", self.name()), || self.site.has_answered(asked)).await;
    }

    async fn attack(&self, proxy: &Proxy) -> Attacked {
        let (site, question) = (&self.site, self.question);
        // What takes long to make is made before anybody waits for it.
        let asked = question.asked(&site.things);
        let _ = site.kind.steps(site, &asked, public(&site.things, &asked));
        site.enter(Phase::Attack);
        let path = question.path(&site.things);
        let got = self.ask(proxy, question.method(), &path, &question.headers(), ATTACKED).await;
        if got.status == 206 {
            self.filled(proxy).await;
        }
        let honest = public(&site.things, &question.asked(&site.things));
        let got = got.word(&honest, question.method() == "HEAD");
        site.enter(Phase::Closed);
        let kept = format!("/v2/{}/manifests/{}", super::things::REPOSITORY, site.things.kept.digest);
        let serves = async |path: &str| {
            let got = self.ask(proxy, "GET", path, &[], "stranger/1").await;
            (200..400).contains(&got.status)
        };
        let after = match () {
            () if serves(&kept).await => "open",
            () if question.is_content() && serves(&path).await => "open to this",
            () => "closed",
        };
        Attacked { got, after }
    }

    /// Waits for the end of what goes on behind a part that was served.
    async fn filled(&self, proxy: &Proxy) {
        let digest = self.site.things.layer.digest;
        // One that ended without the content is kept, with its map.
        let is_staged = || {
            let staged = std::fs::read_dir(proxy.folder().join("cache/fills")).unwrap();
            let names = staged.map(|file| file.unwrap().file_name().to_string_lossy().into_owned());
            let names = names.filter(|name| name.contains(&digest.hex()));
            let names: Vec<String> = names.collect();
            !names.is_empty() && !names.iter().any(|name| name.ends_with(".map"))
        };
        let what = format!("{}: the fill ends", self.name());
        until(&what, async || proxy.blob_file(&digest).exists() || !is_staged()).await;
    }

    /// The same question is answered once the registry is honest.
    async fn recover(&self, proxy: &Proxy) {
        let (site, question) = (&self.site, self.question);
        site.enter(Phase::Public);
        let (path, honest) = (question.path(&site.things), public(&site.things, &question.asked(&site.things)));
        let what = format!("{} succeeds when the registry is honest", self.name());
        until(&what, async || {
            let got = self.ask(proxy, question.method(), &path, &question.headers(), "stranger/2").await;
            let is_head = question.method() == "HEAD";
            got.status == honest.status && (is_head || got.body == honest.body)
        })
        .await;
        let probed = site.probed();
        assert!(probed <= PROBES, "{}: {probed} probes: {:?}", self.name(), site.protocol());
    }
}

/// The proxy answers for itself and for a good registry, and has written down what it noted before.
/// Answers what this has stored.
async fn still_serves(proxy: &Proxy, good: &Registry, tag: &str) -> Vec<Digest> {
    let health = proxy.client().plain_session(&proxy.address().to_string()).await.get("/healthz").await;
    assert_eq!(health.status, 200);
    let image = good.push_image("good/app", tag, &[tag.repeat(1000).into_bytes()]);
    let mut session = proxy.client().session(&format!("{GOOD}:443")).await;
    assert_eq!(session.get(&format!("/v2/good/app/manifests/{tag}")).await.bytes(), &image.manifest);
    assert_eq!(session.get(&format!("/v2/good/app/blobs/{}", image.layers[0])).await.status, 200);
    eventually("what is noted is written", || Noted::read(proxy.folder()).has_tag(GOOD, tag)).await;
    [vec![image.digest, image.config], image.layers].concat()
}

fn stored(proxy: &Proxy) -> HashSet<Digest> {
    let files = std::fs::read_dir(proxy.folder().join("cache/blobs/sha256")).unwrap();
    files.filter_map(|file| format!("sha256:{}", file.unwrap().file_name().to_str()?).parse().ok()).collect()
}

/// Nothing is stored but what the registries have sent, and all of it under its name.
fn check_store(proxy: &Proxy, cells: &[Cell], others: &[Digest]) {
    let known: HashSet<Digest> =
        cells.iter().flat_map(|cell| cell.site.bodies()).chain(others.iter().copied()).collect();
    for digest in stored(proxy) {
        let content = std::fs::read(proxy.blob_file(&digest)).unwrap();
        assert_eq!(Digest::of(Algorithm::Sha256, &content), digest, "stored under another name");
        let text = String::from_utf8_lossy(&content[..content.len().min(200)]).into_owned();
        let is_page = text.starts_with("<html>log in for"); // the tables mark what led to it
        assert!(is_page || known.contains(&digest), "nobody has sent what is stored: {text}");
    }
}

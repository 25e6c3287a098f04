//! An operator's year in a minute: upgrade, downgrade, full disk, new certificates, a hundred configurations.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::clean::Machine;
use crate::client::{Kind, Way};
use crate::lab::{Lab, Shape, eventually, once_each};
use crate::packages::{EARLIER, asked_and_lost, install, installed_from, listen_by_socket};
use crate::proxy::fetch;

const CATALOG: &str = "/var/cache/private/pullthrough/catalog.sqlite";

/// The installed proxy and what a client of it needs.
struct Year {
    machine: Machine,
    listen: SocketAddr,
    trust: PathBuf,
}

impl Year {
    fn begin(lab: &Lab) -> Self {
        Self::with(lab, "pullthrough.deb")
    }

    fn with(lab: &Lab, package_file: &str) -> Self {
        let (machine, listen) = installed_from(lab, package_file);
        let page = fetch(listen, "/ca.crt").unwrap();
        let trust = machine.shared.join("trust.pem");
        fs::write(&trust, page.split_once("\r\n\r\n").unwrap().1).unwrap();
        Self { machine, listen, trust }
    }

    fn pull(&self, lab: &Lab, image: &str) -> Result<String, String> {
        let way = Way::by_proxy(format!("http://{}", self.listen), &self.trust);
        Kind::Skopeo.fresh(lab, &way).pull(image)
    }

    fn readiness(&self) -> String {
        fetch(self.listen, "/readyz").unwrap_or_default()
    }

    /// Gives the catalog of the stopped proxy another format's number; the one that it had.
    fn mark(&self, format: i64) -> i64 {
        self.machine.must(&format!("cp {CATALOG} /shared/catalog.sqlite"));
        let catalog = Connection::open(self.machine.shared.join("catalog.sqlite")).unwrap();
        let had = catalog.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        catalog.pragma_update(None, "user_version", format).unwrap();
        catalog.pragma_update(None, "journal_mode", "delete").unwrap();
        catalog.close().unwrap();
        self.machine.must(&format!("cat /shared/catalog.sqlite >{CATALOG}"));
        had
    }

    fn journal(&self) -> String {
        self.machine.must("journalctl --unit pullthrough --no-pager")
    }
}

#[test]
fn an_upgrade_keeps_everything_and_a_downgrade_is_refused_with_a_clear_message() {
    let lab = Lab::new();
    let image = lab.publish(&["quay.io/lab/app:1"], Shape::Single, 1, 50_000);
    let mut year = Year::with(&lab, EARLIER);
    year.machine.must("echo '# our own' >>/etc/pullthrough/config.yaml; systemctl reload pullthrough");
    assert_eq!(year.pull(&lab, "quay.io/lab/app:1"), Ok(image.id.clone()));
    year.machine.must("pullthrough cache pin quay.io/lab/app:1");
    year.listen = listen_by_socket(&year.machine);
    let kept = "cd /var; sha256sum /etc/pullthrough/config.yaml lib/private/pullthrough/ca/* cache/private/pullthrough/pins.json";
    let before = year.machine.must(kept);
    assert!(before.contains("ca.key") && before.contains("issuing.key") && before.contains("pins.json"), "{before}");
    let pid = || year.machine.must("systemctl show --property=MainPID --value pullthrough");
    let version = || year.machine.must("dpkg-query --show --showformat '${Version}' pullthrough");
    let (first, earlier) = (pid(), version());
    assert_eq!(earlier, "0.0.9-1");
    let (asked, lost) = asked_and_lost(year.listen, || install(&year.machine, "pullthrough.deb"));
    assert!(asked > 10 && lost == 0, "{lost} of {asked} requests were lost over the upgrade");
    assert!(pid() != first && version() != earlier, "the later version runs");
    assert_eq!(year.machine.must(kept), before);
    let shipped = year.machine.must("cat /etc/pullthrough/config.yaml.dpkg-dist");
    assert!(!shipped.contains("as it was then"), "what the later version ships is beside it: {shipped}");
    assert_eq!(year.pull(&lab, "quay.io/lab/app:1"), Ok(image.id.clone()));

    year.machine.must("systemctl stop pullthrough"); // nobody asks the socket meanwhile
    let format = year.mark(99);
    install(&year.machine, EARLIER);
    year.machine
        .run("systemctl is-active pullthrough", Duration::from_secs(30))
        .expect_err("the format is a later one's");
    year.machine.must("systemctl stop pullthrough");
    let journal = year.journal();
    let words = format!("has format 99, and this version knows formats up to {format}");
    assert!(journal.contains(&words) && journal.contains("use the later version"), "{journal}");
    assert_eq!(year.mark(format), 99, "it changed a catalog that it does not understand");
    install(&year.machine, "pullthrough.deb");
    assert_eq!(year.pull(&lab, "quay.io/lab/app:1"), Ok(image.id));
    assert_eq!(year.machine.must(kept), before);
    once_each(&lab.quay.blob_fetches());
}

#[test]
fn a_full_disk_costs_no_pull_and_heals_by_itself() {
    let lab = Lab::new();
    let images: Vec<_> =
        (1..4).map(|seed| lab.publish(&[&format!("quay.io/lab/app:{seed}")], Shape::Single, seed, 2_000_000)).collect();
    let year = Year::begin(&lab);
    let pull = |number: usize| year.pull(&lab, &format!("quay.io/lab/app:{number}"));
    year.machine.must(
        "systemctl stop pullthrough
         mount --types tmpfs --options size=24m cache /var/cache/private/pullthrough
         systemctl start pullthrough",
    );
    assert_eq!(pull(1), Ok(images[0].id.clone()));
    year.machine.must("dd if=/dev/zero of=/var/cache/private/pullthrough/other bs=64k status=none || true");
    assert_eq!(pull(2), Ok(images[1].id.clone()), "with a full disk");
    eventually("it says that it is not ready", Duration::from_secs(30), || year.readiness().contains(" 503 "));
    year.machine.must("rm /var/cache/private/pullthrough/other");
    eventually("it is ready again", Duration::from_secs(90), || year.readiness().contains(" 200 "));
    assert_eq!(pull(3), Ok(images[2].id.clone()));
    let before = lab.quay.blob_fetches().len();
    assert_eq!(pull(3), Ok(images[2].id.clone()));
    assert_eq!(lab.quay.blob_fetches().len(), before, "it is kept again");
}

#[test]
fn new_certificates_and_a_hundred_configurations_cost_no_pull() {
    let lab = Lab::new();
    let image = lab.publish(&["quay.io/lab/app:1"], Shape::Single, 1, 200_000);
    let year = Year::begin(&lab);
    assert_eq!(year.pull(&lab, "quay.io/lab/app:1"), Ok(image.id.clone()));
    let issuing = "/var/lib/private/pullthrough/ca/issuing.crt";
    let old = fs::read(year.machine.file(issuing)).unwrap();
    year.machine.must(&format!("rm {issuing} {}; systemctl restart pullthrough", issuing.replace(".crt", ".key")));
    assert_ne!(fs::read(year.machine.file(issuing)).unwrap(), old, "it was made anew");
    assert_eq!(year.pull(&lab, "quay.io/lab/app:1"), Ok(image.id.clone()), "clients trust the same root");

    let file = year.machine.file("/etc/pullthrough/config.yaml");
    let first: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let ended = AtomicBool::new(false);
    let pulls = std::thread::scope(|scope| {
        let client = || {
            let mut pulls = 0;
            while !ended.load(Ordering::Relaxed) {
                assert_eq!(year.pull(&lab, "quay.io/lab/app:1"), Ok(image.id.clone()), "after {pulls} pulls");
                pulls += 1;
            }
            pulls
        };
        let clients = [scope.spawn(client), scope.spawn(client)];
        for number in 0..100 {
            let mut config = first.clone();
            config["registries"][format!("r{number}.example.com")] = json!({});
            config["registries"]["quay.io"]["tags"]["fresh_for"] = json!(format!("{}s", number % 3));
            fs::write(&file, format!("{config:#}")).unwrap();
            year.machine.must("systemctl reload pullthrough");
        }
        ended.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>()
    });
    assert!(pulls > 10, "{pulls} pulls");
    assert!(!year.journal().contains("was not reloaded"), "{}", year.journal());
    once_each(&lab.quay.blob_fetches());
}

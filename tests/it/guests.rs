//! Who may use the proxy: the htpasswd file at work, held credentials and rules through a configuration.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use http::HeaderValue;
use pullthrough::config::{ConfigSources, Settings, load};
use pullthrough::oci::Authority;
use pullthrough::proxy::{Action, Admission, AuditConfig, Auth, Intent, Judgement, LoginError, Logins, Offer, Rules};
use pullthrough::upstream::Keyring;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::basic_value;

/// Cost 4, the least: a test wants its answer soon.
const ALICE: &str = "alice:$2y$04$qVwKbzVJyGsQ2aA9xgDqDeB1i0JeoVfOrVd3tFyD0TBiUKyGNnfh.";

fn hash(user: &str, password: &str) -> String {
    format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap())
}

fn offer(user: &str, password: &str) -> Offer {
    Offer::parse(&HeaderValue::from_str(&basic_value(user, password)).unwrap()).unwrap()
}

fn here() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

struct File(TempDir);

impl File {
    fn with(text: &str) -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("htpasswd"), text).unwrap();
        Self(folder)
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("htpasswd")
    }

    fn open(&self) -> Logins {
        Logins::open(self.path()).unwrap()
    }
}

#[tokio::test]
async fn a_user_with_the_right_password_is_let_in_and_no_other() {
    let file = File::with(&format!("{}{}", hash("alice", "s3cret"), hash("bob", "b0b")));
    let logins = file.open();
    for (user, password, expected) in [
        ("alice", "s3cret", Some("alice")),
        ("bob", "b0b", Some("bob")),
        ("alice", "b0b", None),
        ("alice", "s3cret ", None),
        ("alice", "", None),
        ("Alice", "s3cret", None),
        ("nobody", "s3cret", None),
    ] {
        let admission = logins.verify(here(), &offer(user, password)).await;
        let expected = expected.map_or(Admission::Wrong, |user| Admission::Welcome(user.into()));
        assert_eq!(admission, expected, "{user} {password}");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_are_slowed_and_a_remembered_password_is_not() {
    let file = File::with(&hash("alice", "s3cret"));
    let logins = file.open();
    let admission = logins.verify(here(), &offer("alice", "s3cret")).await;
    let took = async |user: &str, password: &str| {
        let start = Instant::now();
        let admission = logins.verify(here(), &offer(user, password)).await;
        (admission, start.elapsed().as_millis())
    };
    for expected in [0, 0, 0, 250, 500, 1000, 2000, 4000, 4000] {
        let (wrong, took) = took("alice", "guess").await;
        assert_eq!((wrong, took / 10 * 10), (Admission::Wrong, expected));
    }
    assert_eq!(took("alice", "s3cret").await, (admission, 0), "she was remembered");
    assert_eq!(took("alice", "guess").await.1 / 10 * 10, 4000);
}

#[tokio::test(start_paused = true)]
async fn a_right_password_ends_the_slowness_of_earlier_slips() {
    let file = File::with(&hash("alice", "s3cret"));
    let logins = file.open();
    for _ in 0..5 {
        logins.verify(here(), &offer("alice", "guess")).await;
    }
    logins.verify(here(), &offer("alice", "s3cret")).await;
    let start = Instant::now();
    logins.verify(here(), &offer("alice", "guess")).await;
    assert_eq!(start.elapsed().as_millis() / 10, 0);
}

#[tokio::test]
async fn a_fleet_with_one_password_is_let_in_together() {
    let file = File::with(&hash("ci", "s3cret"));
    let logins = file.open();
    let offer = offer("ci", "s3cret");
    let admissions = join_all((0..100).map(|_| logins.verify(here(), &offer))).await;
    assert!(admissions.iter().all(|admission| *admission == Admission::Welcome("ci".into())));
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_counts_within_a_second_and_forgets_who_left() {
    let file = File::with(&hash("alice", "old"));
    let logins = file.open();
    let welcome = Admission::Welcome("alice".into());
    assert_eq!(logins.verify(here(), &offer("alice", "old")).await, welcome);
    fs::write(file.path(), hash("alice", "new")).unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(logins.verify(here(), &offer("alice", "old")).await, Admission::Wrong);
    assert_eq!(logins.verify(here(), &offer("alice", "new")).await, welcome);
    fs::write(file.path(), "alice:{SHA}broken\n").unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(logins.verify(here(), &offer("alice", "new")).await, welcome, "a broken file changes nothing");
    fs::write(file.path(), hash("bob", "b0b")).unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(logins.verify(here(), &offer("alice", "new")).await, Admission::Wrong);
    fs::remove_file(file.path()).unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(logins.verify(here(), &offer("bob", "b0b")).await, Admission::Welcome("bob".into()));
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_no_start() {
    let broken = File::with("alice:{SHA}x\nbob:y\n");
    let Err(LoginError::BadLines(_, flaws)) = Logins::open(broken.path()) else { panic!("it was opened") };
    assert_eq!(flaws.iter().map(|flaw| flaw.line).collect::<Vec<_>>(), [1, 2]);
    assert!(matches!(Logins::open("/nowhere/htpasswd".into()), Err(LoginError::File(..))));
}

/// Settings of this file in a folder that has a password, a docker configuration and an htpasswd file.
fn settings(folder: &Path, text: &str) -> Settings {
    fs::write(folder.join("f.yaml"), text).unwrap();
    let sources = ConfigSources { config: Some(folder.join("f.yaml")), ..ConfigSources::default() };
    load(&sources).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("password"), "canary-file\n").unwrap();
    fs::write(folder.path().join("config.json"), r#"{"auths": {"quay.io": {"auth": "cTpjYW5hcnktZG9ja2Vy"}}}"#)
        .unwrap();
    fs::write(folder.path().join("htpasswd"), format!("{ALICE}\n")).unwrap();
    folder
}

const IDENTITY: &str = "
registries:
  docker.io:
    auth:
      - {username: team, password_file: password, repositories: ['team/*']}
      - {username: all, password: canary-inline}
  quay.io: {auth: {docker_config: config.json}}
  ghcr.io: {auth: anonymous}
  gcr.io: {}
  r.example.com:
    realms: ['https://login.example.com/token']
    endpoints:
      - {url: 'https://mirror.example.com', auth: {username: m, password_file: password}}
clients:
  htpasswd: htpasswd
  audit: audit.jsonl
  rules:
    - {name: only-alice, effect: deny, users: [alice], networks: [10.0.0.0/8], repositories: ['secret/*']}
";

#[tokio::test]
async fn a_configuration_of_credentials_is_read_and_shows_no_secret() {
    let folder = folder();
    let settings = settings(folder.path(), IDENTITY);
    assert!(!format!("{settings:?}").contains("canary"));
    let registry = |name: &str| settings.registries.iter().find(|registry| registry.name == name).unwrap();
    let user = async |name: &str, repository: &str| {
        let Auth::Held(held) = &registry(name).auth else { panic!("{name} holds nothing") };
        let server = Authority::parse(name, 443).unwrap();
        let keyring = Keyring::new(held).unwrap();
        let picked = keyring.pick(&server, &repository.parse().unwrap()).await.unwrap().unwrap();
        (picked.credential.user().unwrap().to_owned(), picked.credential.basic().unwrap(), picked.listed)
    };
    let basic = |user, password| HeaderValue::from_str(&basic_value(user, password)).unwrap();
    let table = [
        ("docker.io", "team/app", "team", "canary-file", true),
        ("docker.io", "library/alpine", "all", "canary-inline", false),
        ("quay.io", "org/app", "q", "canary-docker", false),
    ];
    for (name, repository, expected, password, listed) in table {
        assert_eq!(user(name, repository).await, (expected.to_owned(), basic(expected, password), listed));
    }
    assert_eq!((&registry("ghcr.io").auth, &registry("gcr.io").auth), (&Auth::Anonymous, &Auth::Client));
    let realms = |name: &str| registry(name).realms.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(realms("docker.io"), ["https://auth.docker.io/token"]);
    assert_eq!(realms("r.example.com"), ["https://login.example.com/token"]);
    assert_eq!(realms("quay.io"), [""; 0]);
    assert!(registry("r.example.com").endpoints[0].auth.is_some());
}

#[test]
fn a_configuration_of_clients_is_read_and_judges() {
    let folder = folder();
    let settings = settings(folder.path(), IDENTITY);
    assert_eq!(settings.clients.htpasswd, Some(folder.path().join("htpasswd")));
    assert_eq!(settings.clients.audit, Some(AuditConfig::File(folder.path().join("audit.jsonl"))));
    let rules = Rules::new(&settings.clients.rules);
    let (host, repository) = (Authority::parse("quay.io", 443).unwrap(), "secret/app".parse().unwrap());
    let errand = Intent {
        user: Some("alice"),
        client: "10.1.1.1".parse().unwrap(),
        registry: "quay.io",
        host: &host,
        repository: pullthrough::proxy::Named::One(&repository),
        action: Action::Pull,
    };
    assert_eq!(rules.judge(&errand), Judgement::Denied("only-alice".into()));
    assert_eq!(rules.judge(&Intent { user: None, ..errand }), Judgement::Allowed(None));
}

#[test]
fn check_tells_the_lines_of_an_htpasswd_file_and_repeats_no_secret() {
    let folder = folder();
    fs::write(folder.path().join("htpasswd"), "alice:canary\n# x\nbob:$apr1$x$canary\n").unwrap();
    let text = "clients:\n  htpasswd: htpasswd\n  rules: [{name: x, effect: deny, users: [carol]}]\n\
                registries:\n  quay.io:\n    auth: {username: u, password: 'canary', pasword_file: canary}\n\
                \x20 ghcr.io: {auth: canary}\n";
    fs::write(folder.path().join("f.yaml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullthrough"));
    let output = command.current_dir(folder.path()).env_clear().args(["check", "--config", "f.yaml"]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    let expected = [
        "f.yaml:2: clients.htpasswd: htpasswd:1: the password of \"alice\" is stored as an unknown hash; expected bcrypt: \
         htpasswd -B FILE alice",
        "f.yaml:2: clients.htpasswd: htpasswd:3: the password of \"bob\" is stored as MD5; expected bcrypt: htpasswd -B \
         FILE bob",
        "f.yaml:6: registries.quay.io.auth.pasword_file: unknown key; did you mean password_file?",
        "f.yaml:7: registries.ghcr.io.auth: neither client nor anonymous; expected one of them, or {username: u, \
         password_file: f}",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
    assert!(!told.contains("canary") && output.status.code() == Some(2));
}

//! `pullthrough cache`, the real program: with a running server and without.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::SystemTime;

use pullthrough::oci::{Accept, Digest};
use pullthrough::store::{Content, Learned, Link, Store, TagEntry};
use serde_json::{Value, json};

use crate::store::{config, content, digest, eventually, path_of};
use crate::support::{Plan, Proxy, Registry};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const SIZE: u64 = 64 << 20;

/// A folder with a configuration and a cache, and the server over it.
struct Lab {
    folder: tempfile::TempDir,
    root: PathBuf,
    server: Option<Child>,
}

/// What a command said.
struct Said {
    status: i32,
    out: String,
    err: String,
}

impl Lab {
    fn new() -> Self {
        Self::deep("")
    }

    fn deep(below: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join(below);
        fs::create_dir_all(&root).unwrap();
        let lab = Self { folder, root, server: None };
        let dir = lab.root.display();
        let yaml = format!(
            "listen: {{proxy: '127.0.0.1:0', admin: '127.0.0.1:0'}}\nca: {{dir: '{dir}/ca'}}\n\
             cache: {{dir: '{dir}/cache', max_size: 64MiB, min_free: 0%}}\n"
        );
        fs::write(lab.file(), yaml).unwrap();
        lab
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("pullthrough.yaml")
    }

    fn socket(&self) -> PathBuf {
        self.root.join("cache/control.sock")
    }

    /// Puts something into the cache, with no server.
    fn fill(&self, fill: impl FnOnce(&Fill)) {
        let store = Store::open(&config(&self.root, SIZE)).unwrap();
        fill(&Fill(&store));
        store.close();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullthrough"));
        command.env_clear().current_dir(self.folder.path());
        command
    }

    fn serve(&mut self) {
        let mut command = self.command();
        command.arg("serve").arg("--config").arg(self.file()).stdout(Stdio::piped()).stderr(Stdio::null());
        let server = self.server.insert(command.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("listens on"), "{line}");
    }

    fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    fn say(&self, arguments: &[&str]) -> Said {
        let mut command = self.command();
        command.arg("cache").args(arguments).arg("--config").arg(self.file()).stdin(Stdio::null());
        let Output { status, stdout, stderr } = command.output().unwrap();
        Said {
            status: status.code().unwrap(),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }

    /// `pullthrough why`, which is no command of `cache`.
    fn why(&self, arguments: &[&str]) -> Said {
        let mut command = self.command();
        command.arg("why").args(arguments).arg("--config").arg(self.file()).stdin(Stdio::null());
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { status: status.code().unwrap(), out: text(stdout), err: text(stderr) }
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let said = self.say(&[arguments, &["--json"]].concat());
        assert_eq!(said.status, 0, "{arguments:?}: {}", said.err);
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.out))
    }

    fn names(&self) -> Vec<String> {
        let rows = self.json(&["ls"]);
        let name = |row: &Value| {
            let reference =
                row["tag"].as_str().map_or(format!("@{}", row["digest"].as_str().unwrap()), |t| format!(":{t}"));
            format!("{}/{}{reference}", row["registry"].as_str().unwrap(), row["repository"].as_str().unwrap())
        };
        rows.as_array().unwrap().iter().map(name).collect()
    }

    fn has(&self, digest: &Digest) -> bool {
        path_of(&self.root, digest).exists()
    }

    /// The same with a server and without, over the same content.
    fn both(test: impl Fn(&mut Lab), fill: impl Fn(&Fill)) {
        for served in [false, true] {
            let mut lab = Lab::new();
            lab.fill(&fill);
            if served {
                lab.serve();
            }
            test(&mut lab);
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.kill();
        }
    }
}

struct Fill<'a>(&'a Store);

impl Fill<'_> {
    fn blob(&self, place: &str, bytes: &[u8], kind: Content) -> Digest {
        let digest = digest(bytes);
        self.0.put(&digest, bytes).unwrap();
        self.link(place, digest, kind);
        digest
    }

    fn link(&self, place: &str, digest: Digest, content: Content) {
        let (registry, repository) = place.split_once('/').unwrap();
        self.0.catalog().note_link(Link {
            registry: registry.into(),
            repository: repository.parse().unwrap(),
            digest,
            content,
            media_type: None,
            learned: Learned::Anonymously,
            proven: SystemTime::now(),
        });
    }

    fn tag(&self, place: &str, tag: &str, digest: Digest, media_type: &str) {
        let (registry, repository) = place.split_once('/').unwrap();
        self.0.catalog().note_tag(TagEntry {
            registry: registry.into(),
            repository: repository.parse().unwrap(),
            tag: tag.parse().unwrap(),
            accept: Accept::parse([MANIFEST, INDEX]),
            digest,
            media_type: media_type.into(),
            size: 1,
            checked: SystemTime::now(),
            learned: Learned::Anonymously,
        });
    }

    /// A manifest over these layers, each of 100,000 bytes made of its seed.
    fn manifest(&self, place: &str, layers: &[u64]) -> Digest {
        let layers: Vec<Value> = layers
            .iter()
            .map(|seed| {
                let bytes = content(*seed, 100_000);
                json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": bytes.len(),
                "digest": self.blob(place, &bytes, Content::Blob).to_string()})
            })
            .collect();
        let bytes = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers}).to_string();
        self.blob(place, bytes.as_bytes(), Content::Manifest)
    }

    fn image(&self, place: &str, tag: &str, layers: &[u64]) -> Digest {
        let digest = self.manifest(place, layers);
        self.tag(place, tag, digest, MANIFEST);
        digest
    }
}

fn layer(seed: u64) -> Digest {
    digest(&content(seed, 100_000))
}

/// Two images that share a layer, one elsewhere, and an index of which one platform is here.
fn usual(fill: &Fill) {
    fill.image("quay.io/org/app", "1", &[1, 2]);
    fill.image("quay.io/org/app", "2", &[1, 3]);
    fill.image("docker.io/library/alpine", "latest", &[4]);
    let (here, away) = (fill.manifest("quay.io/org/multi", &[5]), digest(b"another platform"));
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"digest": here.to_string(), "size": 1, "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": away.to_string(), "size": 777, "platform": {"os": "linux", "architecture": "arm64"}},
    ]});
    let index = fill.blob("quay.io/org/multi", index.to_string().as_bytes(), Content::Manifest);
    fill.tag("quay.io/org/multi", "v1", index, INDEX);
}

const ALL: [&str; 4] =
    ["docker.io/library/alpine:latest", "quay.io/org/app:1", "quay.io/org/app:2", "quay.io/org/multi:v1"];

#[test]
fn images_are_listed_with_what_they_share() {
    Lab::both(
        |lab| {
            assert_eq!(lab.names(), ALL);
            let rows = lab.json(&["ls", "quay.io/org/app"]);
            assert_eq!(rows.as_array().unwrap().len(), 2);
            for row in rows.as_array().unwrap() {
                let size = row["size"].as_u64().unwrap();
                assert!((200_000..201_000).contains(&size), "{row}");
                assert_eq!((row["shared"].as_u64(), row["missing"].as_u64()), (Some(100_000), Some(0)), "{row}");
                assert_eq!(row["kind"], "manifest");
                humantime::parse_rfc3339(row["last_used"].as_str().unwrap()).unwrap();
            }
            let multi = lab.json(&["ls", "quay.io/org/multi:v1"]);
            assert_eq!(
                (&multi[0]["kind"], &multi[0]["missing"], &multi[0]["shared"]),
                (&json!("index"), &json!(1), &json!(0))
            );
            let text = lab.say(&["ls"]).out;
            assert!(text.contains("KiB") && text.contains("just now") && text.lines().count() == 5, "{text}");
        },
        usual,
    );
}

#[test]
fn names_are_those_that_people_use() {
    Lab::both(
        |lab| {
            let count = |name: &str| lab.json(&["ls", name]).as_array().unwrap().len();
            for (name, images) in [("alpine", 1), ("docker.io/library/alpine", 1), ("quay.io", 3), ("docker.io", 1)] {
                assert_eq!(count(name), images, "{name}");
            }
            let shared = layer(1).to_string();
            assert_eq!(count(&shared[..20]), 2, "a layer lists the images that need it");
            let shown = lab.json(&["show", "alpine"]);
            let digest = shown[0]["digest"].as_str().unwrap();
            assert_eq!(count(&format!("docker.io/library/alpine@{digest}")), 1);
            assert_eq!(lab.json(&["show", &digest[..16]])[0]["digest"], *digest);
        },
        usual,
    );
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    Lab::both(
        |lab| {
            for (arguments, words) in [
                (&["ls", "quay.io/org/app:9"][..], "it knows the tags 2, 1"),
                (&["show", "quay.io/org/none:1"], "it knows no tag of quay.io/org/none"),
                (&["rm", "ghcr.io"], "pullthrough cache ls"),
                (&["show", "sha256:00000000"], "pullthrough cache ls"),
                (&["unpin", "alpine"], "nothing is"),
                (&["pin", "quay.io"], "name one, such as quay.io/org/app:1"),
                (&["verify", "ghcr.io/a/b"], "it knows no tag"),
            ] {
                let said = lab.say(arguments);
                assert_eq!((said.status, said.out.as_str()), (1, ""), "{arguments:?}: {}", said.err);
                assert!(said.err.contains(words), "{arguments:?}: {}", said.err);
                assert_eq!(said.err.trim_end().lines().count(), 1, "{}", said.err);
            }
            for wrong in [&["ls", "A B"][..], &["verify"], &["rm"], &["show", "sha256:zz"]] {
                assert_eq!(lab.say(wrong).status, 2, "{wrong:?}");
            }
        },
        usual,
    );
}

#[test]
fn show_tells_platforms_blobs_places_and_history() {
    Lab::both(
        |lab| {
            let shown = &lab.json(&["show", "quay.io/org/multi:v1"])[0];
            let (here, away) = (&shown["parts"][0], &shown["parts"][1]);
            assert_eq!((&here["platform"], &here["present"]), (&json!("linux/amd64"), &json!(true)));
            assert_eq!(
                (&away["platform"], &away["present"], &away["size"]),
                (&json!("linux/arm64"), &json!(false), &json!(777))
            );
            assert_eq!(
                (&here["parts"][0]["digest"], &here["parts"][0]["size"]),
                (&json!(layer(5).to_string()), &json!(100_000))
            );
            assert_eq!(here["parts"][0]["linked"], json!(["quay.io/org/multi"]));
            assert_eq!(shown["history"].as_array().unwrap().len(), 1);
            let text = lab.say(&["show", "quay.io/org/multi:v1"]).out;
            assert!(text.contains("linux/arm64") && text.contains("not here"), "{text}");
            let blob = &lab.json(&["show", &layer(1).to_string()])[0];
            assert_eq!(blob["needed_by"], json!(["quay.io/org/app:1", "quay.io/org/app:2"]));
        },
        usual,
    );
}

#[test]
fn removing_an_image_leaves_what_others_need() {
    Lab::both(
        |lab| {
            let dry = lab.say(&["rm", "quay.io/org/app:1", "--dry-run"]);
            assert!(dry.status == 0 && dry.out.contains("would remove"), "{}{}", dry.out, dry.err);
            assert_eq!(lab.names(), ALL);
            let said = lab.say(&["rm", "quay.io/org/app:1"]);
            assert_eq!(said.status, 0, "{}", said.err);
            assert!(said.out.contains("98.0 KiB and 2 blobs freed, 1 tag and 2 links"), "{}", said.out);
            assert!(said.out.contains("97.7 KiB of it stay"), "{}", said.out);
            assert!(lab.has(&layer(1)) && !lab.has(&layer(2)) && lab.has(&layer(3)));
            assert_eq!(lab.json(&["ls", "quay.io/org/app:2"])[0]["missing"], 0);
            assert_eq!(lab.say(&["rm", "quay.io/org/app:2"]).status, 0);
            assert!(!lab.has(&layer(1)) && !lab.has(&layer(3)));
            assert_eq!(lab.names(), [ALL[0], ALL[3]]);
        },
        usual,
    );
}

#[test]
fn removing_a_registry_a_repository_or_a_digest_takes_all_of_it() {
    Lab::both(
        |lab| {
            let alpine = lab.json(&["show", "alpine"])[0]["digest"].as_str().unwrap().to_owned();
            assert_eq!(lab.say(&["rm", &alpine[..20]]).status, 0);
            assert_eq!(lab.names(), ALL[1..]);
            assert_eq!(lab.say(&["rm", "quay.io/org/multi"]).status, 0);
            assert_eq!(lab.names(), ALL[1..3]);
            assert_eq!(lab.say(&["rm", &layer(2).to_string()]).status, 0, "a layer that an image needs");
            assert_eq!(lab.json(&["ls", "quay.io/org/app:1"])[0]["missing"], 1);
            assert_eq!(lab.say(&["rm", "quay.io"]).status, 0);
            assert_eq!(lab.json(&["stats"])["entries"], 0);
            assert_eq!(lab.json(&["ls"]), json!([]));
        },
        usual,
    );
}

#[test]
fn a_layer_that_another_repository_has_by_a_link_alone_stays() {
    Lab::both(
        |lab| {
            assert_eq!(lab.say(&["rm", "quay.io/org/app"]).status, 0);
            assert!(lab.has(&layer(1)) && !lab.has(&layer(2)));
        },
        |fill| {
            usual(fill);
            fill.link("ghcr.io/a/b", layer(1), Content::Blob);
        },
    );
}

#[test]
fn a_second_name_of_the_same_image_keeps_it() {
    Lab::both(
        |lab| {
            assert_eq!(lab.say(&["rm", "quay.io/org/app:same"]).status, 0);
            assert!(lab.has(&layer(1)) && lab.has(&layer(2)));
            assert_eq!(lab.names(), ALL);
        },
        |fill| {
            usual(fill);
            fill.image("quay.io/org/app", "same", &[1, 2]);
        },
    );
}

#[test]
fn what_is_pinned_is_removed_only_by_force() {
    Lab::both(
        |lab| {
            let pinned = lab.say(&["pin", "quay.io/org/app:1"]);
            assert!(
                pinned.status == 0 && pinned.out.contains("pinned quay.io/org/app:1"),
                "{}{}",
                pinned.out,
                pinned.err
            );
            let said = lab.say(&["rm", "quay.io/org/app:1"]);
            assert!(said.status == 1 && said.err.contains("--force"), "{}", said.err);
            let said = lab.say(&["rm", "quay.io/org/app"]);
            assert!(said.status == 0 && said.out.contains("1 name stay"), "{}{}", said.out, said.err);
            assert_eq!(lab.names(), [ALL[0], ALL[1], ALL[3]]);
            assert!(lab.has(&layer(1)) && lab.has(&layer(2)) && !lab.has(&layer(3)));
            assert_eq!(lab.say(&["rm", "quay.io/org/app:1", "--force"]).status, 0);
            assert!(!lab.has(&layer(1)) && !lab.has(&layer(2)));
            assert_eq!(lab.json(&["stats"])["pins"], 0);
        },
        usual,
    );
}

#[test]
fn a_pin_survives_a_restart_and_eviction_and_ends_with_unpin() {
    let mut lab = Lab::new();
    lab.fill(usual);
    assert_eq!(lab.say(&["pin", "quay.io/org/app:1"]).status, 0);
    assert_eq!(lab.say(&["pin", "quay.io/org/app:2"]).status, 0);
    assert_eq!(lab.say(&["unpin", "quay.io/org/app:2"]).status, 0);
    lab.serve();
    let rows = lab.json(&["ls", "quay.io"]);
    let pinned: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["pinned"].as_bool().unwrap()).collect();
    assert_eq!(pinned, [true, false, false]);
    lab.kill();
    {
        let store = Store::open(&config(&lab.root, 250_000)).unwrap();
        store.evict();
        store.close();
    }
    assert!(lab.has(&layer(1)) && lab.has(&layer(2)), "pinned, one of them by the other's pin too");
    assert!(![3, 4, 5].iter().all(|seed| lab.has(&layer(*seed))), "something was evicted");
    assert_eq!(lab.say(&["unpin", "quay.io/org/app:1"]).status, 0);
    assert_eq!(lab.json(&["stats"])["pinned_bytes"], 0);
}

#[test]
fn what_a_pinned_image_lists_is_pinned_when_it_comes() {
    let lab = Lab::new();
    lab.fill(usual);
    let manifest = lab.json(&["show", "quay.io/org/app:1"])[0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(lab.say(&["rm", &layer(2).to_string()]).status, 0);
    let said = lab.say(&["pin", &format!("quay.io/org/app@{manifest}")]);
    assert!(said.out.contains("1 part not here yet"), "{}{}", said.out, said.err);
    lab.fill(|fill| _ = fill.blob("quay.io/org/app", &content(2, 100_000), Content::Blob));
    assert_eq!(lab.json(&["show", &layer(2).to_string()])[0]["pinned"], true);
    fs::remove_file(lab.root.join("cache/catalog.sqlite")).unwrap();
    eventually("the pins are marked again in a catalog made anew", || {
        lab.json(&["stats"])["pinned_bytes"].as_u64().is_some_and(|bytes| bytes > 200_000)
    });
}

#[test]
fn verify_names_and_drops_what_is_damaged() {
    Lab::both(
        |lab| {
            let path = path_of(&lab.root, &layer(3));
            let mut bytes = fs::read(&path).unwrap();
            bytes[50_000] ^= 1;
            fs::write(&path, bytes).unwrap();
            let sound = lab.say(&["verify", "quay.io/org/app:1"]);
            assert!(sound.status == 0 && sound.out.contains("verified 3 blobs"), "{}{}", sound.out, sound.err);
            let said = lab.say(&["verify", "--all"]);
            assert_eq!(said.status, 1);
            assert!(said.out.contains(&layer(3).to_string()) && said.out.contains("quay.io/org/app:2"), "{}", said.out);
            assert!(
                said.err.contains("damaged blobs were found and dropped: 1") && !lab.has(&layer(3)),
                "{}",
                said.err
            );
            let again = lab.say(&["verify", "--all"]);
            assert!(again.status == 0 && again.out.contains("0 damaged"), "{}{}", again.out, again.err);
        },
        usual,
    );
}

#[test]
fn stats_count_shared_content_once() {
    Lab::both(
        |lab| {
            let stats = lab.json(&["stats"]);
            let quay = stats["registries"].as_array().unwrap().iter().find(|r| r["registry"] == "quay.io").unwrap();
            let number = |value: &Value| value.as_u64().unwrap();
            assert_eq!(number(&quay["bytes"]), number(&quay["only_here"]) + 100_000);
            assert_eq!(number(&stats["between_registries"]), 100_000);
            let only: u64 = stats["registries"].as_array().unwrap().iter().map(|r| number(&r["only_here"])).sum();
            let sum = only + number(&stats["between_registries"]) + number(&stats["unnamed"]);
            assert_eq!(sum, number(&stats["bytes"]));
            assert_eq!(stats["limit"], SIZE);
            assert_eq!(stats["evictions"].is_null(), lab.server.is_none());
            assert!(lab.say(&["stats"]).out.contains("64.0 MiB"));
        },
        |fill| {
            usual(fill);
            fill.image("docker.io/library/copy", "1", &[1]);
        },
    );
}

#[test]
fn the_control_socket_is_the_owners_and_goes_with_the_server() {
    let mut lab = Lab::new();
    lab.serve();
    let metadata = lab.socket().symlink_metadata().unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let server = lab.server.as_mut().unwrap();
    let id = rustix::process::Pid::from_child(server);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    server.wait().unwrap();
    lab.server = None;
    assert!(!lab.socket().exists());
}

#[test]
fn a_stale_socket_is_no_server_and_is_replaced() {
    let mut lab = Lab::new();
    lab.fill(usual);
    lab.serve();
    lab.kill();
    assert!(lab.socket().exists(), "a killed server leaves its socket");
    assert_eq!(lab.names(), ALL);
    lab.serve();
    assert_eq!(lab.names(), ALL);
}

#[test]
fn a_folder_too_deep_for_a_sockets_address_works() {
    let mut lab = Lab::deep(&"deep/".repeat(40));
    lab.fill(usual);
    lab.serve();
    assert!(lab.socket().as_os_str().len() > 107 && lab.socket().exists());
    assert_eq!(lab.names(), ALL);
}

#[test]
fn a_folder_that_is_held_by_somebody_silent_is_an_error() {
    let lab = Lab::new();
    let store = Store::open(&config(&lab.root, SIZE)).unwrap();
    for stale in [false, true] {
        if stale {
            drop(UnixListener::bind(lab.socket()).unwrap());
        }
        let said = lab.say(&["ls"]);
        assert!(said.status == 1 && said.err.contains("does not answer"), "{}", said.err);
    }
    store.close();
    let nowhere = Lab::new();
    let said = nowhere.say(&["ls"]);
    assert!(said.status == 1 && said.err.contains("there is no cache in"), "{}", said.err);
    assert!(!nowhere.root.join("cache").exists(), "a question makes no cache");
}

fn ask(socket: &Path, path: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn what_a_newer_program_asks_is_refused_in_words() {
    let mut lab = Lab::new();
    lab.serve();
    let cases = [
        ("/v2/cache/ls", "{}", "404", "knows no /v2/cache/ls"),
        ("/v1/cache/frobnicate", "{}", "404", "knows no command frobnicate"),
        ("/v1/cache/ls", r#"{"command":"ls","sort":"size"}"#, "400", "does not understand the order"),
        ("/v1/cache/ls", r#"{"command":"rm","name":"quay.io"}"#, "400", "another command"),
        ("/v1/cache/rm", r#"{"command":"rm"}"#, "200", "needs a name"),
        ("/v1/cache/ls", r#"{"command":"ls"}"#, "200", "\"end\""),
    ];
    for (path, body, status, words) in cases {
        let answer = ask(&lab.socket(), path, body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(words), "{path} {body}: {answer}");
    }
}

#[test]
fn who_reads_what_is_removed_keeps_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&config(folder.path(), SIZE)).unwrap();
    usual(&Fill(&store));
    let blob = store.read(&layer(2)).unwrap().unwrap();
    let inventory = pullthrough::cache::Inventory::new(store.clone());
    let order = pullthrough::cache::Order::new(pullthrough::cache::Command::Rm, Some("quay.io/org/app:1".into()));
    inventory.run(&order, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert!(store.read(&layer(2)).unwrap().is_none());
    assert_eq!(crate::store::bytes(&blob), content(2, 100_000));
}

/// The command over an in-process proxy's configuration.
fn beside(proxy: &Proxy, arguments: &[&str]) -> Said {
    let folder = proxy.blob_file(&digest(b"")).ancestors().nth(4).unwrap().to_owned();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullthrough"));
    command.env_clear().arg("cache").args(arguments).arg("--config").arg(folder.join("pullthrough.yaml"));
    let Output { status, stdout, stderr } = tokio::task::block_in_place(|| command.output().unwrap());
    Said {
        status: status.code().unwrap(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

const QUAY: &str = "quay.io:443";

async fn pulled() -> (Registry, Proxy) {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "tags: {fresh_for: 1h}").start().await;
    (registry, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_from_a_running_server_is_asked_for_upstream() {
    let (registry, proxy) = pulled().await;
    let image = registry.push_image("org/app", "1", &[content(1, 5000)]);
    let pull = async || {
        proxy.client().get(QUAY, "/v2/org/app/manifests/1").await;
        let path = format!("/v2/org/app/blobs/{}", image.layers[0]);
        assert_eq!(proxy.client().get(QUAY, &path).await.bytes().len(), 5000);
        proxy.stored(&image.layers[0]).await;
    };
    pull().await;
    registry.forget();
    pull().await;
    assert_eq!(registry.requests().len(), 0, "all of it is in the cache");
    let said = beside(&proxy, &["rm", "quay.io/org/app:1"]);
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(!proxy.blob_file(&image.layers[0]).exists() && !proxy.blob_file(&image.digest).exists());
    pull().await;
    assert_eq!((registry.count("GET */manifests/*"), registry.count("GET */blobs/*")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_is_pulled_after_the_pin_is_pinned_with_its_layers() {
    let (registry, proxy) = pulled().await;
    let arm = registry.push_image_for("arm64", "org/app", "arm", &[content(1, 5000)]);
    let index = registry.push_index("org/app", "1", &[&arm]);
    proxy.client().get(QUAY, "/v2/org/app/manifests/1").await;
    proxy.stored(&index).await;
    let said = beside(&proxy, &["pin", "quay.io/org/app:1"]);
    assert_eq!(said.status, 0, "{}", said.err);
    proxy.client().get(QUAY, &format!("/v2/org/app/manifests/{}", arm.digest)).await;
    proxy.client().get(QUAY, &format!("/v2/org/app/blobs/{}", arm.layers[0])).await;
    proxy.stored(&arm.layers[0]).await;
    eventually("the layer is listed", || {
        beside(&proxy, &["show", &arm.layers[0].to_string()]).out.contains("pinned     yes")
    });
    let said = beside(&proxy, &["rm", "quay.io", "--dry-run"]);
    assert!(said.status == 1 && said.err.contains("is pinned"), "{}{}", said.out, said.err);
}

#[test]
fn why_tells_what_a_pull_meets() {
    Lab::both(
        |lab| {
            let said = lab.why(&["quay.io/org/multi:v1"]);
            assert_eq!(said.status, 0, "{}", said.err);
            for words in [
                "quay.io of the configuration; asked with the client's own credentials; pushes are refused",
                "believed for 1m",
                "last asked just now; a pull now is answered without asking",
                "platform   linux/amd64: here",
                "platform   linux/arm64: not here",
                "readers    quay.io/org/multi: everybody",
            ] {
                assert!(said.out.contains(words), "{words}: {}", said.out);
            }
            let json: Value = serde_json::from_str(&lab.why(&["quay.io/org/app:1", "--json"]).out).unwrap();
            assert_eq!(json["cache"][0]["rights"][0]["public"], true, "{json}");
            let unknown = lab.why(&["quay.io/org/none:1"]);
            assert!(unknown.status == 1 && unknown.out.contains("believed for"), "{} {}", unknown.out, unknown.err);
            let foreign = lab.why(&["registry.example.com/a:1"]);
            assert!(foreign.status == 1 && foreign.err.contains("only tunnelled"), "{}", foreign.err);
        },
        usual,
    );
}

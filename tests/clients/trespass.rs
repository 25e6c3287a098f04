//! Who may not read gets nothing of what another pulled: no tag, manifest, configuration or layer, in no form.

use std::fmt::Debug;

use crate::client::{Form, Kind, Way, ask};
use crate::lab::{ALICE, ALICE_THERE, BOB, BOB_THERE, EXAMPLE, Image, Lab, Person, Shape};
use crate::proxy::Proxy;
use crate::secrets::nothing_crossed;

/// A private image, and where it is.
struct Treasure {
    registry: &'static str,
    name: String,
    host: &'static str,
    image: Image,
    owner: Person,
    intruder: Person,
}

/// The lab with an image of Alice's behind a token service and one behind htpasswd, and public ones of others.
struct Scene {
    lab: Lab,
    proxy: Proxy,
    treasures: [Treasure; 2],
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::guarded();
        let publish = |registry: &'static str, host, seed, owner, intruder| {
            let name = format!("{registry}/private/app:1");
            let image = lab.publish(&[&name], Shape::Index, seed, 200_000);
            Treasure { registry, name, host, image, owner, intruder }
        };
        let treasures = [
            publish("docker.io", "registry-1.docker.io", 1, ALICE, BOB),
            publish(EXAMPLE, EXAMPLE, 2, ALICE_THERE, BOB_THERE),
        ];
        let public = ["docker.io/library/app:1", "quay.io/lab/app:1"];
        let others = lab.publish(&public, Shape::Index, 3, 10_000);
        let proxy = Proxy::start(&lab);
        let anybody = Kind::Skopeo.fresh(&lab, &proxy.way());
        for name in public {
            assert_eq!(anybody.pull(name).as_ref(), Ok(&others.id), "{name}");
        }
        Self { lab, proxy, treasures }
    }

    fn way(&self) -> Way {
        Way { trust: self.proxy.ca_file(), ..self.proxy.way() } // one root is read sooner than a hundred
    }

    /// A token for pulling from `repository` of Docker Hub.
    fn token(&self, person: Option<Person>, repository: &str) -> String {
        let url = format!(
            "https://auth.docker.io/token?service=registry.docker.io&scope=repository:{repository}:pull&account=x"
        );
        let basic = person.map(basic);
        let said = ask(&self.way(), &[Form::Get], false, basic.as_deref(), &[url]);
        let token = said.text.split(r#""token":""#).nth(1).and_then(|rest| rest.split('"').next());
        format!("Bearer {}", token.unwrap_or_else(|| panic!("no token: {}", said.text)))
    }

    /// Those without rights, and the header that they come with.
    fn intruders(&self, treasure: &Treasure) -> Vec<(&'static str, Option<String>)> {
        let mut all = vec![
            ("nobody", None),
            ("Bob by password", Some(basic(treasure.intruder))),
            ("Alice's name", Some(basic(treasure.owner.mistyped()))),
            ("an invented token", Some("Bearer invented".to_owned())),
        ];
        if treasure.registry == "docker.io" {
            all.extend([
                ("nobody with a token", Some(self.token(None, "private/app"))),
                ("Bob with a token", Some(self.token(Some(BOB), "private/app"))),
                ("Bob with a token for what is public", Some(self.token(Some(BOB), "library/app"))),
            ]);
        }
        all
    }

    /// Everybody else is refused whatever they ask for and however, in its own place and through others.
    fn all_is_refused(&self, when: &str) {
        for treasure in &self.treasures {
            for (who, header) in self.intruders(treasure) {
                self.refused(&[401, 403], (when, who), header.as_deref(), &treasure.urls());
            }
            let anybody = [self.token(None, "library/app"), self.token(Some(BOB), "library/app")];
            for header in &anybody {
                let urls = treasure.urls_in("https://registry-1.docker.io/v2/library/app");
                self.refused(&[401, 403, 404], (when, "a guess in a public repository"), Some(header), &urls);
            }
            let urls = treasure.urls_in("https://quay.io/v2/lab/app");
            self.refused(&[401, 403, 404], (when, "a guess in another registry"), None, &urls);
        }
        let urls = self.treasures[0].urls_in(&format!("https://{EXAMPLE}/v2/private/app"));
        let alice_there = basic(ALICE_THERE);
        self.refused(&[404], (when, "a guess of who may read in another registry"), Some(&alice_there), &urls);
    }

    fn refused(&self, with: &[u16], who: impl Debug, header: Option<&str>, urls: &[String]) {
        for h2 in [false, true] {
            for answer in ask(&self.way(), &Form::ALL, h2, header, urls).answers {
                let asked = format!("{who:?}, {:?} by HTTP/2: {h2}, {}", answer.form, answer.url);
                assert!(with.contains(&answer.status), "{asked}: {}", answer.status);
            }
        }
    }

    /// The same questions are good ones: Alice has an answer to each.
    fn alice_reads_everything(&self) {
        let headers = [self.token(Some(ALICE), "private/app"), basic(ALICE_THERE)];
        for (treasure, header) in self.treasures.iter().zip(headers) {
            let asked =
                [false, true].map(|h2| ask(&self.way(), &Form::ALL, h2, Some(&header), &treasure.urls()).answers);
            for answer in asked.into_iter().flatten() {
                let part = matches!(answer.form, Form::Range | Form::Rest);
                assert_eq!(answer.status, if part { 206 } else { 200 }, "{answer:?}");
            }
        }
    }

    /// By the clients' own login, by tag and by digest.
    fn bobs_clients_are_refused(&self) {
        for kind in Kind::ALL {
            let mut client = kind.fresh(&self.lab, &self.proxy.way());
            for treasure in &self.treasures {
                let known = treasure.registry == "docker.io";
                let login = client.login(treasure.registry, treasure.intruder);
                assert_eq!(login.is_ok(), known || kind == Kind::Containerd, "{kind:?}: {login:?}");
                for name in [treasure.name.clone(), treasure.name.replace(":1", &format!("@{}", treasure.image.digest))]
                {
                    let said = client.pull(&name).expect_err("a private image was served to Bob").to_lowercase();
                    let refused = ["denied", "unauthorized", "authorization failed", "authentication required"];
                    assert!(refused.iter().any(|word| said.contains(word)), "{kind:?}, {name}: {said}");
                }
            }
        }
    }
}

impl Treasure {
    /// All of its content, in its own place.
    fn urls(&self) -> Vec<String> {
        let place = format!("https://{}/v2/private/app", self.host);
        let mut urls = self.urls_in(&place);
        urls.push(format!("{place}/manifests/1"));
        urls
    }

    /// The same digests in another place.
    fn urls_in(&self, place: &str) -> Vec<String> {
        let parts = self.image.parts();
        let manifests = parts.manifests.iter().map(|digest| format!("{place}/manifests/{digest}"));
        manifests.chain(parts.blobs.iter().map(|digest| format!("{place}/blobs/{digest}"))).collect()
    }
}

fn basic(person: Person) -> String {
    format!("Basic {}", person.encoded())
}

#[test]
fn what_alice_pulled_is_refused_to_bob_and_to_nobody_in_every_form_also_after_a_restart() {
    let mut scene = Scene::new();
    scene.all_is_refused("before Alice's pull");
    for kind in Kind::ALL {
        let mut client = kind.fresh(&scene.lab, &scene.proxy.way());
        for treasure in &scene.treasures {
            client.login(treasure.registry, treasure.owner).unwrap_or_else(|said| panic!("{kind:?}: {said}"));
            assert_eq!(client.pull(&treasure.name).as_ref(), Ok(&treasure.image.id), "{kind:?}");
        }
    }
    scene.alice_reads_everything();
    scene.all_is_refused("after Alice's pull");
    scene.bobs_clients_are_refused();
    scene.proxy.kill();
    scene.proxy.again();
    scene.all_is_refused("after a restart");
    let fetched = scene.lab.registries().map(|(_, registry)| registry.blob_fetches());
    scene.alice_reads_everything();
    assert_eq!(scene.lab.registries().map(|(_, registry)| registry.blob_fetches()), fetched, "it was there");
    nothing_crossed(&scene.lab);
}

//! The table: what each client gets of each registry by each name, and that no credential goes where the name takes none.

use super::clients::{Login, Puller, SHAPES};
use super::{Lab, NAMES, Name, REGISTRY};
use crate::support::{Image, Registry, basic_value};

const ALICE: Login = ("alice", "secret-a");
const DOOR: Login = ("ci", "door-secret");

/// Has every shape pull by every name, and compares with what is expected of it.
async fn table(lab: &Lab, images: &[(&str, &Image)], login: Option<Login>, expected: impl Fn(Name, &str) -> bool) {
    for name in NAMES {
        for shape in SHAPES {
            for (repository, image) in images {
                let status = Puller::new(lab, shape, name, login).await.pull(repository, image).await;
                let case = format!("{name:?} {shape:?} {repository} {login:?}: {status}");
                assert_eq!(status == 200, expected(name, repository), "{case}");
                assert!(matches!(status, 200 | 401 | 403 | 404), "{case}");
            }
        }
        if let (Some((user, password)), false) = (login, name == Name::Alone) {
            let secret = basic_value(user, password);
            assert!(!lab.was_told(secret.trim_start_matches("Basic ")), "{name:?}");
        }
        lab.registry.forget();
        lab.other.forget();
    }
}

fn layer(seed: u8) -> Vec<Vec<u8>> {
    vec![vec![seed; 2000]]
}

#[tokio::test]
async fn an_open_registry_is_open_by_every_name_and_learns_no_credentials() {
    let lab = Lab::start(Registry::start(REGISTRY), "", "").await;
    let image = lab.registry.push_image("public/app", "1", &layer(1));
    for login in [None, Some(ALICE)] {
        table(&lab, &[("public/app", &image)], login, |_, _| true).await;
    }
}

#[tokio::test]
async fn a_registry_with_tokens_gives_everybody_what_is_public_and_the_rest_where_its_name_stands_alone() {
    let lab = Lab::with_tokens("", "").await;
    let public = lab.registry.push_image("public/app", "1", &layer(1));
    let private = lab.registry.push_image("alice/app", "1", &layer(2));
    let images = [("public/app", &public), ("alice/app", &private)];
    table(&lab, &images, None, |_, repository| repository == "public/app").await;
    table(&lab, &images, Some(("bob", "secret-b")), |_, repository| repository == "public/app").await;
    // What the cache holds for her by now is no permission by any other name.
    table(&lab, &images, Some(ALICE), |name, repository| repository == "public/app" || name == Name::Alone).await;
    table(&lab, &images, None, |_, repository| repository == "public/app").await;
}

#[tokio::test]
async fn a_registry_with_passwords_gives_all_of_it_where_its_name_stands_alone() {
    let lab = Lab::start(Registry::start(REGISTRY), "", "").await;
    lab.registry.require_basic("alice", "secret-a");
    let image = lab.registry.push_image("alice/app", "1", &layer(3));
    let images = [("alice/app", &image)];
    table(&lab, &images, Some(ALICE), |name, _| name == Name::Alone).await;
    table(&lab, &images, None, |_, _| false).await;
    let wrong = Puller::new(&lab, SHAPES[0], Name::Alone, Some(("alice", "wrong")));
    assert_eq!(wrong.await.pull("alice/app", &image).await, 401);
}

#[tokio::test]
async fn held_credentials_serve_what_is_listed_by_every_name_and_nothing_else() {
    let auth = "auth: {username: robot, password: canary-r, repositories: ['team/*']}";
    let lab = Lab::with_tokens(auth, "").await;
    let team = lab.registry.push_image("team/app", "1", &layer(4));
    let public = lab.registry.push_image("public/app", "1", &layer(5));
    let private = lab.registry.push_image("alice/app", "1", &layer(6));
    let images = [("team/app", &team), ("public/app", &public), ("alice/app", &private)];
    for login in [None, Some(ALICE)] {
        table(&lab, &images, login, |_, repository| repository != "alice/app").await;
    }
}

#[tokio::test]
async fn a_mirrors_own_password_opens_every_name_for_what_is_public_and_reaches_no_registry() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("htpasswd");
    std::fs::write(&file, format!("ci:{}\n", bcrypt::hash("door-secret", 4).unwrap())).unwrap();
    let lab = Lab::with_tokens("", &format!("htpasswd: '{}'", file.display())).await;
    let public = lab.registry.push_image("public/app", "1", &layer(7));
    let private = lab.registry.push_image("alice/app", "1", &layer(8));
    let images = [("public/app", &public), ("alice/app", &private)];
    table(&lab, &images, Some(DOOR), |_, repository| repository == "public/app").await;
    table(&lab, &images, None, |_, _| false).await;
    for name in [Name::Alone, Name::Prefix] {
        assert_eq!(Puller::new(&lab, SHAPES[0], name, Some(ALICE)).await.pull("public/app", &public).await, 401);
    }
    assert!(!lab.was_told(basic_value(ALICE.0, ALICE.1).trim_start_matches("Basic ")));
    // Known, and refused by the registry: that is no question for the password again.
    let answer = lab.ask(super::ALONE, "GET", "/v2/alice/app/manifests/1", Some(&basic_value(DOOR.0, DOOR.1))).await;
    assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (403, ""));
}

#[tokio::test]
async fn a_header_of_a_registrys_own_with_a_token_goes_nowhere_either() {
    let lab = Lab::with_tokens("push: allow", "").await;
    lab.registry.push_image("public/app", "1", &layer(9));
    let canaries = ["private-token", "x-jfrog-art-api", "cookie", "x-registry-auth", "x-api-key"];
    let headers: Vec<(&str, &str)> = canaries.iter().map(|name| (*name, "canary-x")).collect();
    for name in NAMES.into_iter().filter(|name| *name != Name::Alone) {
        let mut session = lab.session(name.host()).await;
        for (method, rest) in [("GET", "manifests/1"), ("GET", "tags/list"), ("POST", "blobs/uploads/")] {
            session.ask(method, &name.path("public/app", rest), &headers).await;
        }
        assert!(!lab.was_told("canary-x"), "{name:?}");
    }
}

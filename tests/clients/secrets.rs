//! Planted secrets: they reach nobody but their own registry, and the proxy writes them nowhere and says them to nobody.

use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::json;

use crate::client::{Curl, Form, Kind, Way, ask};
use crate::lab::{ALICE, ALICE_THERE, BOB, BOB_THERE, EXAMPLE, Lab, Person, Shape, Site, eventually};
use crate::proxy::Proxy;

/// A person's password, as it is and as it travels.
fn secrets_of(person: Person) -> Vec<String> {
    let bare = |text: String| text.trim_end_matches('=').to_owned();
    vec![person.password.to_owned(), bare(person.encoded()), bare(BASE64_STANDARD.encode(person.password))]
}

/// Panics where a site was told what is another's: a password, its base64, a bearer, a refresh token.
pub(crate) fn nothing_crossed(lab: &Lab) {
    let tokens = lab.issued_tokens();
    assert!(!tokens.is_empty(), "nobody had a token");
    let hub: Vec<String> = [ALICE, BOB].into_iter().flat_map(secrets_of).collect();
    let there: Vec<String> = [ALICE_THERE, BOB_THERE].into_iter().flat_map(secrets_of).collect();
    let cdns = [&lab.docker.cdn, &lab.example.cdn].map(|cdn| cdn.as_ref().unwrap());
    for site in [cdns[0], cdns[1], &lab.quay.site] {
        assert!(!site.told().is_empty(), "{} was not asked", site.name());
        assert!(!site.told().contains("authorization:"), "{} was told credentials: {}", site.name(), site.told());
        told_none(site, hub.iter().chain(&there).chain(&tokens));
    }
    told_none(&lab.docker.site, there.iter().chain(&secrets_of(ALICE)));
    told_none(&lab.token, &there);
    told_none(&lab.example.site, hub.iter().chain(&tokens));
    for (site, own) in [(&lab.token, ALICE.encoded()), (&lab.example.site, ALICE_THERE.encoded())] {
        assert!(site.told().contains(&own), "{} is not told who asks", site.name());
    }
}

fn told_none<'a>(site: &Site, secrets: impl IntoIterator<Item = &'a String>) {
    let told = site.told();
    for secret in secrets {
        assert!(!told.contains(secret), "{} was told {secret}", site.name());
    }
}

/// Every file below `folder`, the configuration and the keys included.
fn read_all(folder: &Path, places: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            read_all(&path, places);
        } else if path.is_file() {
            places.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

#[test]
fn no_secret_of_a_real_client_is_logged_written_down_or_told_to_anybody() {
    let lab = Lab::guarded();
    let places = [("docker.io", ALICE), (EXAMPLE, ALICE_THERE)].map(|(registry, alice)| {
        let name = format!("{registry}/private/app:1");
        let image = lab.publish(&[&name], Shape::Index, 1, 1_000_000);
        (registry, alice, name, image)
    });
    lab.publish(&["quay.io/lab/app:1"], Shape::Single, 2, 1_000);
    let mut proxy = Proxy::at_level("trace", &lab, |config| config["clients"] = json!({ "audit": "audit.log" }));
    let way = Way { trust: proxy.ca_file(), ..proxy.way() };
    let home = lab.folder("curl");
    let mut told = Vec::new();

    // A layer that is half there when the proxy dies.
    let cdn = lab.example.cdn.as_ref().unwrap();
    cdn.pace(50_000);
    let large = format!("https://{EXAMPLE}/v2/private/app/blobs/{}", places[1].3.large);
    let half = Curl::as_person(&home, &way, ALICE_THERE, &large);
    eventually("some of it has come", Duration::from_secs(30), || half.received() > 100_000);
    eventually("some of it is staged", Duration::from_secs(30), || staged(&proxy) > 0);
    proxy.kill();
    drop(half);
    assert!(staged(&proxy) > 0, "the fill is lost");
    read_all(&proxy.dir.join("cache/fills"), &mut told);
    cdn.pace(0);
    proxy.again();

    for kind in Kind::ALL {
        let mut client = kind.fresh(&lab, &proxy.way());
        for (registry, alice, name, image) in &places {
            client.login(registry, *alice).unwrap_or_else(|said| panic!("{kind:?}: {said}"));
            assert_eq!(client.pull(name).as_ref(), Ok(&image.id), "{kind:?}");
            client.pull(&name.replace(":1", ":none")).expect_err("nobody published it");
        }
        client.pull("quay.io/lab/app:1").unwrap();
    }
    let bearer = lab.issued_tokens().pop().unwrap();
    let refresh = lab.issued_tokens().into_iter().find(|token| token.starts_with("refresh-")).unwrap();
    let urls = [
        "https://registry-1.docker.io/v2/private/app/manifests/none".to_owned(),
        format!("https://{EXAMPLE}/v2/private/app/manifests/none"),
        format!("https://{EXAMPLE}/v2/private/app/blobs/sha256:{}", "0".repeat(64)),
        "https://registry-1.docker.io/v2/private/app/blobs/sha256:0".to_owned(),
    ];
    let in_a_query =
        format!("https://auth.docker.io/token?service=registry.docker.io&refresh_token={refresh}&password={bearer}");
    let headers = [ALICE, ALICE_THERE, ALICE.mistyped()].map(|person| format!("Basic {}", person.encoded()));
    let headers: Vec<String> =
        headers.into_iter().chain([format!("Bearer {bearer}"), format!("Bearer {refresh}")]).collect();
    let said = ask(&way, &Form::ALL, true, Some(&headers[2]), &[in_a_query]);
    assert!(said.answers.iter().all(|answer| answer.status >= 400), "{:?}", said.answers);
    told.push(("the token service's refusal".to_owned(), said.text.into_bytes()));
    nothing_crossed(&lab); // from here on curl itself brings credentials to the wrong places
    for silent in [false, true] {
        if silent {
            lab.silence_all();
        }
        for (index, header) in headers.iter().enumerate() {
            let said = ask(&way, &[Form::Get], index % 2 == 1, Some(header), &urls);
            assert!(said.answers.iter().all(|answer| answer.status >= 400), "{:?}", said.answers);
            told.push((format!("an answer, silent: {silent}"), said.text.into_bytes()));
        }
    }
    told.push(("metrics".to_owned(), proxy.metrics().into_bytes()));
    proxy.terminate();
    assert!(proxy.ended(Duration::from_secs(30)).is_some(), "the proxy does not end");
    read_all(&proxy.dir, &mut told);
    for part in ["/log", "audit.log", "catalog.sqlite", "/fills/"] {
        assert!(told.iter().any(|(name, bytes)| name.contains(part) && !bytes.is_empty()), "{part} was not looked at");
    }
    assert!(proxy.log().contains("DEBUG"), "the log is not at its lowest level");
    let mut secrets: Vec<String> = [ALICE, ALICE_THERE].into_iter().flat_map(secrets_of).collect();
    secrets.extend(lab.issued_tokens());
    for (name, bytes) in &told {
        for secret in &secrets {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{name} holds {secret}");
        }
    }
}

/// How many files of fills there are.
fn staged(proxy: &Proxy) -> usize {
    fs::read_dir(proxy.dir.join("cache/fills")).map_or(0, Iterator::count)
}

//! Pushes through a mirror: where their next step goes, whatever form the registry gave its URL.

use pullthrough::oci::{Algorithm, Digest};
use pullthrough::wire::Body;

use super::{ALONE, Lab, NAMES, Name, REGISTRY};
use crate::support::client::{Session, Whole, whole};
use crate::support::{Act, MANIFEST, Registry, basic_value};

async fn send(session: &mut Session, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Whole {
    let body = Body::full(bytes::Bytes::copy_from_slice(body));
    whole(session.send(method, path, headers, body).await.unwrap()).await
}

/// The path of a `Location` at the mirror, which has to be its own.
fn here(name: Name, answer: &Whole) -> String {
    let location = answer.header("location");
    let path = location.strip_prefix(&format!("http://{}", name.host()));
    path.unwrap_or_else(|| panic!("{name:?}: {} {location}", answer.status)).to_owned()
}

#[tokio::test]
async fn an_image_is_pushed_by_every_name_that_stands_for_one_registry() {
    let lab = Lab::start(Registry::start(REGISTRY), "push: allow", "").await;
    for (seed, name) in NAMES.into_iter().filter(|name| *name != Name::Group).enumerate() {
        let mut session = lab.session(name.host()).await;
        let bytes = vec![seed as u8; 3000];
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        let written = name.written("team/app");
        let begun = send(&mut session, "POST", &name.path("team/app", "blobs/uploads/"), &[], b"").await;
        assert_eq!(begun.status, 202, "{name:?}");
        let upload = here(name, &begun);
        assert!(upload.starts_with(&format!("/v2/{written}/blobs/uploads/upload-")), "{upload}");
        let part = [("content-type", "application/octet-stream"), ("content-range", "0-2999")];
        let patched = send(&mut session, "PATCH", &upload, &part, &bytes).await;
        assert_eq!((patched.status.as_u16(), patched.header("range")), (202, "0-2999"), "{name:?}");
        let upload = here(name, &patched);
        let joint = if upload.contains('?') { '&' } else { '?' };
        let done = send(&mut session, "PUT", &format!("{upload}{joint}digest={digest}"), &[], b"").await;
        assert_eq!(done.status, 201, "{name:?}");
        assert!(here(name, &done).starts_with(&format!("/v2/{written}/blobs/{digest}")));
        let manifest = format!("{{\"schemaVersion\":2,\"seed\":{seed}}}");
        let path = name.path("team/app", &format!("manifests/v{seed}"));
        let put = send(&mut session, "PUT", &path, &[("content-type", MANIFEST)], manifest.as_bytes()).await;
        assert_eq!(put.status, 201, "{name:?}");
        assert!(here(name, &put).starts_with(&format!("/v2/{written}/manifests/sha256:")));
        assert_eq!(lab.registry.blob("team/app", &digest).map(|blob| blob.len()), Some(3000), "{name:?}");
    }
}

#[tokio::test]
async fn an_upload_goes_on_at_the_registrys_very_url() {
    let lab = Lab::start(Registry::start(REGISTRY), "push: allow", "").await;
    for (location, path) in [
        ("/v2/team/app/blobs/uploads/u1?_state=AbC-_%3D%3D", "/v2/team/app/blobs/uploads/u1"),
        (
            "https://registry.example.com/v2/team/app/blobs/uploads/u2?_state=AbC-_%3D%3D",
            "/v2/team/app/blobs/uploads/u2",
        ),
        (
            "http://registry.example.com:5000/v2/team/app/blobs/uploads/u3?_state=AbC-_%3D%3D",
            "/v2/team/app/blobs/uploads/u3",
        ),
        ("u4?_state=AbC-_%3D%3D", "/v2/team/app/blobs/uploads/u4"),
        (
            "/artifacts-uploads/namespaces/p/uploads/AF:1?_state=AbC-_%3D%3D",
            "/artifacts-uploads/namespaces/p/uploads/AF:1",
        ),
        ("/v2/team/app/blobs/upload/0-1-2?_state=AbC-_%3D%3D", "/v2/team/app/blobs/upload/0-1-2"),
    ] {
        let headers = vec![("location".into(), location.into()), ("docker-upload-uuid".into(), "uuid-1".into())];
        let accepted = Act::Answer { status: 202, headers, body: String::new() };
        let begin = lab.registry.script("POST *", accepted);
        let going_on = ["PATCH *", "PUT *"].map(|pattern| {
            lab.registry.script(pattern, Act::Answer { status: 201, headers: Vec::new(), body: String::new() })
        });
        for name in NAMES.into_iter().filter(|name| *name != Name::Group) {
            let mut session = lab.session(name.host()).await;
            let begun = send(&mut session, "POST", &name.path("team/app", "blobs/uploads/"), &[], b"").await;
            assert_eq!(begun.header("docker-upload-uuid"), "uuid-1");
            let upload = here(name, &begun);
            lab.registry.forget();
            let digest = Digest::of(Algorithm::Sha256, b"x");
            send(&mut session, "PATCH", &upload, &[("content-type", "application/octet-stream")], b"x").await;
            send(&mut session, "PUT", &format!("{upload}&digest={digest}"), &[], b"").await;
            let seen: Vec<_> =
                lab.registry.requests().into_iter().map(|seen| (seen.method, seen.path, seen.query)).collect();
            let expected = [
                ("PATCH".to_owned(), path.to_owned(), "_state=AbC-_%3D%3D".to_owned()),
                ("PUT".to_owned(), path.to_owned(), format!("_state=AbC-_%3D%3D&digest={digest}")),
            ];
            assert_eq!(seen, expected, "{name:?} {location}");
        }
        lab.registry.unscript(begin);
        going_on.into_iter().for_each(|line| lab.registry.unscript(line));
    }
}

#[tokio::test]
async fn an_upload_to_another_host_is_told_as_it_is() {
    let lab = Lab::start(Registry::start(REGISTRY), "push: allow", "").await;
    let location = "https://storage.example.net/upload?X-Amz-Signature=1";
    let headers = vec![("location".into(), location.into())];
    lab.registry.script("POST *", Act::Answer { status: 202, headers, body: String::new() });
    let mut session = lab.session(ALONE).await;
    let begun = send(&mut session, "POST", "/v2/team/app/blobs/uploads/", &[], b"").await;
    assert_eq!((begun.status.as_u16(), begun.header("location")), (202, location));
}

#[tokio::test]
async fn no_client_makes_up_the_path_of_an_upload() {
    let lab = Lab::start(Registry::start(REGISTRY), "push: allow", "").await;
    // base64url of 16 zero bytes and `/v2/other/app/manifests/latest`.
    let name = "pullthrough-1.AAAAAAAAAAAAAAAAAAAAAC92Mi9vdGhlci9hcHAvbWFuaWZlc3RzL2xhdGVzdA";
    for method in ["PUT", "PATCH", "DELETE", "GET"] {
        let mut session = lab.session(ALONE).await;
        let path = format!("/v2/team/app/blobs/uploads/{name}?digest=x");
        let answer = send(&mut session, method, &path, &[], b"").await;
        assert_eq!(answer.status, 404, "{method}");
    }
    assert_eq!(lab.registry.requests().len(), 0);
}

#[tokio::test]
async fn a_push_asks_for_a_token_of_the_mirrors_and_brings_the_registrys() {
    let lab = Lab::with_tokens("push: allow", "").await;
    let mut session = lab.session(ALONE).await;
    let refused = send(&mut session, "POST", "/v2/alice/app/blobs/uploads/", &[], b"").await;
    assert_eq!(refused.status, 401);
    let challenge = refused.header("www-authenticate");
    let expected = "scope=\"repository:alice/app:pull,push\"";
    assert!(challenge.starts_with("Bearer realm=\"http://alone.test/") && challenge.ends_with(expected), "{challenge}");
    let alice = basic_value("alice", "secret-a");
    let bearer = lab.token(ALONE, "repository:alice/app:pull,push", Some(&alice)).await.unwrap();
    let begun = send(&mut session, "POST", "/v2/alice/app/blobs/uploads/", &[("authorization", &bearer)], b"").await;
    assert_eq!(begun.status, 202);
    let digest = Digest::of(Algorithm::Sha256, b"layer");
    let path = format!("{}?digest={digest}", here(Name::Alone, &begun));
    let octets = [("authorization", &*bearer), ("content-type", "application/octet-stream")];
    assert_eq!(send(&mut session, "PUT", &path, &octets, b"layer").await.status, 201);
    // Without credentials, a token for nobody: it opens nothing here.
    let nobody = lab.token(ALONE, "repository:alice/app:pull,push", None).await.unwrap();
    let headers = [("authorization", &*nobody)];
    let refused = send(&mut session, "POST", "/v2/alice/app/blobs/uploads/", &headers, b"").await;
    assert_eq!(refused.status, 401);
}

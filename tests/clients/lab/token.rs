//! The lab's token service: what auth.docker.io is to Docker Hub, with tokens that distribution believes.
//!
//! It is the lab's own, since a token server such as docker_auth cannot be fetched on every machine that runs these
//! tests. It answers as that one does: a known person without rights has a token that opens nothing, an unknown one 401.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use super::people::{Accounts, Credential, Rights};
use super::site::{Body, plain};

/// Who issues; distribution's configuration names the same.
pub(crate) const ISSUER: &str = "lab token service";
/// For whom; the name that Docker Hub's challenge has.
pub(crate) const SERVICE: &str = "registry.docker.io";
/// Where anybody may pull, except for names that begin so.
const PRIVATE: &str = "private/";

/// Signs tokens by ES256 with a certificate that distribution trusts as a root.
pub(crate) struct TokenService {
    key: EcdsaKeyPair,
    certificate: Vec<u8>,
    accounts: Arc<Accounts>,
}

impl TokenService {
    /// Makes a key; the certificate for distribution's `rootcertbundle` is written into `dir`.
    pub(super) fn new(dir: &Path, accounts: Arc<Accounts>) -> (Self, PathBuf) {
        let pair = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&pair).unwrap();
        let file = dir.join("token.crt");
        fs::write(&file, certificate.pem()).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.serialized_der()).unwrap();
        (Self { key, certificate: certificate.der().to_vec(), accounts }, file)
    }

    /// Answers `GET /token?service=...&scope=repository:NAME:ACTIONS` with Basic or nothing, and the OAuth2 form with
    /// a password or a refresh token. Who brings a credential that is nobody's gets 401.
    pub(crate) fn answer(&self, head: &Parts, form: &[u8]) -> Response<Body> {
        if head.uri.path() != "/token" {
            return plain(StatusCode::NOT_FOUND, "not found");
        }
        let (asked, credential) = match head.method {
            Method::GET => (fields(head.uri.query().unwrap_or_default()), head.headers.get(AUTHORIZATION).map(basic)),
            Method::POST => {
                let asked = fields(&String::from_utf8_lossy(form));
                let credential = of_form(&asked);
                (asked, Some(credential))
            }
            _ => return plain(StatusCode::METHOD_NOT_ALLOWED, "tokens are to be had by GET and POST"),
        };
        let rights = match &credential {
            None => None,
            Some(credential) => match self.accounts.verify(credential) {
                None => return as_json(plain(StatusCode::UNAUTHORIZED, r#"{"errors": [{"code": "UNAUTHORIZED"}]}"#)),
                rights => rights,
            },
        };
        let scopes = asked.iter().filter(|(name, _)| name == "scope").flat_map(|(_, value)| value.split(' '));
        let scopes = scopes.filter_map(|scope| scope.strip_prefix("repository:"));
        let access: Vec<_> = scopes.filter_map(|scope| grant(scope, rights.as_ref())).collect();
        let token = self.sign(&access);
        let mut body = json!({ "token": token, "access_token": token, "expires_in": 300 });
        if let Some(rights) = rights {
            self.accounts.note(&token);
            let wants = [("offline_token", "true"), ("access_type", "offline")];
            if head.method == Method::POST || wants.iter().any(|want| value(&asked, want.0) == Some(want.1)) {
                self.accounts.note(&rights.refresh);
                body["refresh_token"] = rights.refresh.into();
            }
        }
        as_json(plain(StatusCode::OK, body.to_string()))
    }

    fn sign(&self, access: &[Value]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [BASE64_STANDARD.encode(&self.certificate)] });
        let claims = json!({
            "iss": ISSUER, "sub": "", "aud": SERVICE, "exp": now + 300, "nbf": now - 60, "iat": now,
            "jti": now.to_string(), "access": access,
        });
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

fn as_json(mut answer: Response<Body>) -> Response<Body> {
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn grant(scope: &str, rights: Option<&Rights>) -> Option<Value> {
    let (name, asked) = scope.rsplit_once(':')?;
    let reads = !name.starts_with(PRIVATE) || rights.is_some_and(|rights| rights.reads);
    let writes = rights.is_some_and(|rights| rights.writes);
    let actions: Vec<_> = asked.split(',').filter(|action| writes || (reads && *action == "pull")).collect();
    Some(json!({ "type": "repository", "name": name, "actions": actions }))
}

/// What is no Basic credential is nobody's.
fn basic(value: &HeaderValue) -> Credential {
    let pair = value.to_str().ok().and_then(|text| text.strip_prefix("Basic "));
    let pair = pair.and_then(|text| BASE64_STANDARD.decode(text).ok()).unwrap_or_default();
    Credential::Pair(String::from_utf8_lossy(&pair).into_owned())
}

/// RFC 6749, sections 4.3.2 and 6.
fn of_form(fields: &[(String, String)]) -> Credential {
    let value = |name| value(fields, name).unwrap_or_default();
    match value("grant_type") {
        "refresh_token" => Credential::Refresh(value("refresh_token").to_owned()),
        _ => Credential::Pair(format!("{}:{}", value("username"), value("password"))),
    }
}

fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|field| field.0 == name).map(|field| field.1.as_str())
}

/// The fields of a query or a form.
fn fields(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let plain = text.replace('+', " ");
    let mut parts = plain.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.extend(code);
        bytes.extend_from_slice(part.get(2..).unwrap_or_default().as_bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

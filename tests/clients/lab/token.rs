//! The lab's token service: what auth.docker.io is to Docker Hub, with tokens that distribution believes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use super::site::{Body, plain};

/// Who issues; distribution's configuration names the same.
pub(crate) const ISSUER: &str = "lab token service";
/// For whom; the name that Docker Hub's challenge has.
pub(crate) const SERVICE: &str = "registry.docker.io";
/// User and password of the one who may push, and pull what is private.
pub(crate) const OWNER: &str = "lab:lab";
/// The same in base64, as clients' configuration files have it.
pub(crate) const OWNER_ENCODED: &str = "bGFiOmxhYg==";
/// Where anybody may pull, except for names that begin so.
const PRIVATE: &str = "private/";

/// Signs tokens by ES256 with a certificate that distribution trusts as a root.
pub(crate) struct TokenService {
    key: EcdsaKeyPair,
    certificate: Vec<u8>,
}

impl TokenService {
    /// Makes a key; the certificate for distribution's `rootcertbundle` is written into `dir`.
    pub(crate) fn new(dir: &Path) -> (Self, PathBuf) {
        let pair = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&pair).unwrap();
        let file = dir.join("token.crt");
        fs::write(&file, certificate.pem()).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.serialized_der()).unwrap();
        (Self { key, certificate: certificate.der().to_vec() }, file)
    }

    /// Answers `GET /token?service=...&scope=repository:NAME:ACTIONS`.
    pub(crate) fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        if request.uri().path() != "/token" {
            return plain(StatusCode::NOT_FOUND, "not found");
        }
        if request.method() != hyper::Method::GET {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "tokens are to be had by GET");
        }
        let owner = request.headers().get(AUTHORIZATION).is_some_and(is_owner);
        let query = request.uri().query().unwrap_or_default().replace("%3A", ":").replace("%2F", "/");
        let query = query.replace("%2C", ",");
        let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope=repository:"));
        let access: Vec<_> = scopes.filter_map(|scope| grant(scope, owner)).collect();
        let token = self.sign(&access);
        let body = json!({ "token": token, "access_token": token, "expires_in": 300 }).to_string();
        let mut answer = plain(StatusCode::OK, body);
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer
    }

    fn sign(&self, access: &[serde_json::Value]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [base64(&self.certificate, STANDARD, true)] });
        let claims = json!({
            "iss": ISSUER, "sub": "", "aud": SERVICE, "exp": now + 300, "nbf": now - 60, "iat": now,
            "jti": now.to_string(), "access": access,
        });
        let part = |value: &serde_json::Value| base64(value.to_string().as_bytes(), FOR_URLS, false);
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", base64(signature.as_ref(), FOR_URLS, false))
    }
}

fn grant(scope: &str, owner: bool) -> Option<serde_json::Value> {
    let (name, asked) = scope.rsplit_once(':')?;
    let public = |action: &str| action == "pull" && !name.starts_with(PRIVATE);
    let actions: Vec<_> = asked.split(',').filter(|action| owner || public(action)).collect();
    Some(json!({ "type": "repository", "name": name, "actions": actions }))
}

fn is_owner(value: &HeaderValue) -> bool {
    value.as_bytes() == format!("Basic {}", base64(OWNER.as_bytes(), STANDARD, true)).as_bytes()
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const FOR_URLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// RFC 4648: sections 4 (padded) and 5 (as JWT has it).
fn base64(bytes: &[u8], alphabet: &[u8; 64], padded: bool) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            match (place <= group.len(), padded) {
                (true, _) => text.push(char::from(alphabet[(word >> (18 - 6 * place) & 63) as usize])),
                (false, true) => text.push('='),
                (false, false) => {}
            }
        }
    }
    text
}

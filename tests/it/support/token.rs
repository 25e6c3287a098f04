//! A token service's memory: who may read what, and which tokens say so. Clones are one service.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, header};

use super::script::star_matches;

/// Users, what is public, and the tokens handed out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    public: Vec<String>,
    users: HashMap<String, (String, Vec<String>)>,
    issued: HashMap<String, Vec<String>>,
    next: u64,
}

/// What a token, or its absence, allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allowed,
    NoToken,
    InsufficientScope,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Everybody may pull repositories that match.
    pub(crate) fn public(self, repositories: &str) -> Self {
        self.0.lock().unwrap().public.push(repositories.to_owned());
        self
    }

    /// This user may pull from and push to repositories that match.
    pub(crate) fn user(self, name: &str, password: &str, repositories: &[&str]) -> Self {
        let repositories = repositories.iter().map(|text| (*text).to_owned()).collect();
        self.0.lock().unwrap().users.insert(name.to_owned(), (password.to_owned(), repositories));
        self
    }

    /// Forgets every token, as if all had expired.
    pub(crate) fn revoke_all(&self) {
        self.0.lock().unwrap().issued.clear();
    }

    /// Answers a token request: the body, or `None` for a wrong password.
    pub(super) fn issue(&self, headers: &HeaderMap, query: &str) -> Option<String> {
        let mut state = self.0.lock().unwrap();
        let mut readable = state.public.clone();
        if let Some((name, password)) = basic(headers) {
            let (known, repositories) = state.users.get(&name)?;
            if *known != password {
                return None;
            }
            readable.extend(repositories.iter().cloned());
        }
        let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
        let asked: Vec<String> = scopes.flat_map(|scope| scopes_of(&decoded(scope))).collect();
        let granted = asked.into_iter().filter(|name| readable.iter().any(|pattern| star_matches(pattern, name)));
        let granted = granted.collect();
        state.next += 1;
        let token = format!("token-{}", state.next);
        state.issued.insert(token.clone(), granted);
        Some(serde_json::json!({"token": token, "access_token": token, "expires_in": 300}).to_string())
    }

    /// Judges a request for a repository (none: for `/v2/`).
    pub(super) fn judge(&self, headers: &HeaderMap, repository: Option<&str>) -> Verdict {
        let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(token) = header.and_then(|value| value.strip_prefix("Bearer ")) else { return Verdict::NoToken };
        match (self.0.lock().unwrap().issued.get(token), repository) {
            (None, _) => Verdict::NoToken,
            (Some(_), None) => Verdict::Allowed,
            (Some(granted), Some(name)) if granted.iter().any(|granted| granted == name) => Verdict::Allowed,
            (Some(_), Some(_)) => Verdict::InsufficientScope,
        }
    }
}

/// The repositories of one `scope` parameter, which may hold several scopes.
fn scopes_of(text: &str) -> Vec<String> {
    text.split(' ')
        .filter_map(|scope| scope.strip_prefix("repository:")?.rsplit_once(':'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// User and password of a `Basic` header.
pub(super) fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(base64_decoded(text)).ok()?;
    text.split_once(':').map(|(name, password)| (name.to_owned(), password.to_owned()))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The value of a `Basic` header.
pub(crate) fn basic_value(name: &str, password: &str) -> String {
    let mut text = String::from("Basic ");
    for chunk in format!("{name}:{password}").as_bytes().chunks(3) {
        let bits = chunk.iter().enumerate().fold(0_u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

fn base64_decoded(text: &str) -> Vec<u8> {
    let digits: Vec<u32> =
        text.bytes().filter_map(|b| ALPHABET.iter().position(|a| *a == b)).map(|at| at as u32).collect();
    let groups = digits.chunks(4).map(|group| {
        let bits = group.iter().enumerate().fold(0, |bits, (at, digit)| bits | digit << (18 - 6 * at));
        (bits, group.len() - 1)
    });
    groups.flat_map(|(bits, length)| bits.to_be_bytes()[1..=length].to_vec()).collect()
}

#[test]
fn basic_credentials_read_as_they_were_written() {
    for (name, password) in [("a", "b"), ("alice", "secret"), ("x", "yz"), ("u", "")] {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, basic_value(name, password).parse().unwrap());
        assert_eq!(basic(&headers), Some((name.to_owned(), password.to_owned())));
    }
    assert_eq!(basic_value("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
}
